"""The ranks of a program of the user's own, under `workload.command` or torchrun."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .comm import Comm, SoloComm, TorchComm
from .device import choose, has_own_gpu, settle
from .progress import Teller
from .rank import Rank
from .rendezvous import meet
from .report import Report

TIMEOUT_SECONDS = 600.0  # to wait for the other ranks


@contextmanager
def ranks() -> Iterator[Comm]:
    """Meets the other ranks that the environment tells of, and parts from them at the end; without any, a world of one.

    An error in one rank ends the processes of all: the others leave what it said as their last word.
    """
    rank = Rank.from_env(os.environ)
    if rank.world_size == 1:
        yield SoloComm(settle(choose(rank, "auto", num_gpus=int(has_own_gpu(rank)))).device)
        return
    report = Report.from_env(os.environ, Teller(write=lambda line: None, every=float("inf")))
    meeting = meet(rank, has_gpu=has_own_gpu(rank), timeout_seconds=TIMEOUT_SECONDS)
    meeting.watch(report.victim, threading.Event())
    try:
        comm = TorchComm(rank, meeting, settle(choose(rank, "auto", meeting.num_gpus)))
        yield comm
    except Exception as error:
        meeting.sound_alarm(report.cause_of(error))
        raise
    comm.close()
