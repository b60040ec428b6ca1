"""What people see in `kubectl describe`: one event for each turn that the stored status takes."""

from typing import Literal

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Reason

from .model import Event

_NORMAL = frozenset(
    (
        Reason.AS_EXPECTED,
        Reason.WORKERS_STARTING,
        Reason.ALL_WORKERS_RUNNING,
        Reason.ALL_WORKERS_SUCCEEDED,
        Reason.SUSPENDED,
        Reason.QUEUED,
        Reason.SCHEDULING_GATED,
    )
)


def events_between(before: Status, after: Status) -> tuple[Event, ...]:
    """None if the job goes on as it was; messages alone may change without an event."""
    if _turn(before) == _turn(after) or not after.reason:
        return ()
    kind: Literal["Normal", "Warning"] = "Normal" if after.reason in _NORMAL else "Warning"
    return (Event(type=kind, reason=after.reason, message=after.message or ""),)


def _turn(status: Status) -> tuple[object, ...]:
    return status.phase.is_finished, status.attempt, status.reason
