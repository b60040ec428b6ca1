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
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scalejob.contract import ENV_TERMINATION_LOG, Env, LastWord
from tests.dist.world import rank_environments


class Forks:
    """`scaletrain.forkserver` and its end of the socket; one job at a time."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "scaletrain.forkserver", str(theirs.fileno())],
                env=os.environ | {Env.OMP_NUM_THREADS: "1"},
                pass_fds=[theirs.fileno()],
            )

    def run(self, environments: list[dict[str, str]], output: Path, timeout: float) -> None:
        """Starts a rank for each environment and waits for all. AssertionError, with what they said, if one fails."""
        for environment in environments:
            self._start(environment, output)
        self._channel.settimeout(timeout)
        codes: list[int] = []
        try:
            while len(codes) < len(environments):
                facts = json.loads(self._channel.recv(4096))
                codes += [facts["code"]] if "code" in facts else []
        except TimeoutError:
            raise AssertionError(f"no end after {timeout} s: {output.read_text()}") from None
        assert codes == [0] * len(environments), output.read_text()

    def close(self) -> None:
        self._channel.close()
        self._server.wait(10)

    def _start(self, environment: Mapping[str, str], output: Path) -> None:
        with tempfile.TemporaryFile("w+") as file, output.open("ab") as out:
            json.dump(dict(environment), file)
            file.seek(0)
            socket.send_fds(self._channel, [b"start"], [file.fileno(), out.fileno()])


@cache
def _forks() -> Forks:
    forks = Forks()
    atexit.register(forks.close)
    return forks


def model_sha(spec: Mapping[str, Any], workers: int, *, timeout: float = 120) -> str:
    """The SHA-256 of the model that the job writes. AssertionError with the ranks' own words if it fails."""
    with tempfile.TemporaryDirectory(prefix="forked-") as folder:
        environments = rank_environments(spec, workers, Path(folder))
        _forks().run(environments, Path(folder, "output"), timeout)
        word = LastWord.from_json(Path(environments[0][ENV_TERMINATION_LOG]).read_text())
    assert word is not None
    assert word.model_sha256 is not None
    return word.model_sha256
