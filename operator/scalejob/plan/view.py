"""What policies look at, and how they change a status.

A policy is a function `(view, status) -> status`. It reads what was seen from `view`, and durable facts from `status`,
which the policies before it may have changed; `view.job.status` is the stored one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scalejob.api.v1alpha1 import Spec, Status

from .indices import from_ranges
from .model import Job, Pod, Refusal
from .times import from_text

MESSAGE_LIMIT = 1024  # characters of a message in a status; the CRD allows 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One look at a job. `pods` are all Pods that the job owns, of any attempt."""

    job: Job
    pods: tuple[Pod, ...]
    now: datetime
    refusal: Refusal | None = None

    @property
    def spec(self) -> Spec:
        return self.job.spec

    @property
    def is_suspended(self) -> bool:
        """The first generation of the spec is the one that was applied: no queue has touched it.

        A job that has begun without a queue and is given one goes on: the queue takes it back by `suspend` if it wants to.
        """
        is_untouched = self.job.generation == 1 and self.job.status.start_time is None
        return self.spec.suspend or (self.job.queue is not None and is_untouched)

    def workers(self, status: Status) -> dict[int, Pod]:
        """The Pods of the present attempt by index; those beyond its size are no workers."""
        size = status.workers.desired
        return {pod.index: pod for pod in self.pods if pod.attempt == status.attempt and pod.index < size}


def change(status: Status, **fields: Any) -> Status:
    """A copy of `status` with other values of some fields."""
    unknown = sorted(set(fields) - set(Status.model_fields))
    assert not unknown, f"no such fields of a status: {unknown}"
    return status.model_copy(update=fields)


def succeeded(status: Status) -> frozenset[int]:
    """Workers of the present attempt that are done for good, whether their Pods still exist or not."""
    return from_ranges(status.succeeded_indices)


def missing(view: View, status: Status) -> list[int]:
    """Workers that have no Pod and are not done."""
    workers, done = view.workers(status), succeeded(status)
    return [index for index in range(status.workers.desired) if index not in workers and index not in done]


def later(text: str | None, seconds: float | None) -> datetime | None:
    """`seconds` after a stored time; None if either is unset."""
    return None if text is None or seconds is None else from_text(text) + timedelta(seconds=seconds)


def earliest(times: Iterable[datetime | None]) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def in_one_line(text: str) -> str:
    """Text from elsewhere, made fit for a status."""
    line = " ".join(text.split())
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 3] + "..."


def count(number: int, noun: str) -> str:
    """1 worker, 2 workers."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
