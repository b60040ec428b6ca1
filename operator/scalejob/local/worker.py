"""One running worker, and what a kubelet would say about it."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scalejob.contract import TERMINATION_LIMIT
from scalejob.plan.model import Pod, Terminated

from .container import Container
from .forks import IS_POSSIBLE, RANK, Fork, ForkServer
from .processes import kill_rest, send_signal

# Of the log, as terminationMessagePolicy FallbackToLogsOnError has it.
TAIL_LINES, TAIL_BYTES = 80, 2048
# How long the log may stay open after the end of the process: the pipe can be held by a process of another user only.
DRAIN_SECONDS = 1.0


class _Log(asyncio.SubprocessProtocol):
    """Cuts what a process prints into lines of any length; knows when it is over, and when its log is."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        self._on_line = on_line
        self._rest = b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if self._rest:
            self._tell(self._rest)
        self.closed.set()

    def process_exited(self) -> None:
        self.exited.set()

    def _tell(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self.tail.append(text)
        self._on_line(text)


@dataclass(slots=True, kw_only=True)
class Worker:
    """A process that stands for a Pod. Made by `start`; `ended` is set when it is over and nothing of it is left."""

    container: Container
    job_uid: str
    log: _Log
    process: asyncio.SubprocessTransport | Fork
    started: datetime
    terminated: Terminated | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def to_pod(self) -> Pod:
        """The facts that the planner decides on."""
        done = self.terminated
        return Pod(
            name=self.container.name,
            uid=f"{self.job_uid}/{self.container.name}",
            job_uid=self.job_uid,
            attempt=self.container.attempt,
            index=self.container.index,
            created=self.started,
            started=self.started,
            phase="Running" if done is None else "Failed" if done.exit_code else "Succeeded",
            is_ready=done is None,
            is_scheduled=True,
            ip="127.0.0.1",
            terminated=done,
        )

    async def follow(self) -> None:
        """Waits for the end of the process, and ends whatever it left behind."""
        # Not for that of its log: a child may hold the pipe.
        await self.log.exited.wait()
        finished = datetime.now(UTC)
        await asyncio.to_thread(kill_rest, self.process.get_pid(), self.container.marks)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.log.closed.wait(), DRAIN_SECONDS)
        self.process.close()
        code = self.process.get_returncode()
        assert code is not None, "it has exited"
        self.terminated = self._terminated(code, finished)
        self.ended.set()

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM to the process, as the kubelet sends it; SIGKILL to all that is left after the grace time."""
        if not self.ended.is_set():
            send_signal(self.process.get_pid(), signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), grace_seconds)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the process; `follow` then ends what it has started."""
        if not self.ended.is_set():
            send_signal(self.process.get_pid(), signal.SIGKILL)
        await self.ended.wait()

    def _terminated(self, code: int, finished: datetime) -> Terminated:
        exit_code = code if code >= 0 else 128 - code  # -N: ended by signal N
        return Terminated(
            exit_code=exit_code,
            reason="Error" if exit_code else "Completed",
            message=self._message(exit_code),
            started=self.started,
            finished=finished,
        )

    def _message(self, exit_code: int) -> str:
        with suppress(FileNotFoundError):
            message = self.container.termination_log.read_bytes()[:TERMINATION_LIMIT].decode(errors="replace")
            if message:
                return message
        return "\n".join(self.log.tail).encode()[-TAIL_BYTES:].decode(errors="ignore") if exit_code else ""


async def start(container: Container, job_uid: str, forks: ForkServer, on_line: Callable[[str], None]) -> Worker:
    """Starts the process in a session of its own, so that Ctrl-C reaches it through us only. OSError if it cannot be started.

    `on_line` is given every line of its log.
    """
    started, log = datetime.now(UTC), _Log(on_line)
    if IS_POSSIBLE and container.argv == RANK:
        process = await forks.start(container.env, log)
    else:
        process = await _execute(container, log)
    return Worker(container=container, job_uid=job_uid, log=log, process=process, started=started)


async def _execute(container: Container, log: _Log) -> asyncio.SubprocessTransport:
    process, _ = await asyncio.get_running_loop().subprocess_exec(
        lambda: log,
        *container.argv,
        env=dict(container.env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    return process
