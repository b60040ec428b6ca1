"""How many threads a rank may use. Decided before torch and numpy are imported, because their pools are sized at import.

T = OMP_NUM_THREADS if it is set, else floor(CPU limit / processes of this worker), at least 1. The BLAS libraries get one
thread each: blocks run in parallel on T threads of our own, and the partial sums of a block do not depend on T.
"""

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from . import cgroup

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Results may otherwise depend, MKL's on how the operands are aligned in memory, cuBLAS's on which workspace was free.
REPRODUCIBLE = {"MKL_CBWR": "AUTO", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def decide(environ: MutableMapping[str, str]) -> int:
    """T, with the BLAS libraries set to one thread each in `environ`."""
    threads = asked_for(environ) or share_of_limit(cpu_limit(), environ.get("LOCAL_WORLD_SIZE", "1"))
    environ.update(dict.fromkeys(ONE_THREAD, "1"))
    for name, value in REPRODUCIBLE.items():
        environ.setdefault(name, value)
    return threads


def asked_for(environ: MutableMapping[str, str]) -> int | None:
    """OMP_NUM_THREADS as a number; None if it is not set, or not a number above zero."""
    text = environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def share_of_limit(cpus: float, local_processes: str) -> int:
    processes = int(local_processes) if local_processes.isdigit() else 1
    return max(1, int(cpus / max(1, processes)))


def cpu_limit(root: Path = cgroup.ROOT, membership: Path = cgroup.MEMBERSHIP) -> float:
    """CPUs that this process may use: the least of its affinity and of the quotas of its control groups."""
    quotas = (q for folder in cgroup.folders("cpu", root, membership) for q in (*_quota_v2(folder), *_quota_v1(folder)))
    return min([float(_num_affine()), *quotas])


def _num_affine() -> int:
    # Not on macOS.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota_v2(folder: Path) -> Iterator[float]:
    quota, _, period = cgroup.text(folder / "cpu.max").partition(" ")
    if quota.isdigit():
        yield int(quota) / int(period)


def _quota_v1(folder: Path) -> Iterator[float]:
    quota = cgroup.text(folder / "cpu.cfs_quota_us").strip()
    if quota.isdigit() and int(quota) > 0:
        yield int(quota) / int(cgroup.text(folder / "cpu.cfs_period_us"))
