"""The story of one look at a job, at debug: what was seen, what was decided, each request (told by the client), how long it took.

All lines of one look have the same `reconcile`. At any other level nothing is put together.
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from scalejob.api.v1alpha1 import Status
from scalejob.plan.model import Job, Plan, Pod, Unreadable

from .logs import log_fields

logger = logging.getLogger(__name__)

_MAX_NAMES = 20  # of the Pods in one line


@contextmanager
def look(key: str, job: Job | Unreadable | None) -> Iterator[None]:
    """Whatever is logged inside, at any level, names the job and this look at it."""
    known = {"uid": job.uid, "attempt": job.status.attempt} if job else {}
    started = time.monotonic()
    with log_fields(reconcile=secrets.token_hex(4), job=key, **known):
        try:
            yield
        finally:
            logger.debug("looked", extra={"ms": milliseconds(started)})


def saw(job: Job | Unreadable, pods: Sequence[Pod]) -> None:
    """What the planner gets."""
    if logger.isEnabledFor(logging.DEBUG):
        present = Counter(pod.phase for pod in pods if pod.attempt == job.status.attempt)
        extra = {
            "version": job.resource_version,
            "generation": job.generation,
            "phase": job.status.phase,
            "pods": dict(present),
            "pods_of_others": len(pods) - present.total() or None,
        }
        logger.debug("saw", extra=extra)


def decided(job: Job | Unreadable, plan: Plan) -> None:
    """What the planner says; empty parts are left out."""
    if logger.isEnabledFor(logging.DEBUG):
        extra = {
            "status": _changes(job.status, plan.status) or None,
            "deletes": [pod.name for pod in plan.deletes[:_MAX_NAMES]] or None,
            "num_deletes": len(plan.deletes) or None,
            "creates": list(plan.creates[:_MAX_NAMES]) or None,
            "num_creates": len(plan.creates) or None,
            "events": [event.reason for event in plan.events] or None,
            "delete_job": plan.delete_job or None,
            "again_after": plan.requeue_after,
        }
        logger.debug("decided", extra=extra)


def milliseconds(since: float) -> float:
    """Since a time of the monotonic clock."""
    return round(1000 * (time.monotonic() - since), 3)


def _changes(old: Status, new: Status) -> dict[str, object]:
    """The fields that differ, as they will be."""
    before, after = old.to_wire(), new.to_wire()
    return {name: after.get(name) for name in before | after if before.get(name) != after.get(name)}
