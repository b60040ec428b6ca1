"""Deadlines: running time, scheduling, image pull. Each is a pair: what is over, and when that will be.

All start from a stored time, so they end on time also after the operator was away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Reason

from .attempts import fail
from .facts import is_blocked_start
from .view import View, count, earliest, in_one_line, later, succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """`due` gives the end of the time, or None if the clock does not run; `message` is asked for when it is over."""

    due: Callable[[View, Status], datetime | None]
    reason: Reason
    message: Callable[[View, Status], str]


def meet_deadlines(view: View, status: Status) -> Status:
    """Fails the job if a time is over."""
    for deadline in DEADLINES:
        due = deadline.due(view, status)
        if due is not None and due <= view.now:
            return fail(view, status, deadline.reason, deadline.message(view, status))
    return status


def next_deadline(view: View, status: Status) -> datetime | None:
    return earliest(deadline.due(view, status) for deadline in DEADLINES)


def _active_due(view: View, status: Status) -> datetime | None:
    limit = view.spec.deadlines.active_seconds
    if limit is None or status.start_time is None:
        return None
    if status.active_seconds >= limit:
        return view.now
    return later(status.running_time, limit - status.active_seconds)


def _active_message(view: View, status: Status) -> str:
    return f"ran for deadlines.activeSeconds ({view.spec.deadlines.active_seconds} s) without an end"


def _scheduling_due(view: View, status: Status) -> datetime | None:
    if status.start_time is None or not unscheduled(view, status):
        return None
    return later(status.scheduling_time, view.spec.deadlines.scheduling_seconds)


def _scheduling_message(view: View, status: Status) -> str:
    waiting = count(len(unscheduled(view, status)), "worker")
    limit = view.spec.deadlines.scheduling_seconds
    text = f"{waiting} had no node after deadlines.schedulingSeconds ({limit} s)"
    return text + (f": {words}" if (words := scheduler_text(view, status)) else "")


def unscheduled(view: View, status: Status) -> list[int]:
    """Workers that no node has, also those whose Pods do not exist yet. None once all have run."""
    if status.running_time is not None:
        return []
    workers, done = view.workers(status), succeeded(status)
    placed = {index for index, pod in workers.items() if pod.is_scheduled} | done
    return [index for index in range(status.workers.desired) if index not in placed]


def scheduler_text(view: View, status: Status) -> str:
    """Why the first of the unscheduled workers has no node, in the scheduler's words; empty if it has said nothing."""
    workers = view.workers(status)
    texts = (pod.unschedulable for index in unscheduled(view, status) if (pod := workers.get(index)))
    return in_one_line(next((text for text in texts if text is not None), ""))


def _pull_due(view: View, status: Status) -> datetime | None:
    return later(status.waiting_time, view.spec.deadlines.image_pull_seconds)


def blocked_start_text(view: View, status: Status) -> str:
    """Which worker cannot start and why, in the kubelet's words."""
    blocked = [pod for _, pod in sorted(view.workers(status).items()) if is_blocked_start(pod)]
    if not blocked or blocked[0].waiting is None:
        return ""
    waiting, index = blocked[0].waiting, blocked[0].index
    return f"worker {index} cannot start: {waiting.reason}" + (f": {waiting.message}" if waiting.message else "")


DEADLINES = (
    Deadline(due=_active_due, reason=Reason.DEADLINE_EXCEEDED, message=_active_message),
    Deadline(due=_scheduling_due, reason=Reason.DEADLINE_EXCEEDED, message=_scheduling_message),
    Deadline(due=_pull_due, reason=Reason.IMAGE_PULL_FAILED, message=blocked_start_text),
)
