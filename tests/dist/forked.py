"""Jobs whose ranks are forks of one process, for tests of results: torch is imported once, not once for each rank.

Tests of how ranks live and die start real processes: `tests.dist.world`.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scalejob.contract import ENV_TERMINATION_LOG, Env, LastWord
from tests.dist import raising
from tests.dist.world import rank_environments


class Forks:
    """`scaletrain.forkserver`, as `tests.dist.raising` has it, and its end of the socket."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._codes: dict[int, int] = {}
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", raising.__file__, str(theirs.fileno())],
                env=os.environ | {Env.OMP_NUM_THREADS: "1"},
                pass_fds=[theirs.fileno()],
            )

    def run(self, environments: list[dict[str, str]], output: Path, timeout: float) -> None:
        """Starts a rank for each environment and waits for all. AssertionError, with what they said, if one fails."""
        pids = [self.start(environment, output) for environment in environments]
        codes = self.wait(pids, timeout)
        assert len(codes) == len(pids), f"no end after {timeout} s: {output.read_text()}"
        assert set(codes.values()) == {0}, output.read_text()

    def start(self, environment: Mapping[str, str], output: Path) -> int:
        """The pid of a rank whose words are added to `output`."""
        with tempfile.TemporaryFile("w+") as file, output.open("ab") as out:
            json.dump(dict(environment), file)
            file.seek(0)
            socket.send_fds(self._channel, [b"start"], [file.fileno(), out.fileno()])
        while True:
            facts = self._hear(60)
            if "code" not in facts:
                pid = int(facts["pid"])
                self._codes.pop(pid, None)  # of an earlier rank: after some thousand processes, pids come again
                return pid

    def wait(self, pids: Collection[int], timeout: float) -> dict[int, int]:
        """The exit codes of those that have ended by then, -N: by signal N."""
        until = time.monotonic() + timeout
        while not self._codes.keys() >= set(pids):
            try:
                self._hear(max(0.001, until - time.monotonic()))
            except TimeoutError:
                break
        return {pid: self._codes[pid] for pid in pids if pid in self._codes}

    def close(self) -> None:
        self._channel.close()
        self._server.wait(10)

    def _hear(self, timeout: float) -> dict[str, int]:
        self._channel.settimeout(timeout)
        facts: dict[str, int] = json.loads(self._channel.recv(4096))
        if "code" in facts:
            self._codes[facts["pid"]] = facts["code"]
        return facts


@cache
def the_forks() -> Forks:
    """Of this process, until its end."""
    forks = Forks()
    atexit.register(forks.close)
    return forks


def model_sha(spec: Mapping[str, Any], workers: int, *, timeout: float = 120) -> str:
    """The SHA-256 of the model that the job writes. AssertionError with the ranks' own words if it fails."""
    with tempfile.TemporaryDirectory(prefix="forked-") as folder:
        environments = rank_environments(spec, workers, Path(folder))
        the_forks().run(environments, Path(folder, "output"), timeout)
        word = LastWord.from_json(Path(environments[0][ENV_TERMINATION_LOG]).read_text())
    assert word is not None
    assert word.model_sha256 is not None
    return word.model_sha256
