"""Stores the status: only if it differs, with the resourceVersion as precondition, and not more often than people can read."""

import logging
import time
from collections.abc import Callable
from typing import Any

from scalejob.api.v1alpha1 import Status
from scalejob.contract import API_VERSION, PLURAL
from scalejob.kube.client import Client, Resource
from scalejob.plan.model import Job, Plan, Unreadable

from .jobs import JobStore, key_of

logger = logging.getLogger(__name__)

SCALEJOBS = Resource(API_VERSION, PLURAL)

# How long after the last write a change may wait. Fields that are not named hold decisions: at once. That a worker has succeeded
# must be stored before its Pod may vanish.
_MAY_WAIT_SECONDS = {
    "progress": 5.0,
    "workers": 1.0,
    "message": 1.0,
    "conditions": 1.0,
    "cost": 1.0,
    "duration": 1.0,
    "succeeded_indices": 0.2,
}

# How long a change that may wait does so in any case: the workers of one job end together, and share a write.
_GATHER_SECONDS = 0.2


class StatusWriter:
    """One PATCH of `status` per reconcile at most."""

    def __init__(self, client: Client, jobs: JobStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._jobs = jobs
        self._clock = clock
        self._written_at: dict[str, float] = {}
        self._waiting_since: dict[str, float] = {}
        self._dropped: set[str] = set()

    def delay(self, job: Job, plan: Plan) -> float:
        """Seconds for which the whole plan may wait: it changes nothing but figures, and others may change in a moment."""
        if plan.deletes or plan.creates or plan.delete_job or plan.events or job.status == plan.status:
            return 0.0
        key, seconds, now = key_of(job.namespace, job.name), may_wait(job.status, plan.status), self._clock()
        since = self._waiting_since.setdefault(key, now)
        due = max(since + min(seconds, _GATHER_SECONDS), self._written_at.get(key, since - seconds) + seconds)
        return max(0.0, due - now)

    async def store(self, job: Job | Unreadable, status: Status) -> Job | Unreadable:
        """The job as the API server holds it now. Raises Conflict if it has changed since it was read."""
        before = job.status.to_wire()
        patch = {
            "metadata": {"resourceVersion": job.resource_version},
            "status": merge_patch(before, status.to_wire()),
        }
        body = await self._client.merge_patch(SCALEJOBS, job.namespace, job.name, patch, subresource="status")
        key = key_of(job.namespace, job.name)
        self._written_at[key] = self._clock()
        self._waiting_since.pop(key, None)
        self._tell_of_dropped(status.to_wire().keys() - body.get("status", {}).keys())
        return self._jobs.put_own(body)

    def _tell_of_dropped(self, names: set[str]) -> None:
        """Once of each. What starts from a time that is not stored never ends, so somebody should know."""
        if news := names - self._dropped:
            self._dropped |= news
            advice = "apply the CustomResourceDefinition of this release"
            logger.warning(
                "the API server drops fields of the status", extra={"fields": sorted(news), "advice": advice}
            )

    def forget(self, key: str) -> None:
        """The job is gone."""
        self._written_at.pop(key, None)
        self._waiting_since.pop(key, None)


def may_wait(old: Status, new: Status) -> float:
    """Seconds that the change from `old` to `new` may wait, by the most urgent field."""
    changed = [name for name in Status.model_fields if getattr(old, name) != getattr(new, name)]
    return min((_MAY_WAIT_SECONDS.get(name, 0.0) for name in changed), default=0.0)


def merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """All of `new`, and null for what only `old` has.

    Not the difference: defaults of the models are in `old` even where the stored object lacks them.
    """
    gone = {name: None for name in old if name not in new}
    return gone | {name: _merge_value(old.get(name), value) for name, value in new.items()}


def _merge_value(old: Any, new: Any) -> Any:
    return merge_patch(old, new) if isinstance(old, dict) and isinstance(new, dict) else new
