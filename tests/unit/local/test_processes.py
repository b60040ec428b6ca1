"""Processes are found by their environment."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scalejob.local.processes import HAS_PROC, find, kill_all

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="there is no /proc here")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process with the marks A=1 and B=2."""
    environment = {**os.environ, "A_MARK": "1", "B_MARK": "2"}
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], env=environment)
    while not find({"A_MARK": "1", "B_MARK": "2"}):
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def test_all_marks_must_be_there(sleeper: subprocess.Popen[bytes]) -> None:
    """The uid of a job alone would take all of its workers."""
    assert find({"A_MARK": "1", "B_MARK": "2"}) == [sleeper.pid]
    assert find({"A_MARK": "1", "B_MARK": "22"}) == []


def test_everything_with_the_marks_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    """At once, and without waiting for its parent."""
    kill_all({"A_MARK": "1"})
    assert sleeper.wait(timeout=1) == -9
