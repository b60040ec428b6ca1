"""The life of attempts: the first begins, one ends and the next follows, the last one ends the job.

The number of the attempt, the counters and the cost are changed here only, together, so that one write of the status
holds all of a verdict: whoever reads it later finds either nothing or everything, and counts nothing twice.
"""

import hashlib
import json

from scalejob.api.v1alpha1 import Cost, Spec, Status, Workers
from scalejob.api.v1alpha1.spec import IMMUTABLE_WHILE_RUNNING
from scalejob.contract import Phase, Reason

from .model import Pod
from .times import from_text, in_words, seconds_between, to_text, to_text_after
from .view import View, change, count, in_one_line, succeeded


def begin(view: View, status: Status) -> Status:
    """A new job, or one that is suspended no more, starts its present attempt.

    `start_time` is stored before the first Pod is made: without it, no Pod of this attempt can exist.
    """
    if view.is_suspended or status.start_time is not None:
        return status
    now = to_text(view.now)
    return change(
        status,
        start_time=now,
        attempt_time=now,
        scheduling_time=now,
        template=template_of(view.spec),
        workers=Workers(desired=view.spec.workers),
    )


def next_attempt(view: View, status: Status, wait_seconds: float = 0) -> Status:
    """The present attempt is over; the next one may begin after `wait_seconds`, at the size that the spec has now."""
    begins = to_text_after(view.now, wait_seconds)
    return change(
        _settle_accounts(view, status, is_wasted=True),
        attempt=status.attempt + 1,
        attempt_time=begins,
        scheduling_time=begins,
        hold_time=None,
        template=template_of(view.spec),
        created_time=None,
        running_time=None,
        waiting_time=None,
        workers=Workers(desired=view.spec.workers),
        succeeded_indices="",
        progress=None,
        result=None,
    )


def renew(view: View, status: Status) -> Status:
    """No running rank can take over another world size, nor anything else that it was made from.

    The latter changes only with a suspension; that may be over before the operator has seen it.
    """
    is_same = status.workers.desired == view.spec.workers and not _is_edited(view, status)
    return status if status.start_time is None or is_same else next_attempt(view, status)


def _is_edited(view: View, status: Status) -> bool:
    if view.job.generation == view.job.status.observed_generation or status.template is None:
        return False
    return status.template != template_of(view.spec)


def template_of(spec: Spec) -> str:
    """A digest of all from which workers are made, but for their number.

    Without what has its default, so that a field which a new release adds changes nothing.
    """
    fields = set(IMMUTABLE_WHILE_RUNNING)
    wire = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=fields)
    return hashlib.sha256(json.dumps(wire, sort_keys=True).encode()).hexdigest()[:16]


def complete(view: View, status: Status) -> Status:
    """All workers are done: the job has succeeded, whatever else is asked of it."""
    if status.start_time is None or len(succeeded(status)) < status.workers.desired:
        return status
    return _finish(view, status, Phase.SUCCEEDED, Reason.ALL_WORKERS_SUCCEEDED, _success(status))


def fail(view: View, status: Status, reason: Reason, message: str) -> Status:
    """The job has failed, for good."""
    return _finish(view, status, Phase.FAILED, reason, message)


def _success(status: Status) -> str:
    metrics = status.result.metrics if status.result else []
    figures = ", ".join(f"{metric.name}={metric.value}" for metric in metrics)
    return f"{count(status.workers.desired, 'worker')} succeeded" + (f": {figures}" if figures else "")


def _finish(view: View, status: Status, phase: Phase, reason: Reason, message: str) -> Status:
    start = from_text(status.start_time) if status.start_time else view.now
    return change(
        _settle_accounts(view, status, is_wasted=phase is Phase.FAILED),
        phase=phase,
        reason=reason,
        message=in_one_line(message),
        completion_time=to_text(view.now),
        hold_time=None,
        duration=in_words(seconds_between(start, view.now)),
        waiting_time=None,
    )


def _settle_accounts(view: View, status: Status, *, is_wasted: bool) -> Status:
    """Adds what the attempt used. Called once for each attempt, in the same write that ends it."""
    pod_seconds = round(sum(_lifetime(pod, view) for pod in view.workers(status).values()))
    gpus = view.spec.gpus.per_worker if view.spec.gpus else 0
    cost = status.cost
    return change(
        status,
        active_seconds=status.active_seconds + int(running_seconds(view, status)),
        cost=Cost(
            pod_seconds=cost.pod_seconds + pod_seconds,
            gpu_seconds=cost.gpu_seconds + pod_seconds * gpus,
            wasted_pod_seconds=cost.wasted_pod_seconds + (pod_seconds if is_wasted else 0),
        ),
    )


def _lifetime(pod: Pod, view: View) -> float:
    """Seconds from the kubelet's start of the Pod to its end."""
    if pod.started is None:
        return 0.0
    end = pod.terminated.finished if pod.terminated else None
    return seconds_between(pod.started, end or view.now)


def running_seconds(view: View, status: Status) -> float:
    """Seconds in which all workers of the present attempt have run."""
    return seconds_between(from_text(status.running_time), view.now) if status.running_time else 0.0
