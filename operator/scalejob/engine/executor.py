"""Carries out a plan, in an order that a crash at any line cannot harm.

1. status      the verdict on an attempt is stored before anything is done about it, with the version it was made from
2. deletes     with the uid as precondition
3. Service, then Pods
4. events and metrics, since now it is a fact
5. the job itself, if its time has come
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from scalejob.api.v1alpha1 import Status
from scalejob.kube.client import Client
from scalejob.kube.errors import Conflict, NotFound
from scalejob.plan.model import Job, Plan, Pod, PodRef, Unreadable
from scalejob.plan.situation import is_told

from .events import EventRecorder
from .jobs import key_of
from .metrics import Metrics
from .status import SCALEJOBS, StatusWriter
from .workers import MAX_PER_PASS, Refused, Workers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What remains: seconds after which to look again, and what the API server held against the workers."""

    again_after: float | None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """Who tells people what has happened."""

    events: EventRecorder
    metrics: Metrics


class Executor:
    """The hands of the operator."""

    def __init__(self, client: Client, status: StatusWriter, workers: Workers, voices: Voices) -> None:
        self._client = client
        self._status = status
        self._workers = workers
        self._voices = voices

    async def carry_out(self, job: Job, pods: Sequence[Pod], plan: Plan) -> Outcome:
        """Raises Conflict or NotFound if the job is not what the plan was made from; nothing has been done then."""
        if delay := self._status.delay(job, plan):
            return Outcome(again_after=_sooner(delay, plan.requeue_after))
        stored = await self._store(job, plan)
        await self._workers.delete(job, plan.deletes[:MAX_PER_PASS])
        refused = await self._create(stored, pods, plan)
        if plan.delete_job:
            await self._client.delete(SCALEJOBS, job.namespace, job.name, uid=job.uid)
        return Outcome(again_after=plan.requeue_after, refused=refused)

    async def explain(self, job: Unreadable, plan: Plan) -> None:
        """The same for a job that nobody can read: its status says why, and its Pods end."""
        if job.status != plan.status:
            await self._status.store(job, plan.status)
            self._voices.events.record(job, plan.events)
        await self._workers.delete(job, plan.deletes[:MAX_PER_PASS])

    def forget(self, key: str) -> None:
        """The job is gone."""
        self._status.forget(key)
        self._workers.forget(key)

    async def _store(self, job: Job, plan: Plan) -> Job:
        """The job as the API server holds it now, proven to be alive if anything is to be created for it."""
        if job.status == plan.status:
            return await self._confirm(job) if plan.creates else job
        stored = await self._status.store(job, plan.status)
        self._voices.metrics.count_transition(job, plan.status)
        self._voices.events.record(job, plan.events)
        _log_transition(job, plan.status)
        if isinstance(stored, Unreadable):
            raise Conflict(f"{key_of(job.namespace, job.name)} has changed: {stored.message}")
        return stored

    async def _confirm(self, job: Job) -> Job:
        """A cache may show a job that was deleted, or another of the same name: no Pod is made for a ghost."""
        metadata = (await self._client.get(SCALEJOBS, job.namespace, job.name))["metadata"]
        if metadata["uid"] != job.uid:
            raise NotFound(f"{key_of(job.namespace, job.name)} is another job by now")
        if "deletionTimestamp" in metadata or metadata.get("generation", 0) != job.generation:
            raise Conflict(f"{key_of(job.namespace, job.name)} has changed")
        return job

    async def _create(self, job: Job, pods: Sequence[Pod], plan: Plan) -> Refused | None:
        """The next Pods of the plan; their echoes bring the job back for the rest."""
        indices = plan.creates[:MAX_PER_PASS]
        if not indices:
            return None
        earlier = [PodRef(name=pod.name, uid=pod.uid) for pod in pods if pod.attempt == job.status.attempt]
        refused = await self._workers.create(job, indices, earlier)
        if refused:
            why = refused.refusal
            level = logging.DEBUG if is_told(job, why) else logging.WARNING
            logger.log(level, "workers refused", extra={**_fields(job), "reason": why.reason, "why": why.message})
        return refused


def _sooner(first: float, second: float | None) -> float:
    return first if second is None else min(first, second)


def _fields(job: Job) -> dict[str, object]:
    return {"job": key_of(job.namespace, job.name), "attempt": job.status.attempt}


def _log_transition(job: Job, new: Status) -> None:
    old = job.status
    if (old.phase, old.reason, old.attempt) != (new.phase, new.reason, new.attempt):
        logger.info(
            "job is now %s", new.phase.value, extra={**_fields(job), "attempt": new.attempt, "reason": new.reason}
        )
