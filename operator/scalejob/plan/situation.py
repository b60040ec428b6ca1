"""Phase, reason and message of a job that has not ended, in the order in which they matter to people."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Phase, Reason

from .deadlines import blocked_start_text, scheduler_text, unscheduled
from .facts import is_running
from .failures import find_failure
from .model import Job, Pod, Refusal
from .view import View, count, in_one_line, succeeded

REFUSALS = frozenset((Reason.NAME_CONFLICT, Reason.QUOTA_EXCEEDED, Reason.POLICY_DENIED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    phase: Phase
    reason: str
    message: str


def situation(view: View, status: Status) -> Situation:
    """Says nothing that time alone would change."""
    if status.phase.is_finished:
        return Situation(phase=status.phase, reason=status.reason or "", message=status.message or "")
    if status.start_time is None:
        return _suspended(view)
    if status.running_time is not None:
        return Situation(phase=Phase.RUNNING, reason=Reason.ALL_WORKERS_RUNNING, message=_running(view, status))
    reason, message = next(found for source in WAITING if (found := source(view, status)))
    return Situation(phase=_waiting_phase(view, status), reason=reason, message=in_one_line(message))


def _running(view: View, status: Status) -> str:
    """They all have run. One that is silent or lost may have no verdict yet."""
    workers, done = view.workers(status), succeeded(status)
    others = [pod for index, pod in workers.items() if index not in done and not is_running(pod)]
    size = count(status.workers.desired, "worker")
    if not others:
        return f"{size} running"
    failure = find_failure(view, status)
    words = failure.sentence if failure else _silence(others)
    return in_one_line(f"{status.workers.desired - len(others)} of {size} running; {words}")


def _silence(pods: Sequence[Pod]) -> str:
    """Kubelets say why a Pod is not ready. For one whose node is silent another says so, without a word."""
    first = min(pods, key=lambda pod: pod.index)
    who = f"worker {first.index} on {first.node}"
    words = f"{who} is not ready: {first.unready}" if first.unready else f"{who} gives no sign"
    return words if len(pods) == 1 else f"{words}; {len(pods) - 1} more"


def _suspended(view: View) -> Situation:
    if view.job.queue is None:
        return Situation(phase=Phase.SUSPENDED, reason=Reason.SUSPENDED, message="spec.suspend is true")
    message = f"waits until the queue {view.job.queue} admits it"
    return Situation(phase=Phase.SUSPENDED, reason=Reason.QUEUED, message=message)


def _waiting_phase(view: View, status: Status) -> Phase:
    if _is_after_failure(status):
        return Phase.RESTARTING
    return Phase.PENDING if status.created_time is None or unscheduled(view, status) else Phase.STARTING


def _is_after_failure(status: Status) -> bool:
    return status.last_failure is not None and status.last_failure.attempt == status.attempt - 1


Why = tuple[str, str]


def _refused(view: View, status: Status) -> Why | None:
    """A refusal stays in the status until all Pods are there: whether a new try succeeds is not known before it has."""
    stored = view.job.status
    if view.refusal is not None:
        is_known = stored.attempt == status.attempt and is_told(view.job, view.refusal)
        return view.refusal.reason, (stored.message or "") if is_known else view.refusal.message
    is_same_attempt = stored.attempt == status.attempt and status.created_time is None
    return (stored.reason or "", stored.message or "") if is_same_attempt and stored.reason in REFUSALS else None


def is_told(job: Job, refusal: Refusal) -> bool:
    """Whether the stored status tells of this refusal: which Pod meets it, and how much of a quota is used then, is up to chance."""
    chance = re.compile(rf'"{re.escape(job.name)}-\d+-\d+"|\bused: \S+')
    stored, found = (chance.sub("", in_one_line(text or "")) for text in (job.status.message, refusal.message))
    return (job.status.reason, stored) == (refusal.reason, found)


def _cannot_start(view: View, status: Status) -> Why | None:
    """Kubelets say ErrImagePull with the cause and ImagePullBackOff without it in turns: the cause stays."""
    text = blocked_start_text(view, status)
    worker, is_repeat, _ = text.partition(" cannot start: ImagePullBackOff")
    before = view.job.status.message or ""
    if is_repeat and before.startswith(f"{worker} cannot start: ErrImagePull"):
        text = before
    return (Reason.IMAGE_PULL_FAILED, text) if text else None


def _cannot_be_scheduled(view: View, status: Status) -> Why | None:
    text = scheduler_text(view, status)
    if not text:
        return None
    waiting = [pod for pod in view.workers(status).values() if pod.unschedulable is not None]
    size = status.workers.desired
    return Reason.UNSCHEDULABLE, f"{len(waiting)} of {count(size, 'worker')} cannot be scheduled: {text}"


def _is_gated(view: View, status: Status) -> Why | None:
    gated = [pod for pod in view.workers(status).values() if pod.gates]
    if not gated:
        return None
    names = ", ".join(sorted({name for pod in gated for name in pod.gates}))
    size = count(status.workers.desired, "worker")
    return Reason.SCHEDULING_GATED, f"{len(gated)} of {size} held by scheduling gates: {names}"


def _restarts(view: View, status: Status) -> Why | None:
    failure = status.last_failure
    if failure is None or not _is_after_failure(status):
        return None
    where = (
        "" if failure.index is None else f" of worker {failure.index}" + (f" on {failure.node}" if failure.node else "")
    )
    words = (
        f": {failure.message}" if failure.message else f" (exit code {failure.exit_code})" if failure.exit_code else ""
    )
    if failure.class_ == Reason.UNSCHEDULABLE:
        left = f"gave its nodes back for others; attempt {status.attempt} begins at {status.attempt_time}"
        return Reason.RESTARTING, f"{left}; worker {failure.index} found no node{words}"
    return Reason.RESTARTING, f"attempt {status.attempt} after {failure.class_}{where}{words}"


def _starts(view: View, status: Status) -> Why | None:
    """Why an attempt began is known only to the look that begins it; its words stay."""
    before, size = view.job.status, count(status.workers.desired, "worker")
    if (before.attempt, before.reason) == (status.attempt, Reason.WORKERS_STARTING):
        return Reason.WORKERS_STARTING, before.message or ""
    if before.attempt == status.attempt or before.start_time is None:
        return Reason.WORKERS_STARTING, f"waiting for {size} to start"
    if before.workers.desired == status.workers.desired:
        return Reason.WORKERS_STARTING, f"the spec has changed: attempt {status.attempt} with {size}"
    sizes = f"{size} in place of {before.workers.desired}"
    return Reason.WORKERS_STARTING, f"spec.workers has changed: attempt {status.attempt} with {sizes}"


WAITING: tuple[Callable[[View, Status], Why | None], ...] = (
    _refused,
    _cannot_start,
    _cannot_be_scheduled,
    _is_gated,
    _restarts,
    _starts,
)
