"""Ranks of the trainer as forks of one process, which imports torch once: four imports on two cores would take twice as long.

The process is `python -m scaletrain.forkserver`, which says how they talk. It is started with the first rank of a run, and
lives as long as the run. Needs Linux; elsewhere each rank is a process of its own.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from tempfile import TemporaryFile

from scalejob.contract import Env

RANK = (sys.executable, "-m", "scaletrain")
SERVER = "scaletrain.forkserver"
SEND_SECONDS = 0.05  # until a full channel is tried again
IS_POSSIBLE = hasattr(os, "pidfd_open")  # where the server can wait for its forks
# What tells the processes of one worker from those of another: the server belongs to all of them.
_OF_ONE_WORKER = (Env.INDEX, Env.ATTEMPT)


class Fork:
    """A rank, asked for or running, in the manner of asyncio's transports: its end and its output go to `protocol`."""

    def __init__(self, protocol: asyncio.SubprocessProtocol, server_pid: int) -> None:
        self.protocol = protocol
        self.output: asyncio.ReadTransport | None = None
        self._pid = (
            server_pid  # until it runs: who ends a rank that does not run yet ends the server that would start it
        )
        self._code: int | None = None

    def get_pid(self) -> int:
        return self._pid

    def get_returncode(self) -> int | None:
        return self._code

    def close(self) -> None:
        if self.output:
            self.output.close()

    def has_started(self, pid: int) -> None:
        self._pid = pid

    def has_ended(self, code: int) -> None:
        self._code = code
        self.protocol.process_exited()


class _Output(asyncio.Protocol):
    """Of a fork: stdout and stderr in one."""

    def __init__(self, protocol: asyncio.SubprocessProtocol) -> None:
        self._protocol = protocol

    def data_received(self, data: bytes) -> None:
        self._protocol.pipe_data_received(1, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.pipe_connection_lost(1, exc)


class ForkServer:
    """The server of one run, started when the first rank is. Started again if it has ended."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._asked: deque[Fork] = deque()
        self._running: dict[int, Fork] = {}
        self._ending: asyncio.Task[None] | None = None

    async def start(self, env: Mapping[str, str], protocol: asyncio.SubprocessProtocol) -> Fork:
        """Asks for a rank with this environment; does not wait until it runs. OSError if the server cannot be started."""
        if self._channel is None:
            await self._open(env)
        assert self._channel is not None
        assert self._process is not None
        fork = Fork(protocol, self._process.pid)
        reader, writer = os.pipe()
        fork.output, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: _Output(protocol), os.fdopen(reader, "rb", buffering=0)
        )
        self._asked.append(fork)
        with TemporaryFile("w+") as file:
            json.dump(dict(env), file)
            file.seek(0)
            await self._send(file.fileno(), writer)
        os.close(writer)
        return fork

    async def _send(self, environ: int, output: int) -> None:
        """Waits while the channel is full, as with hundreds of ranks before torch is imported."""
        channel = self._channel
        while channel is not None and channel is self._channel:
            try:
                socket.send_fds(channel, [b"start"], [environ, output])
            except BlockingIOError:
                await asyncio.sleep(SEND_SECONDS)
            except (BrokenPipeError, ConnectionResetError):  # the server has just ended: `_ended` tells the fork
                return
            else:
                return

    async def close(self) -> None:
        """Ends the server. Ranks that still run are left to who ends the run."""
        if self._channel is not None:
            self._channel.shutdown(socket.SHUT_RDWR)
        if self._process is not None:
            await self._process.wait()
        if self._ending is not None:
            await self._ending

    async def _open(self, env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                SERVER,
                str(theirs.fileno()),
                env={name: value for name, value in env.items() if name not in _OF_ONE_WORKER},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        ours.setblocking(False)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._on_message, ours)

    def _on_message(self, channel: socket.socket) -> None:
        try:
            message = channel.recv(4096)
        except ConnectionResetError:  # the server has ended with messages that it had not read
            message = b""
        if not message:
            asyncio.get_running_loop().remove_reader(channel)
            channel.close()
            self._channel = None
            self._ending = asyncio.create_task(self._ended())
            return
        facts = json.loads(message)
        if "code" in facts:
            self._running.pop(facts["pid"]).has_ended(facts["code"])
        else:
            fork = self._running[facts["pid"]] = self._asked.popleft()
            fork.has_started(facts["pid"])

    async def _ended(self) -> None:
        """Ranks that were asked for end as the server did; of those that run nobody could learn the end, so they end now."""
        assert self._process is not None
        code = await self._process.wait()
        for pid, fork in self._running.items():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            fork.has_ended(-signal.SIGKILL)
        for fork in self._asked:
            fork.has_ended(code)
        self._running.clear()
        self._asked.clear()
