"""Which Pods to delete, and when the job itself goes.

Of earlier attempts, all; of the present one, those beyond its size; after the end of the job, those of which anything still
runs, be it a sidecar that holds the GPUs of its Pod, and of the others what `keepPods` does not keep.
"""

from datetime import datetime

from scalejob.api.v1alpha1 import KeepPods, Status

from .model import Pod, PodRef
from .view import View, later

_KEPT_PHASES = {
    KeepPods.NONE: (),
    KeepPods.FAILED: ("Failed",),
    KeepPods.ALL: ("Succeeded", "Failed"),
}


def to_delete(view: View, status: Status) -> tuple[PodRef, ...]:
    """Pods that nobody has told to stop yet and that have no part in the job any more."""
    return tuple(
        PodRef(name=pod.name, uid=pod.uid)
        for pod in view.pods
        if not pod.is_deleting and not _has_a_part(pod, view, status)
    )


def _has_a_part(pod: Pod, view: View, status: Status) -> bool:
    if pod.attempt != status.attempt or pod.index >= status.workers.desired:
        return False
    is_kept = pod.is_over and pod.phase in _KEPT_PHASES[view.spec.keep_pods]
    return is_kept or not status.phase.is_finished


def expiry(view: View, status: Status) -> datetime | None:
    """When the time to live after the end is over."""
    return later(status.completion_time, view.spec.ttl_seconds_after_finished)
