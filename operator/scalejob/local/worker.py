"""One running worker, and what a kubelet would say about it."""

import asyncio
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scalejob.contract import TERMINATION_LIMIT
from scalejob.plan.model import Pod, Terminated

from .container import Container
from .processes import kill_rest, send_signal

# Of the log, as terminationMessagePolicy FallbackToLogsOnError has it.
TAIL_LINES, TAIL_BYTES = 80, 2048
# How long the log may stay open after the end of the process: the pipe can be held by a process of another user only.
DRAIN_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Worker:
    """A process that stands for a Pod. Made by `start`; `ended` is set when it is over and nothing of it is left."""

    container: Container
    job_uid: str
    process: asyncio.subprocess.Process
    started: datetime
    terminated: Terminated | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

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

    async def follow(self, on_line: Callable[[str], None]) -> None:
        """Reads the log to its end, waits for the process, and ends whatever it left behind."""
        reader = asyncio.create_task(self._read(on_line))
        code = await self.process.wait()
        finished = datetime.now(UTC)
        await asyncio.to_thread(kill_rest, self.process.pid, self.container.marks)
        with suppress(TimeoutError):
            await asyncio.wait_for(reader, DRAIN_SECONDS)
        self.terminated = self._terminated(code, finished)
        self.ended.set()

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM to the process, as the kubelet sends it; SIGKILL to all that is left after the grace time."""
        if not self.ended.is_set():
            send_signal(self.process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), grace_seconds)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the process; `follow` then ends what it has started."""
        if not self.ended.is_set():
            send_signal(self.process.pid, signal.SIGKILL)
        await self.ended.wait()

    async def _read(self, on_line: Callable[[str], None]) -> None:
        assert self.process.stdout is not None, "started with a pipe"
        async for line in _lines(self.process.stdout):
            self.tail.append(line)
            on_line(line)

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
        return "\n".join(self.tail).encode()[-TAIL_BYTES:].decode(errors="ignore") if exit_code else ""


async def start(container: Container, job_uid: str) -> Worker:
    """Starts the process in a session of its own, so that Ctrl-C reaches it through us only. OSError if it cannot be started."""
    started = datetime.now(UTC)
    process = await asyncio.create_subprocess_exec(
        *container.argv,
        env=dict(container.env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    return Worker(container=container, job_uid=job_uid, process=process, started=started)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of any length, without their ends; what is not UTF-8 is replaced."""
    rest = b""
    while chunk := await stream.read(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")
