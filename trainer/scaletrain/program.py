"""The ranks of a program of the user's own, under `workload.command` or torchrun."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .comm import Comm
from .progress import Teller
from .rank import Rank
from .report import Report
from .world import world

TIMEOUT_SECONDS = 600.0  # to wait for the other ranks


@contextmanager
def ranks() -> Iterator[Comm]:
    """Meets the other ranks that the environment tells of, and parts from them at the end; without any, a world of one.

    An error in one rank ends the processes of all: the others leave what it said as their last word.
    """
    report = Report.from_env(os.environ, Teller(write=lambda line: None, every=float("inf")))
    with world(
        Rank.from_env(os.environ),
        report,
        backend="auto",
        timeout_seconds=TIMEOUT_SECONDS,
        wished=threading.Event(),
    ) as comm:
        yield comm
