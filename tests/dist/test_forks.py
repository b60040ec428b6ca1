"""Ranks as forks of one process: each has its own environment, output and end, as a process of its own would."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scalejob.local.forks import IS_POSSIBLE, Fork, ForkServer
from scaletrain import forkserver

pytestmark = pytest.mark.skipif(not IS_POSSIBLE, reason="needs Linux")


class Watched(asyncio.SubprocessProtocol):
    """Collects what a rank prints, and knows when it and its output are over."""

    def __init__(self) -> None:
        self.output, self.over, self.closed = b"", asyncio.Event(), asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.closed.set()

    def process_exited(self) -> None:
        self.over.set()

    async def end(self, fork: Fork) -> tuple[int | None, str]:
        async with asyncio.timeout(60):
            await self.over.wait()
            await self.closed.wait()
        return fork.get_returncode(), self.output.decode()


def served(act: Callable[[ForkServer], Awaitable[None]]) -> None:
    """Runs `act` with a server that is ended afterwards."""

    async def all_of_it() -> None:
        server = ForkServer()
        try:
            await act(server)
        finally:
            await server.close()

    asyncio.run(all_of_it())


async def rank(server: ForkServer, **env: str) -> tuple[Watched, Fork]:
    watched = Watched()
    return watched, await server.start({"PATH": os.environ["PATH"], **env}, watched)


async def waiting_rank(server: ForkServer) -> tuple[Watched, Fork]:
    """One that runs and waits for a peer."""
    server_pid = (await rank(server))[1].get_pid()
    data = {"synthetic": {"blobs": {"rows": 9, "features": 1}}}
    spec = {"workload": {"kmeans": {"clusters": 1}}, "data": data, "output": {"uri": "/nowhere"}}
    watched, fork = await rank(server, WORLD_SIZE="2", RANK="1", MASTER_PORT="9", SCALEJOB_SPEC=json.dumps(spec))
    async with asyncio.timeout(60):
        while fork.get_pid() == server_pid:  # noqa: ASYNC110 - nobody but this test has to know
            await asyncio.sleep(0.02)
    return watched, fork


def test_each_rank_has_its_own_environment_output_and_end(capfd: pytest.CaptureFixture[str]) -> None:
    """Both fail for a reason of their own; nothing of it goes to our own output."""

    async def act(server: ForkServer) -> None:
        first, second = await rank(server), await rank(server, RANK="x", SCALEJOB_SPEC="{}")
        ends = [await watched.end(fork) for watched, fork in (first, second)]
        assert [code for code, _ in ends] == [2, 2]
        assert "SCALEJOB_SPEC is not set" in ends[0][1]
        assert "RANK is 'x', not a number" in ends[1][1]

    served(act)
    assert capfd.readouterr() == ("", "")


def test_torch_is_hushed_before_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads then what it may print; its warnings about peers that are gone hold pages of frames."""
    seen: list[str | None] = []
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "1"})
    monkeypatch.setattr(forkserver, "_import", lambda output: seen.append(os.environ.get("TORCH_CPP_LOG_LEVEL")))
    monkeypatch.setattr(forkserver, "serve", lambda channel, first: None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, Path(os.devnull).open() as file:
        socket.send_fds(ours, [b"start"], [file.fileno(), file.fileno()])
        forkserver.main(theirs.detach())
    assert seen == ["ERROR"]


def test_a_signal_ends_one_rank_only() -> None:
    """The server tells which one, and goes on."""

    async def act(server: ForkServer) -> None:
        watched, fork = await waiting_rank(server)
        os.kill(fork.get_pid(), signal.SIGKILL)
        assert (await watched.end(fork))[0] == -signal.SIGKILL
        again, other = await rank(server)
        assert (await again.end(other))[0] == 2

    served(act)


def test_a_server_that_is_gone_takes_its_ranks_along_and_is_replaced() -> None:
    """Nobody could learn how they end."""

    async def act(server: ForkServer) -> None:
        watched, fork = await waiting_rank(server)
        assert server._process is not None
        server._process.kill()
        assert (await watched.end(fork))[0] == -signal.SIGKILL
        again, other = await rank(server)
        assert (await again.end(other))[0] == 2

    served(act)


def test_whoever_ends_a_rank_that_does_not_run_yet_ends_it_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Ctrl-C while torch is being imported: also of the second rank, which the server never read of. Nothing is logged."""

    async def act(server: ForkServer) -> None:
        ranks = [await rank(server), await rank(server)]
        os.kill(ranks[0][1].get_pid(), signal.SIGTERM)
        assert [(await watched.end(fork))[0] for watched, fork in ranks] == [-signal.SIGTERM] * 2

    served(act)
    assert caplog.records == []


def test_hundreds_of_ranks_are_asked_for_before_the_server_reads() -> None:
    """The channel is full then; who asks waits, and takes no rank for one that cannot be started."""

    async def act(server: ForkServer) -> None:
        _, first = await rank(server)
        os.kill(first.get_pid(), signal.SIGSTOP)
        asked = asyncio.gather(*(rank(server) for _ in range(400)))
        await asyncio.sleep(0.2)
        assert not asked.done()
        os.kill(first.get_pid(), signal.SIGKILL)
        ends = [await watched.end(fork) for watched, fork in await asked]
        assert {code for code, _ in ends} == {-signal.SIGKILL}

    served(act)


def test_a_broken_installation_is_told_by_the_first_rank(tmp_path: Path) -> None:
    """With the traceback of the import."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch today')\n")

    async def act(server: ForkServer) -> None:
        watched, fork = await rank(server, PYTHONPATH=str(tmp_path))
        code, output = await watched.end(fork)
        assert (code, "no torch today" in output) == (1, True)

    served(act)
