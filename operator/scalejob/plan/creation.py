"""Which Pods to make, and when.

**Never two attempts running.** The Pods of an attempt are made only when no Pod of another attempt is live, that is, when each
of them has ended, has been told to stop, or sits on a node that does not answer. Deletes and creates of two attempts
therefore never stand in one plan: the deletes must have been seen first.

A Pod that was told to stop is not waited for. Names and hosts differ from attempt to attempt, so an old rank is not met by a new
one; an old rank 0 that still writes during its grace period writes to a temporary name and renames, as the new one
does, and both write the same bytes; a ReadWriteOnce volume is handed over by Kubernetes itself, which keeps the new Pod
waiting. Waiting would cost the whole grace period after each failure, and for ever after the loss of a node. Programs of
`workload.command` that write to shared storage must end on SIGTERM, or write atomically; the documentation says so.

**Made once.** Until all Pods of an attempt have been seen (`created_time`), one that is not there has not been made; from then on
it was deleted, and the attempt is over (`restarts`). So a crash between two creates is no deletion, and a deletion is never
repaired by a lone new worker.

**All or none.** A job that is made anew under its name meets the Pods that its predecessor has left, and they go in any order.
Nothing is made until all names are free: else the first workers would be made, and taken back at the first name that is not.
"""

from collections.abc import Iterable
from datetime import datetime

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Reason

from .model import Job, Pod, Refusal
from .times import from_text
from .view import View, missing


def to_create(view: View, status: Status) -> tuple[int, ...]:
    """Indices of workers of the present attempt whose Pods to make now."""
    if not _is_due(view, status) or _has_live_rivals(view, status):
        return ()
    return tuple(missing(view, status))


def in_the_way(job: Job, status: Status, leftovers: Iterable[Pod]) -> Refusal | None:
    """What the API server would say, and from which Pod on is up to chance. The words stay the same while one after the other goes."""
    size = status.workers.desired
    if not any(pod.attempt == status.attempt and pod.index < size for pod in leftovers):
        return None
    message = f"Pods of an earlier ScaleJob {job.namespace}/{job.name} have not gone yet"
    return Refusal(reason=Reason.NAME_CONFLICT, message=message)


def creation_due(view: View, status: Status) -> datetime | None:
    """The end of the back-off, if it is still to come."""
    if status.phase.is_finished or status.attempt_time is None:
        return None
    return from_text(status.attempt_time)


def _is_due(view: View, status: Status) -> bool:
    if status.phase.is_finished or status.start_time is None:
        return False
    due = creation_due(view, status)
    return view.refusal is None and (due is None or due <= view.now)


def _has_live_rivals(view: View, status: Status) -> bool:
    return any(pod.is_live and pod.attempt != status.attempt for pod in view.pods)
