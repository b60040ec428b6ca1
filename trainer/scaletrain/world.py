"""The ranks of a job, together from start to end: if one fails, all end, and all say why."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .comm import Comm, SoloComm, TorchComm
from .device import choose, has_own_gpu, settle
from .errors import PeerLost
from .rank import Rank
from .rendezvous import Meeting, meet
from .report import Report

# A rank that lost a peer waits as long for the alarm of the one that failed first, which says more.
HEARING_SECONDS = 2.0


@contextmanager
def world(
    rank: Rank, report: Report, *, backend: str, timeout_seconds: float, wished: threading.Event
) -> Iterator[Comm]:
    """Meets the other ranks, if there are any, and parts from them at the end.

    `backend` is that of `spec.rendezvous`; `wished`: see `Meeting.watch`. An error is told to the other
    ranks, whose processes end with it as their last word, and raised.
    """
    if rank.world_size == 1:
        yield SoloComm(settle(choose(rank, backend, num_gpus=int(has_own_gpu(rank)))).device)
        return
    meeting = meet(rank, has_gpu=has_own_gpu(rank), timeout_seconds=timeout_seconds)
    meeting.watch(report.victim, wished)
    report.tell_others = meeting.announce_end
    try:
        comm = TorchComm(rank, meeting, settle(choose(rank, backend, meeting.num_gpus)))
        yield comm
        comm.close()
    except Exception as error:
        _tell_the_others(meeting, report, error)
        raise


def _tell_the_others(meeting: Meeting, report: Report, error: Exception) -> None:
    """The first alarm counts, so one that can only tell of a lost peer waits for a better one: hearing it ends this process."""
    if isinstance(error, PeerLost):
        time.sleep(HEARING_SECONDS)
    meeting.sound_alarm(report.cause_of(error))
