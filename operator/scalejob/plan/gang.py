"""Half a gang: some workers hold nodes and wait for the others, which find none.

Two jobs that do so with each other's nodes would wait for ever. So after a while each gives back all that it holds, stays away, and
tries again. This is the back-off of stations that share a wire: how long a job holds on and stays away depends on its uid and the
attempt, so that no two do the same, and it stays away twice as long each time, until those that are there fit.

A job that holds nothing is in nobody's way, waits, and is left to `deadlines.schedulingSeconds`. But one that has given back before
leaves with nothing, too: its waiting Pods would take a part of whatever becomes free, and then none of many jobs gets it whole.
"""

import hashlib
from datetime import datetime

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Reason

from .deadlines import scheduler_text, unscheduled
from .failures import taken_away
from .restarts import give_up
from .times import to_text
from .view import View, change, later, succeeded

# kube-scheduler looks again at a Pod that found no node 10 s later at the latest (podMaxBackoffSeconds): whoever waits for
# what we release must have had it in hand before we ask for it again.
SCHEDULER_SECONDS = 10
_MAX_DOUBLINGS = 4
MAX_AWAY_SECONDS = 2 * SCHEDULER_SECONDS << _MAX_DOUBLINGS


def release(view: View, status: Status) -> Status:
    """Ends an attempt of which a part has held nodes for too long."""
    waiting = _waits_in_vain(view, status)
    status = change(status, hold_time=(status.hold_time or to_text(view.now)) if waiting else None)
    due = release_due(view, status)
    if due is None or due > view.now:
        return status
    failure = taken_away(Reason.UNSCHEDULABLE, waiting[0], scheduler_text(view, status))
    away = SCHEDULER_SECONDS << min(status.restarts.recent, _MAX_DOUBLINGS)
    # The time in which all workers must be scheduled goes on.
    return change(
        give_up(view, status, failure, away * (1 + _share(view, status))), scheduling_time=status.scheduling_time
    )


def release_due(view: View, status: Status) -> datetime | None:
    """When the nodes are given back; None while none is held in vain."""
    return later(status.hold_time, view.spec.deadlines.hold_seconds * (1 + _share(view, status)))


def _waits_in_vain(view: View, status: Status) -> list[int]:
    """Workers that the scheduler has no node for, if others of the job hold one, or the last attempt ended for that.

    None if a worker is done already: then they are not coupled. A program that must not be started twice is not released either.
    """
    command = view.spec.workload.command
    if status.start_time is None or succeeded(status) or (command and not command.restartable):
        return []
    workers = view.workers(status)
    if not (_has_given_way(status) or any(pod.is_scheduled and pod.is_live for pod in workers.values())):
        return []
    return [i for i in unscheduled(view, status) if (pod := workers.get(i)) and pod.unschedulable is not None]


def _has_given_way(status: Status) -> bool:
    failure = status.last_failure
    return failure is not None and (failure.class_, failure.attempt) == (Reason.UNSCHEDULABLE, status.attempt - 1)


def _share(view: View, status: Status) -> float:
    """From 0 to 1, another one for each job and attempt."""
    digest = hashlib.sha256(f"{view.job.uid}/{status.attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
