"""Operators that start in some milliseconds: forks of a process that has imported everything.

    python -m tests.controlplane.nursery

Each line on stdin is a command in JSON, each line on stdout the answer. `{"start": {...options}, "log": path, "clock": path}` is
answered by the pid; the second path is that of a file with the seconds by which the clock of the host is wrong, or null.
`{"kill": pid}` is answered by whether the process was alive until this SIGKILL; `{"stop": pid}` by its exit code after this SIGTERM.
At the end of stdin all operators die.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from scalejob.app import run
from scalejob.engine.options import Options
from scalejob.kube.clock import SteadyClock
from tests.controlplane.fault_proxy import FaultProxy
from tests.tools import ROOT


class Nursery:
    """A context manager: the parent of operators."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", "tests.controlplane.nursery"]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def start(self, options: Options, clock: Path | None = None) -> int:
        """The pid of an operator that begins to run."""
        command = {"start": asdict(options), "log": str(self._log), "clock": str(clock) if clock else None}
        return int(self._ask(command))

    def kill(self, pid: int) -> bool:
        """SIGKILL, and wait until it is gone. False if it had ended by itself."""
        return bool(self._ask({"kill": pid}))

    def stop(self, pid: int) -> int:
        """SIGTERM, and wait until it is gone; its exit code."""
        return int(self._ask({"stop": pid}))

    def _ask(self, command: dict[str, Any]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@asynccontextmanager
async def operating(nursery: Nursery, proxy: FaultProxy, options: Options) -> AsyncIterator[list[str]]:
    """An operator runs behind `proxy`, and another one after each death. Gives a list that tells of those that were not killed."""
    pids: list[int] = []
    violations: list[str] = []

    def revive() -> None:
        pids.append(nursery.start(options))

    def kill() -> None:
        if not nursery.kill(pids.pop()):
            violations.append("the operator has ended by itself")

    proxy.kill, proxy.revive = kill, revive
    revive()
    try:
        yield violations
    finally:
        kill()


def _start(options: dict[str, Any], log: str, clock: str | None) -> int:
    lists = {name: tuple(value) for name, value in options.items() if isinstance(value, list)}
    pid = os.fork()
    return pid or _operate(Options(**options | lists), log, clock)


def _operate(options: Options, log: str, clock: str | None) -> NoReturn:
    """The life of the child: it never returns to the loop of its parent, whose pipes it lets go of."""
    code = 1
    try:
        with Path(log).open("ab") as out, Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), sys.stdin.fileno())
            os.dup2(out.fileno(), sys.stdout.fileno())
            os.dup2(out.fileno(), sys.stderr.fileno())
        code = 0 if asyncio.run(run(options, _wrong(Path(clock)) if clock else None)) else 1
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wrong(by: Path) -> SteadyClock:
    """A clock that looks at a wrong one, as far as it looks at any."""
    return SteadyClock(lambda: time.time() + float(by.read_text()))


def _kill(pid: int) -> bool:
    gone, _ = os.waitpid(pid, os.WNOHANG)
    if not gone:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return not gone


def _stop(pid: int) -> int:
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _serve() -> None:
    alive: set[int] = set()
    for line in sys.stdin:
        command = json.loads(line)
        answer: int | bool
        if "kill" in command:
            alive.discard(command["kill"])
            answer = _kill(command["kill"])
        elif "stop" in command:
            alive.discard(command["stop"])
            answer = _stop(command["stop"])
        else:
            answer = _start(command["start"], command["log"], command["clock"])
            alive.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in alive:
        _kill(pid)


if __name__ == "__main__":
    _serve()
