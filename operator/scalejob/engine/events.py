"""Kubernetes Events: what people see in `kubectl describe`. A job may tell the same for ever; the API server does not hear it each time.

* The same reason and message of a job within ten minutes is one Event, which counts up.
* For one reason of one job there are 10 writes, then one each five minutes. What is told in between is lost, but that the
  same words again are counted with the next write. So a job that flaps costs 22 writes in its first hour and 12 in each one after, for
  each of its reasons, and there are few; what it says for another reason, its end above all, is told at once.
* A few are sent at once, those of one job one after the other: a thousand jobs that start tell two thousand, which a single sender
  takes minutes for, and Pods and status have most of the API server still.
* An Event that cannot be sent is tried three times, then dropped, with a line in the log.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from scalejob.contract import API_VERSION, FIELD_MANAGER, KIND
from scalejob.kube.backoff import backoff
from scalejob.kube.client import EVENTS, Client
from scalejob.kube.errors import AlreadyExists, ApiError, NotFound, ServerError, Unreachable
from scalejob.plan.model import Event, Job, Unreadable

logger = logging.getLogger(__name__)

_SAME_SECONDS = 600.0
_MAX_REMEMBERED = 4096
_SENDERS = 4
_MAX_WAITING = 256  # for each of them
_MAX_MESSAGE = 1024  # bytes; the API server refuses more
_BURST = 10.0  # writes for a job and a reason, before
_REFILL_SECONDS = 300.0  # pass for each one more; a spammer's share of client-go's recorder
_TRIES = 3
_RETRY_SECONDS = (1.0, 10.0)

_Identity = tuple[str, str, str, str]  # uid, type, reason, message
_Topic = tuple[str, str]  # uid, reason
_Queue = asyncio.Queue[tuple[Job | Unreadable, Event]]
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(slots=True, kw_only=True)
class _Told:
    """An Event object that exists, how often it was told, and when it was last written."""

    name: str
    count: int
    at: float


@dataclass(slots=True, kw_only=True)
class _Allowance:
    """A token bucket."""

    tokens: float
    at: float

    def take(self, now: float) -> bool:
        """Whether there was one left."""
        self.tokens = min(_BURST, self.tokens + (now - self.at) / _REFILL_SECONDS)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class EventRecorder:
    """`record` never waits and never fails: an Event that is lost is no harm, a job that waits for one is."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._waiting: list[_Queue] = [asyncio.Queue(_MAX_WAITING) for _ in range(_SENDERS)]
        self._told: OrderedDict[_Identity, _Told] = OrderedDict()
        self._allowances: OrderedDict[_Topic, _Allowance] = OrderedDict()

    def record(self, job: Job | Unreadable, events: Sequence[Event]) -> None:
        """Tell of them soon."""
        waiting = self._waiting[hash(job.uid) % _SENDERS]
        for event in events:
            try:
                waiting.put_nowait((job, event))
            except asyncio.QueueFull:
                logger.warning("event dropped", extra=_fields(job, event))

    async def sent(self) -> None:
        """Until all that was recorded has been sent or dropped."""
        await asyncio.gather(*(waiting.join() for waiting in self._waiting))

    async def run(self) -> None:
        """Send what was recorded until cancelled."""
        await asyncio.gather(*map(self._send_all, self._waiting))

    async def _send_all(self, waiting: _Queue) -> None:
        """One after the other."""
        while True:
            job, event = await waiting.get()
            try:
                await self._send(job, event)
            except ApiError as error:
                logger.warning("event not sent", extra={**_fields(job, event), "error": str(error)})
            finally:
                waiting.task_done()

    async def _send(self, job: Job | Unreadable, event: Event) -> None:
        identity = (job.uid, event.type, event.reason, event.message)
        told = self._told.get(identity)
        if told and self._clock() - told.at >= _SAME_SECONDS:
            told = None
        if told:
            told.count += 1
        if not self._may_write((job.uid, event.reason)):
            return
        if told and await self._repeat(job, told):
            return
        name = f"{job.name}.{uuid.uuid4().hex[:16]}"
        await _patiently(lambda: self._create(job, _body(job, event, name)))
        _remember(self._told, identity, _Told(name=name, count=1, at=self._clock()))

    def _may_write(self, topic: _Topic) -> bool:
        now = self._clock()
        allowance = self._allowances.get(topic) or _Allowance(tokens=_BURST, at=now)
        _remember(self._allowances, topic, allowance)
        return allowance.take(now)

    async def _create(self, job: Job | Unreadable, body: dict[str, Any]) -> None:
        """The name is random: one that exists is ours, and only the answer was lost."""
        with contextlib.suppress(AlreadyExists):
            await self._client.create(EVENTS, job.namespace, body)

    async def _repeat(self, job: Job | Unreadable, told: _Told) -> bool:
        """Tell how often it was told by now. False if the Event has expired."""
        patch = {"count": told.count, "lastTimestamp": _now()}
        try:
            await _patiently(lambda: self._client.merge_patch(EVENTS, job.namespace, told.name, patch))
        except NotFound:
            return False
        told.at = self._clock()
        return True


async def _patiently(write: Callable[[], Awaitable[object]]) -> None:
    """Try again what may succeed then, but not for ever: others wait. (The client itself waits where it is told to.)"""
    for failures in range(1, _TRIES):
        try:
            await write()
        except (Unreachable, ServerError):
            await asyncio.sleep(backoff(failures, *_RETRY_SECONDS))
        else:
            return
    await write()


def _remember(memory: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    """As the latest; the oldest is forgotten if there are too many."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _MAX_REMEMBERED:
        memory.popitem(last=False)


def _fields(job: Job | Unreadable, event: Event) -> dict[str, Any]:
    """Of a line of the log."""
    return {
        "job": f"{job.namespace}/{job.name}",
        "uid": job.uid,
        "attempt": job.status.attempt,
        "reason": event.reason,
    }


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
