"""The file in which a running rank keeps its rows, to damage it: it has no name."""

import os
from contextlib import suppress
from pathlib import Path

LEAST_BYTES = 4096  # of a block in it


def has_rows(pid: int, cache: Path) -> bool:
    return _file(pid, cache) is not None


def cut_rows(pid: int, cache: Path) -> None:
    """Whatever of them is read from now on is not there."""
    if file := _file(pid, cache):
        os.truncate(file, 100)


def _file(pid: int, cache: Path) -> Path | None:
    """The largest file in `cache` that the process has open: it is reached through the process. None if there are no rows in it.

    The others hold what K-Means keeps of each row, come and go with each of its starts, and cannot be cut without a signal.
    """
    sizes = {}
    with suppress(OSError):  # the process has ended
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                if file.readlink().parent == cache:
                    sizes[file] = file.stat().st_size
    largest = max(sizes, key=lambda file: sizes[file], default=None)
    return largest if largest and sizes[largest] >= LEAST_BYTES else None
