"""Finds the programs that the tiers control plane, chart and e2e use: etcd, kube-apiserver, helm, promtool, ...

`find_tool` only looks; `python -m tests.tools build` (`make tools`) compiles what is missing from the pinned modules under
tests/go into a cache: about 10 minutes on two cores, then nothing. A test never compiles: it would run into its time-out.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = ROOT / "tests" / "go"
CLUSTER = ROOT.parent / "shared" / "cluster" / "cluster"  # a tool that builds the same programs, where there is one

# tool -> (module below tests/go, package)
PACKAGES = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
    "promtool": ("prometheus", "github.com/prometheus/prometheus/cmd/promtool"),
    "promql": ("prometheus", "./promql"),
    "jobset": ("jobset", "sigs.k8s.io/jobset"),
}
PEERS = ("jobset",)  # of benchmarks, which go on without them: built only by name, `python -m tests.tools build jobset`
# Builds promtool without the clients of all the clouds in which Prometheus can look for what to scrape.
TAGS = "remove_all_sd"


def find_tool(name: str) -> Path:
    """Where the program `name` lies; skips the test, with the way to get it, if it is nowhere."""
    found = look_for(name)
    if not found:
        remedy = "`make tools` builds it, given Go" if name in PACKAGES else "it is a package of every distribution"
        pytest.skip(f"{name} is not on this machine: {remedy}")
    return found


def look_for(name: str) -> Path | None:
    """$KUBEBUILDER_ASSETS, the cluster tool's programs, the cache of `make tools`, $PATH: the first that has `name`."""
    folders = [*map(Path, filter(None, [os.environ.get("KUBEBUILDER_ASSETS")])), *cluster_folder()]
    if name in PACKAGES:
        folders.append(cache_folder(PACKAGES[name][0]))
    on_path = shutil.which(name)
    candidates = [folder / name for folder in folders] + ([Path(on_path)] if on_path else [])
    return next((c for c in candidates if os.access(c, os.X_OK)), None)


@cache
def cluster_folder() -> tuple[Path, ...]:
    """The folder of the cluster tool's programs; empty where there is no such tool."""
    if not CLUSTER.exists():
        return ()
    out = subprocess.run([CLUSTER, "bin"], check=True, capture_output=True, text=True).stdout
    return (Path(out.strip()),)


def cache_folder(module: str) -> Path:
    """Where the programs of one pinned module are kept: another pin, or another source of ours, is another folder."""
    sources = [MODULES / module / "go.mod", *sorted((MODULES / module).rglob("*.go"))]
    pins = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "scalejob-tools" / f"{module}-{pins}"


def linker_flags(module: str) -> str:
    """Kubernetes' own build script links the version in, and an API server without one refuses to serve some groups."""
    release = re.search(r"k8s.io/kubernetes v(\d+)\.(\d+)\.\d+", (MODULES / module / "go.mod").read_text())
    if not release:
        return "-s -w"
    values = {
        "gitVersion": release[0].split()[1],
        "gitMajor": release[1],
        "gitMinor": release[2],
        "gitTreeState": "clean",
    }
    return "-s -w " + " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())


def build_tool(name: str) -> Path:
    """Compile one program into the cache; it appears there whole or not at all."""
    module, package = PACKAGES[name]
    target = cache_folder(module) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{name}.{os.getpid()}")
    subprocess.run(
        ["go", "build", "-trimpath", "-tags", TAGS, "-ldflags", linker_flags(module), "-o", partial, package],
        cwd=MODULES / module,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
        check=True,
    )
    return partial.replace(target)


def module_folder(module: str, path: str) -> Path | None:
    """Where Go keeps the files of the Go module `path` that `module` pins; None without Go, or before the first build."""
    if not shutil.which("go"):
        return None
    command = ["go", "list", "-m", "-f", "{{.Dir}}", path]
    done = subprocess.run(command, cwd=MODULES / module, capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 and done.stdout.strip() else None


def main() -> int:
    """Print where each tool lies; with `build`, compile those that are missing. No Go is no error: the tiers will say so."""
    for name in PACKAGES:
        found = look_for(name)
        is_wanted = "build" in sys.argv and (name not in PEERS or name in sys.argv)
        if not found and is_wanted and shutil.which("go"):
            print(f"{name}: compiling", flush=True)
            found = build_tool(name)
        print(f"{name}: {found or 'missing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
