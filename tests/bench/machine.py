"""What the figures were measured on."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench.turns import environment

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pyarrow")


def facts() -> dict[str, str]:
    """By name, in the order of the report."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "CPU": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "Python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "kernels of OpenBLAS": _kernels(),
    }


def _kernels() -> str:
    """Which ones it chooses in the sides of the benchmarks."""
    look = "import numpy, threadpoolctl as t; print(*{i.get('architecture') for i in t.threadpool_info()} - {None})"
    done = subprocess.run([sys.executable, "-c", look], env=environment(), capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
