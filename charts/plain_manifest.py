"""`python -m charts.plain_manifest [--check]`: manifests/operator.yaml, which is the chart rendered for those who have no Helm.

It is committed, so only who changes the chart needs Helm here: without it this says so and leaves the file alone.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from charts.keep import keep
from tests.tools import look_for

CHART = Path(__file__).parent / "scalejob"
TARGET = Path(__file__).parents[1] / "manifests" / "operator.yaml"
NAMESPACE = "scalejob-system"
NOTE = "# Rendered from charts/scalejob by `make generate`: do not edit. Apply manifests/crd.yaml with it.\n"
KUBE_VERSION = "1.34.0"  # what the chart is rendered for; none of its templates asks

HELM_ONLY_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")


def render(helm: Path) -> str:
    """The text of manifests/operator.yaml."""
    release = ["template", "scalejob", CHART, "--namespace", NAMESPACE]
    options = ["--set", "crds.install=false", "--kube-version", KUBE_VERSION]
    out = subprocess.run([helm, *release, *options], check=True, capture_output=True, text=True).stdout
    objects = [namespace(), *(without_helm(o) for o in yaml.safe_load_all(out) if o)]
    return NOTE + yaml.safe_dump_all(objects, sort_keys=False, width=110)


def namespace() -> dict[str, Any]:
    """The operator's namespace; Helm makes its own."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def without_helm(value: Any) -> Any:
    """`value` without the labels that say that Helm owns it: with them `kubectl apply` would bind it to a release."""
    if isinstance(value, list):
        return [without_helm(v) for v in value]
    if isinstance(value, dict):
        return {k: without_helm(v) for k, v in value.items() if k not in HELM_ONLY_LABELS}
    return value


def main() -> int:
    helm = look_for("helm")
    if not helm:
        print(f"{TARGET.name}: not compared with the chart, there is no helm here; `make tools` builds it")
        return 0
    return keep(TARGET, render(helm))


if __name__ == "__main__":
    sys.exit(main())
