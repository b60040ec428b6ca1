"""Real jobs for tests: W processes of `python -m scaletrain` on this machine, as a cluster or `scalejob run` would start them."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalejob.contract import ENV_PROGRESS_SECONDS, ENV_TERMINATION_LOG, Env, LastWord, ProgressLine


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How one rank ended."""

    exit_code: int
    word: LastWord | None
    stdout: str
    stderr: str

    @property
    def progress(self) -> list[ProgressLine]:
        lines = map(ProgressLine.from_json, self.stdout.splitlines())
        return [line for line in lines if line is not None]


@dataclass(slots=True, kw_only=True)
class World:
    """A running job. Ranks may be killed."""

    processes: list[subprocess.Popen[str]]
    folder: Path
    started: float = field(default_factory=time.monotonic)

    def wait(self, timeout: float = 60) -> list[End]:
        """The ends of all ranks, by rank. AssertionError if one does not end in time."""
        until = time.monotonic() + timeout
        return [self._end(rank, process, until) for rank, process in enumerate(self.processes)]

    def wait_for_progress(self, phase: str, step: int = 0, timeout: float = 60) -> None:
        """Until rank 0 has told of that step."""
        until = time.monotonic() + timeout
        while not any(line.phase == phase and line.step >= step for line in self.progress()):
            assert time.monotonic() < until, f"no progress to {phase} {step}: {self._text(0, 'err')}"
            assert self.processes[0].poll() is None, f"rank 0 ended: {self._text(0, 'err')}"
            time.sleep(0.05)

    def progress(self) -> list[ProgressLine]:
        lines = map(ProgressLine.from_json, self._text(0, "out").splitlines())
        return [line for line in lines if line is not None]

    def kill_all(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _end(self, rank: int, process: subprocess.Popen[str], until: float) -> End:
        try:
            code = process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"rank {rank} does not end; it says: {self._text(rank, 'err')}") from None
        word = self._text(rank, "word")
        return End(
            exit_code=code,
            word=LastWord.from_json(word) if word else None,
            stdout=self._text(rank, "out"),
            stderr=self._text(rank, "err"),
        )

    def _text(self, rank: int, kind: str) -> str:
        path = self.folder / f"{rank}.{kind}"
        return path.read_text() if path.exists() else ""


@contextmanager
def running(spec: Mapping[str, Any], workers: int, env: Mapping[str, str] | None = None) -> Iterator[World]:
    """The job while the block lasts; whatever still runs then is killed."""
    with tempfile.TemporaryDirectory(prefix="world-") as folder:
        environments = rank_environments(spec, workers, Path(folder), env)
        processes = [_start(environment, Path(folder, str(rank))) for rank, environment in enumerate(environments)]
        world = World(processes=processes, folder=Path(folder))
        try:
            yield world
        finally:
            world.kill_all()


def run(
    spec: Mapping[str, Any], workers: int, *, env: Mapping[str, str] | None = None, timeout: float = 60
) -> list[End]:
    """The ends of all ranks of the job, by rank."""
    with running(spec, workers, env) as world:
        return world.wait(timeout)


def rank_environments(
    spec: Mapping[str, Any], workers: int, folder: Path, env: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """What each rank finds in its environment, by rank; `env` changes it for all. Last words go to `folder`."""
    common = {
        **{name: value for name, value in os.environ.items() if name not in set(Env)},
        Env.SPEC: json.dumps(spec),
        Env.MASTER_ADDR: "127.0.0.1",
        Env.MASTER_PORT: str(free_port()),
        Env.WORLD_SIZE: str(workers),
        Env.LOCAL_WORLD_SIZE: str(workers),
        Env.OMP_NUM_THREADS: "1",
        ENV_PROGRESS_SECONDS: "0",
        **(env or {}),
    }
    own = ({Env.RANK: str(rank), Env.LOCAL_RANK: str(rank)} for rank in range(workers))
    return [common | names | {ENV_TERMINATION_LOG: str(folder / f"{names[Env.RANK]}.word")} for names in own]


def free_port() -> int:
    """One that was free a moment ago."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _start(env: Mapping[str, str], place: Path) -> subprocess.Popen[str]:
    """A rank; what it says goes to `place`.out and `place`.err."""
    with place.with_suffix(".out").open("w") as out, place.with_suffix(".err").open("w") as err:
        return subprocess.Popen([sys.executable, "-m", "scaletrain"], env=env, stdout=out, stderr=err, text=True)
