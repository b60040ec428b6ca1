"""A stored job that this version cannot read: it fails with the fields that are wrong, unless it has ended already."""

from collections.abc import Sequence
from datetime import datetime

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Condition, Phase, Reason

from .conditions import facts_of, stamp
from .events import events_between
from .model import Plan, Pod, PodRef, Unreadable
from .situation import Situation
from .status import at_rest
from .times import to_text
from .view import change, in_one_line


def decide_unreadable(job: Unreadable, now: datetime, pods: Sequence[Pod] = ()) -> Plan:
    """What to do about a job that does not parse.

    A status that does not parse is left as it is: it may hold the end of the job.
    """
    if not (job.is_status_readable and job.is_ours) or job.is_deleting:
        return Plan(status=job.status)
    status = job.status if job.status.phase.is_finished else _failed(job, job.status, now)
    return Plan(
        status=status,
        deletes=tuple(PodRef(name=pod.name, uid=pod.uid) for pod in pods if not (pod.is_over or pod.is_deleting)),
        events=events_between(job.status, status),
    )


def _failed(job: Unreadable, status: Status, now: datetime) -> Status:
    found = Situation(phase=Phase.FAILED, reason=Reason.INVALID_SPEC, message=in_one_line(job.message))
    scheduled = {Condition.SCHEDULED: (False, Reason.INVALID_SPEC, "")}
    return change(
        status,
        observed_generation=job.generation,
        phase=found.phase,
        reason=found.reason,
        message=found.message,
        completion_time=to_text(now),
        workers=at_rest(status.workers),
        conditions=stamp(scheduled | facts_of(found), status.conditions, now, job.generation),
    )
