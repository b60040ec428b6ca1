"""Kubernetes Events: what people see in `kubectl describe`. Told at most once in ten minutes; a repetition counts up."""

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scalejob.contract import API_VERSION, FIELD_MANAGER, KIND
from scalejob.kube.client import EVENTS, Client
from scalejob.kube.errors import ApiError, NotFound
from scalejob.plan.model import Event, Job, Unreadable

logger = logging.getLogger(__name__)

_SAME_SECONDS = 600.0
_MAX_REMEMBERED = 4096
_MAX_WAITING = 1024
_MAX_MESSAGE = 1024  # bytes; the API server refuses more

_Identity = tuple[str, str, str, str]  # uid, type, reason, message


@dataclass(slots=True, kw_only=True)
class _Told:
    """An Event object that exists, and how often it was told."""

    name: str
    count: int
    at: float


class EventRecorder:
    """`record` never waits and never fails: an Event that is lost is no harm, a job that waits for one is."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._waiting: asyncio.Queue[tuple[Job | Unreadable, Event]] = asyncio.Queue(_MAX_WAITING)
        self._told: OrderedDict[_Identity, _Told] = OrderedDict()

    def record(self, job: Job | Unreadable, events: Sequence[Event]) -> None:
        """Tell of them soon."""
        for event in events:
            try:
                self._waiting.put_nowait((job, event))
            except asyncio.QueueFull:
                logger.warning("event dropped", extra={"job": f"{job.namespace}/{job.name}", "reason": event.reason})

    async def run(self) -> None:
        """Send what was recorded, one after the other, until cancelled."""
        while True:
            job, event = await self._waiting.get()
            try:
                await self._send(job, event)
            except ApiError as error:
                logger.warning("event not sent", extra={"reason": event.reason, "error": str(error)})

    async def _send(self, job: Job | Unreadable, event: Event) -> None:
        identity = (job.uid, event.type, event.reason, event.message)
        told = self._told.get(identity)
        if told and self._clock() - told.at < _SAME_SECONDS and await self._repeat(job, told):
            return
        name = f"{job.name}.{uuid.uuid4().hex[:16]}"
        await self._client.create(EVENTS, job.namespace, _body(job, event, name))
        self._remember(identity, _Told(name=name, count=1, at=self._clock()))

    async def _repeat(self, job: Job | Unreadable, told: _Told) -> bool:
        """Count up the Event that exists. False if it has expired."""
        patch = {"count": told.count + 1, "lastTimestamp": _now()}
        try:
            await self._client.merge_patch(EVENTS, job.namespace, told.name, patch)
        except NotFound:
            return False
        told.count += 1
        told.at = self._clock()
        return True

    def _remember(self, identity: _Identity, told: _Told) -> None:
        self._told[identity] = told
        self._told.move_to_end(identity)
        if len(self._told) > _MAX_REMEMBERED:
            self._told.popitem(last=False)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _body(job: Job | Unreadable, event: Event, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": job.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
            "resourceVersion": job.resource_version,
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message.encode()[:_MAX_MESSAGE].decode(errors="ignore"),
        "count": 1,
        "firstTimestamp": _now(),
        "lastTimestamp": _now(),
        "source": {"component": FIELD_MANAGER},
    }
