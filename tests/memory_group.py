"""A control group with a memory limit for a child process, where this process may make one: as root, with version 1 or 2."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGroup:
    """A folder of the kernel's."""

    folder: Path

    def command(self, *argv: str) -> list[str]:
        """Runs `argv` inside, from its first instruction on."""
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.folder), *argv]


def why_not() -> str | None:
    """Why no group can be made here; None if one can."""
    try:
        with memory_group(1 << 30):
            return None
    except OSError as error:
        return f"no control group for memory can be made: {error}"


@contextmanager
def memory_group(limit: int) -> Iterator[MemoryGroup]:
    """A group of at most `limit` bytes, without swap where there is any. OSError if it cannot be made."""
    is_v1 = (ROOT / "memory").is_dir()
    folder = (ROOT / "memory" if is_v1 else ROOT) / f"scalejob-test-{os.getpid()}-{limit}"
    limits = {"memory.limit_in_bytes": limit} if is_v1 else {"memory.max": limit, "memory.swap.max": 0}
    folder.mkdir()
    try:
        for name, value in limits.items():
            if name != "memory.swap.max" or (folder / name).exists():
                (folder / name).write_text(str(value))
        yield MemoryGroup(folder=folder)
    finally:
        folder.rmdir()
