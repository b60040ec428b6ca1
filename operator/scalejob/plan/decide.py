"""The planner: one job and its Pods in, one Plan out.

    policies   what was decided before and what is seen now -> durable facts (attempt, counters, verdict)
    actions    the facts -> Pods to delete, Pods to make, the next look
    describe   the facts -> phase, reason, conditions, counts

Asked again with its own answer stored and nothing else changed, it decides the same. What the caller has to guarantee:
the status is stored with the job's resourceVersion as precondition before anything else is done, and nothing is done if that
fails; `pods` holds every Pod of the job that this process, or the one that stored the status, has made or seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from scalejob.api.v1alpha1 import Progress, Status
from scalejob.contract import MANAGED_BY, Reason

from .attempts import begin, complete, fail, renew
from .cleanup import expiry, to_delete
from .clocks import believe_no_future
from .creation import creation_due, in_the_way, to_create
from .deadlines import meet_deadlines, next_deadline
from .environment import MAX_TASK_BYTES, task_text
from .events import events_between
from .facts import remember
from .gang import release, release_due
from .model import Job, Plan, Pod, Refusal
from .restarts import restart, settled
from .status import describe
from .suspend import suspend
from .times import seconds_between
from .view import View, earliest


def decide(
    job: Job,
    pods: Sequence[Pod],
    now: datetime,
    *,
    leftovers: Sequence[Pod] = (),
    progress: Progress | None = None,
    refusal: Refusal | None = None,
) -> Plan:
    """What to do about `job` now.

    `pods` are those that the job's uid owns, `leftovers` those of jobs of the same name that are gone. `progress` is what rank 0
    said last, if it was asked. `refusal` is why the API server would not take the Service or the Pods of the plan before: while
    the caller gives one, the answer makes none.
    """
    if job.spec.managed_by != MANAGED_BY or job.is_deleting:
        return Plan(status=job.status)
    view = View(job=job, pods=tuple(pods), now=now, refusal=refusal)
    facts = apply_policies(view)
    view = replace(view, refusal=refusal or in_the_way(job, facts, leftovers))
    status = describe(view, facts, progress)
    expires = expiry(view, status)
    return Plan(
        status=status,
        deletes=to_delete(view, status),
        creates=to_create(view, status),
        delete_job=expires is not None and expires <= now,
        events=events_between(job.status, status),
        requeue_after=_next_look(view, status),
    )


Policy = Callable[[View, Status], Status]


def _refuse(view: View, status: Status) -> Status:
    """What the API server calls invalid stays invalid."""
    if view.refusal is None or view.refusal.reason is not Reason.INVALID_SPEC:
        return status
    return fail(view, status, view.refusal.reason, view.refusal.message)


def _check_size(view: View, status: Status) -> Status:
    """No worker could start with a task that does not fit in a variable."""
    if status.created_time is not None or (size := len(task_text(view.spec))) <= MAX_TASK_BYTES:
        return status
    advice = "name fewer columns in data.features, or none for all"
    return fail(view, status, Reason.INVALID_SPEC, f"the task has {size} bytes, at most {MAX_TASK_BYTES} fit: {advice}")


POLICIES: tuple[Policy, ...] = (
    believe_no_future,
    begin,
    remember,
    complete,
    suspend,
    _check_size,
    _refuse,
    restart,
    renew,
    meet_deadlines,
    release,
)


def apply_policies(view: View) -> Status:
    """The durable facts after this look. Terminal is terminal: no policy sees a job that has ended."""
    status = view.job.status
    for policy in POLICIES:
        if status.phase.is_finished:
            return status
        status = policy(view, status)
    return status


def _next_look(view: View, status: Status) -> float | None:
    """Seconds until time alone may change the answer."""
    times = (
        creation_due(view, status),
        expiry(view, status),
        *(
            ()
            if status.phase.is_finished
            else (next_deadline(view, status), release_due(view, status), settled(view, status))
        ),
    )
    due = earliest(time for time in times if time is not None and time > view.now)
    return None if due is None else seconds_between(view.now, due)
