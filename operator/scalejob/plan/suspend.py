"""Suspension: the workers go, and the next attempt waits until the job is resumed.

A job with a queue (Kueue's label) that has not begun and whose spec nobody has changed since it was made counts as suspended, too:
its queue has not decided yet, and does so by `suspend`.

A suspended job has no `start_time`. Its `attempt` is the one that will start, so that all Pods there are belong to
earlier attempts and are deleted for that reason alone. `attempts.begin` is what resumes.
"""

from scalejob.api.v1alpha1 import Status, Workers

from .attempts import next_attempt
from .view import View, change


def suspend(view: View, status: Status) -> Status:
    if not view.is_suspended:
        return status
    if status.start_time is not None:
        status = next_attempt(view, status)
    return change(
        status, start_time=None, attempt_time=None, scheduling_time=None, workers=Workers(desired=view.spec.workers)
    )
