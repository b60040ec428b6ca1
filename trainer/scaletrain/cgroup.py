"""The control groups of this process: folders in which the kernel tells their limits, for version 1 and version 2."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def folders(controller: str, root: Path = ROOT, membership: Path = MEMBERSHIP) -> Iterator[Path]:
    """From the process's own group up to the root: each limit binds. `controller` is cpu or memory."""
    for line in text(membership).splitlines() or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _upwards(root, path)
        elif controller in controllers.split(","):
            for mount in (root / controllers, root / controller):
                yield from _upwards(mount, path)


def text(path: Path) -> str:
    """What the file says; nothing if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """root/path, its parents, root. In a container the path may lead outside of what is mounted: then only root exists."""
    folder = root / path.strip("/")
    yield folder
    while folder != root:
        folder = folder.parent
        yield folder
