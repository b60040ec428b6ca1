"""Everything that a worker has started, found by its environment. Standard library only: the watchdog imports it.

A Pod ends with all of its processes, whatever sessions and groups they made (torchrun puts its workers into sessions of
their own). Here the environment of the contract takes the place of the cgroup: a process that carries the marks of a worker
belongs to it. That needs /proc; elsewhere only the process group of a worker is ended.
"""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
HAS_PROC = (_PROC / "self/environ").exists()


def find(marks: Mapping[str, str]) -> list[int]:
    """The pids of all processes whose environment holds `marks`, without this one."""
    want = {f"{name}={value}".encode() for name, value in marks.items()}
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # gone in the meantime, or of another user
            if want <= set((folder / "environ").read_bytes().split(b"\0")):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def kill_all(marks: Mapping[str, str]) -> None:
    """SIGKILL to all processes with `marks`, and to those that they start meanwhile.

    Returns when none is left, or after 2 s: a process that hangs in the kernel dies when it returns from there.
    """
    deadline = time.monotonic() + 2
    while (pids := find(marks)) and time.monotonic() < deadline:
        for pid in pids:
            send_signal(pid, signal.SIGKILL)
        time.sleep(0.005)


def kill_rest(group: int, marks: Mapping[str, str]) -> None:
    """Ends what a worker left behind; `group` is that of its first process, which is over."""
    if HAS_PROC:
        kill_all(marks)
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def send_signal(pid: int, number: signal.Signals) -> None:
    """To one process, which may be gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
