"""The status as people and tools read it: computed from durable facts and from what was seen.

A fixed point: described again with the same view, nothing changes; and nothing in it is changed by time alone, so that a
job that stays as it is costs no write.
"""

from scalejob.api.v1alpha1 import Progress, Status, Workers
from scalejob.contract import Phase

from .conditions import build_conditions
from .facts import is_running
from .names import selector_text
from .situation import situation
from .view import View, change, succeeded


def describe(view: View, status: Status, progress: Progress | None) -> Status:
    """Everything in the status that follows from the rest of it."""
    if view.job.status.phase.is_finished:
        return _with_generation(view, view.job.status)
    found, workers = situation(view, status), count_workers(view, status)
    status = change(
        status,
        observed_generation=view.job.generation,
        workload=view.spec.workload.name,
        phase=found.phase,
        reason=found.reason,
        message=found.message,
        conditions=build_conditions(view, status, found),
        workers=at_rest(workers) if found.phase.is_finished else workers,
    )
    return change(status, progress=_progress(status, progress))


def count_workers(view: View, status: Status) -> Workers:
    """The workers of the present attempt. One that is done is counted so whether its Pod still exists or not."""
    desired, done = status.workers.desired, succeeded(status)
    others = [pod for index, pod in view.workers(status).items() if index not in done]
    ready = sum(is_running(pod) for pod in others)
    failed = sum(pod.phase == "Failed" for pod in others)
    started = sum(pod.phase in ("Running", "Unknown") for pod in others)
    return Workers(
        desired=desired,
        pending=desired - len(done) - failed - started,
        ready=ready,
        succeeded=len(done),
        failed=failed,
        selector=selector_text(view.job.name),
        summary=f"{ready + len(done)}/{desired}",
    )


def at_rest(workers: Workers) -> Workers:
    """Those of a job that has ended: what still runs is told to stop, and nobody counts it afterwards."""
    return workers.model_copy(update={"pending": 0, "ready": 0, "summary": f"{workers.succeeded}/{workers.desired}"})


def _with_generation(view: View, status: Status) -> Status:
    """A finished job says that it has seen a change of its spec, and nothing else."""
    seen = view.job.generation
    conditions = [c.model_copy(update={"observed_generation": seen}) for c in status.conditions]
    return change(status, observed_generation=seen, conditions=conditions)


def _progress(status: Status, read: Progress | None) -> Progress | None:
    """The latest reading of this attempt; in the end, the first figure of the result."""
    progress = read if read is not None and status.running_time is not None else status.progress
    if status.phase is Phase.SUCCEEDED and status.result and status.result.metrics:
        metric = status.result.metrics[0]
        return (progress or Progress()).model_copy(update={"summary": f"{metric.name}={metric.value}"})
    return progress.model_copy(update={"summary": summarise(progress)}) if progress else None


def summarise(progress: Progress) -> str:
    """For the printed column: `fit 12/300 inertia=1.2e5`."""
    steps = "" if progress.step is None else f"{progress.step}" + (f"/{progress.of}" if progress.of else "")
    metric = f"{progress.metric}={progress.value}" if progress.metric and progress.value else ""
    return " ".join(filter(None, (progress.phase, steps, metric)))
