"""What follows from a lost worker: a new attempt for all, or the end of the job.

A worker that is lost is never replaced alone: its peers hold state of the same round and cannot go on without it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from scalejob.api.v1alpha1 import RestartCounts, Spec, Status
from scalejob.contract import Reason

from .attempts import fail, next_attempt, running_seconds
from .failures import Budget, Failure, Strength, find_failure
from .view import View, change, count

STABLE_SECONDS = 600  # running this long forgives earlier failures, as far as the back-off goes
# Kubelets report in any order, so a victim is often seen before the culprit.
SETTLE_SECONDS = 3
# Kubernetes needs 40 to 50 seconds to find a node silent, ranks less than 10 to find a peer so.
SILENCE_SECONDS = 60


def restart(view: View, status: Status) -> Status:
    """The verdict on the present attempt, if a worker of it is lost."""
    failure = None if status.start_time is None else find_failure(view, status)
    if failure is None or _is_settling(view, status, failure):
        return status
    return give_up(view, status, failure)


def give_up(view: View, status: Status, failure: Failure, more_seconds: float = 0) -> Status:
    """The present attempt ends by `failure`; the next one, if it may follow, begins `more_seconds` later than the back-off asks for."""
    status = change(status, last_failure=failure.to_status(status.attempt, view.now))
    verdict = _reason_to_stop(view, status, failure)
    if verdict is not None:
        return fail(view, status, *verdict)
    counts = _counted(view, status, failure)
    waits = failure.budget is Budget.FAILURES or status.running_time is None
    wait = backoff_seconds(view.spec, counts.recent) if waits else 0
    return change(next_attempt(view, status, wait + more_seconds), restarts=counts)


def settled(view: View, status: Status) -> datetime | None:
    """When a verdict is due that waits for a better explanation."""
    failure = None if status.start_time is None else find_failure(view, status)
    return _settle_end(failure) if failure and _is_settling(view, status, failure) else None


def backoff_seconds(spec: Spec, num_recent: int) -> int:
    """Doubles from backoffSeconds to backoffMaxSeconds: `num_recent` is 1 for the first of a series."""
    doublings = min(max(num_recent - 1, 0), 32)
    return min(spec.restarts.backoff_seconds << doublings, spec.restarts.backoff_max_seconds)


def _is_settling(view: View, status: Status, failure: Failure) -> bool:
    """Only a victim has been seen so far, and a worker that may be the culprit is still there.

    The end is by the clock of a node: one that lies far ahead is wrong, and not waited for.
    """
    end = _settle_end(failure)
    is_last = not any(pod.is_live for pod in view.workers(status).values())
    is_soon = end is not None and 0 < (end - view.now).total_seconds() <= 2 * _patience(failure)
    return failure.strength.is_victims and not is_last and is_soon


def _settle_end(failure: Failure) -> datetime | None:
    return None if failure.finished is None else failure.finished + timedelta(seconds=_patience(failure))


def _patience(failure: Failure) -> int:
    return SILENCE_SECONDS if failure.strength is Strength.PEER_SILENT else SETTLE_SECONDS


def _counted(view: View, status: Status, failure: Failure) -> RestartCounts:
    counts = status.restarts
    recent = 0 if running_seconds(view, status) >= STABLE_SECONDS else counts.recent
    return RestartCounts(
        failures=counts.failures + (failure.budget is Budget.FAILURES),
        disruptions=counts.disruptions + (failure.budget is Budget.DISRUPTIONS),
        total=counts.total + 1,
        out_of_memory=counts.out_of_memory + (failure.reason is Reason.OOM_KILLED),
        recent=recent + 1,
    )


Verdict = tuple[Reason, str]


def _reason_to_stop(view: View, status: Status, failure: Failure) -> Verdict | None:
    """Why no attempt may follow; None if one may."""
    return next((verdict for rule in STOPS if (verdict := rule(view, status, failure))), None)


def _no_retry_can_help(view: View, status: Status, failure: Failure) -> Verdict | None:
    return (failure.reason, failure.sentence) if failure.is_final else None


def _is_not_restartable(view: View, status: Status, failure: Failure) -> Verdict | None:
    command = view.spec.workload.command
    if command is None or command.restartable:
        return None
    return failure.reason, f"{failure.sentence}; workload.command.restartable is false"


def _ran_out_of_memory_again(view: View, status: Status, failure: Failure) -> Verdict | None:
    if failure.reason is not Reason.OOM_KILLED or status.restarts.out_of_memory == 0:
        return None
    return failure.reason, f"{failure.sentence}; again: raise pod.resources.limits.memory, or use more workers"


def _failed_the_same_way_again(view: View, status: Status, failure: Failure) -> Verdict | None:
    """The same exception at the same step in two attempts in a row. Compared with the stored failure, not with `status`."""
    before = view.job.status.last_failure
    is_same = (
        before is not None
        and failure.reason is Reason.USER_ERROR
        and failure.strength is Strength.OWN_ERROR
        and failure.step is not None
        and (before.class_, before.attempt, before.step, before.message)
        == (failure.reason, status.attempt - 1, failure.step, _stored_words(status))
    )
    if not is_same:
        return None
    return Reason.DETERMINISTIC_ERROR, f"twice at step {failure.step}: {failure.sentence}"


def _stored_words(status: Status) -> str:
    return status.last_failure.message if status.last_failure else ""


def _budget_is_used_up(view: View, status: Status, failure: Failure) -> Verdict | None:
    used: int = getattr(status.restarts, failure.budget)
    limit = getattr(view.spec.restarts, failure.budget)
    if limit == "unlimited" or used < limit:
        return None
    allowed = f"restarts.{failure.budget} allows {limit or 'none'}"
    return Reason.RESTART_LIMIT_EXCEEDED, f"{count(used, 'restart')} used, {allowed}; {failure.sentence}"


Stop = Callable[[View, Status, Failure], Verdict | None]
STOPS: tuple[Stop, ...] = (
    _no_retry_can_help,
    _is_not_restartable,
    _ran_out_of_memory_again,
    _failed_the_same_way_again,
    _budget_is_used_up,
)
