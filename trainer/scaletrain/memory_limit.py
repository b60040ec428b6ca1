"""How much memory a rank may use: the twin of `threads`, for bytes.

min(limit of the control groups / processes of this worker, memory of the machine / ranks on this machine)
"""

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import cgroup

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine() -> str:
    """A name that the processes of this machine have in common, in containers too, and no others."""
    return cgroup.text(BOOT_ID).strip() or platform.node()


def share(processes: int, ranks_here: int, root: Path = cgroup.ROOT, membership: Path = cgroup.MEMBERSHIP) -> int:
    """Bytes of this process. `processes`: of this worker, under one limit. `ranks_here`: of the job, on this machine."""
    limits = [
        limit // max(1, processes) for folder in cgroup.folders("memory", root, membership) for limit in _limits(folder)
    ]
    return min([_installed() // max(1, ranks_here), *limits])


def processes_of_worker(environ: Mapping[str, str]) -> int:
    text = environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(text)) if text.isdigit() else 1


def _limits(folder: Path) -> Iterator[int]:
    """Of one group. Without a limit, version 2 says `max` and version 1 a number beyond any memory."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = cgroup.text(folder / name).strip()
        if limit.isdigit():
            yield int(limit)


def _installed() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
