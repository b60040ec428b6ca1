"""Events: told once, counted, and never many, however a job behaves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from scalejob.engine import events
from scalejob.engine.events import EventRecorder
from scalejob.plan.model import Event
from tests.unit.engine.memory_server import MemoryServer, Object, refusal
from tests.unit.plan.builders import make_job

JOB = make_job().build()
EVENT = Event(type="Warning", reason="Restarting", message="boom")
END = Event(type="Warning", reason="RestartLimitExceeded", message="3 restarts used")


@dataclass
class Telling:
    """A recorder whose clock the test sets. `tell` returns when all is sent."""

    server: MemoryServer
    recorder: EventRecorder
    now: list[float] = field(default_factory=lambda: [0.0])

    async def tell(self, *told: Event, job: Any = JOB) -> None:
        for event in told:
            self.recorder.record(job, [event])
            await self.recorder.sent()

    def counts(self) -> list[int]:
        """Of each Event that exists."""
        return sorted(event["count"] for event in self.server.of("events"))


@asynccontextmanager
async def telling() -> AsyncIterator[Telling]:
    server, now = MemoryServer(), [0.0]
    async with server.serving() as client:
        recorder = EventRecorder(client, lambda: now[0])
        task = asyncio.create_task(recorder.run())
        yield Telling(server, recorder, now)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def numbered(count: int) -> list[Event]:
    """The words differ each time, as those of attempts do."""
    return [Event(type="Warning", reason="Restarting", message=f"attempt {i} after UserError") for i in range(count)]


async def test_a_repeated_event_counts_up():
    """The same thing told three times is one Event with a count of three; another message is another Event."""
    async with telling() as t:
        await t.tell(EVENT, EVENT, EVENT, Event(type="Normal", reason="Started", message="x"))
        assert t.counts() == [1, 3]


async def test_recording_never_waits():
    """More events than can be sent are dropped, with a line in the log, not waited for."""
    async with MemoryServer().serving() as client:
        EventRecorder(client).record(JOB, [EVENT] * 3000)


async def test_events_of_a_job_keep_their_order():
    """Several are sent at once, but not of one job."""
    told = numbered(5)
    async with telling() as t:
        t.recorder.record(JOB, told)
        await t.recorder.sent()
        assert [event["message"] for event in t.server.of("events")] == [event.message for event in told]


async def test_jobs_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch):
    """While one job's Event is to be tried again in an hour, those of other jobs are sent."""
    monkeypatch.setattr(events, "_RETRY_SECONDS", (3600.0, 3600.0))
    others = [replace(JOB, uid=f"uid-{i}") for i in range(40)]
    async with telling() as t:
        t.server.admit = refuse(1)
        t.recorder.record(JOB, [EVENT])
        for other in others:
            t.recorder.record(other, [END])
        async with asyncio.timeout(60):
            while not t.server.of("events"):  # noqa: ASYNC110 - the server has no signal for it
                await asyncio.sleep(0.01)


async def test_after_ten_minutes_it_is_told_anew():
    """An Event of a new time; the old one stays as it was."""
    async with telling() as t:
        await t.tell(EVENT, EVENT)
        t.now[0] += 600
        await t.tell(EVENT)
        assert t.counts() == [1, 2]


async def test_an_event_that_has_expired_is_made_anew():
    """The API server keeps Events for an hour or less."""
    async with telling() as t:
        await t.tell(EVENT)
        t.server.objects.clear()
        await t.tell(EVENT)
        assert t.counts() == [1]


async def test_the_same_again_and_again_costs_few_writes():
    """Nothing that was told is missing in the count once there may be a write again."""
    async with telling() as t:
        await t.tell(*[EVENT] * 100)
        assert len(t.server.writes) == 10
        t.now[0] += 300
        await t.tell(EVENT)
        assert (len(t.server.writes), t.counts()) == (11, [101])


async def test_a_job_that_flaps_makes_few_events():
    """One attempt a second, each with words of its own, for an hour."""
    async with telling() as t:
        for event in numbered(3600):
            await t.tell(event)
            t.now[0] += 1
        assert len(t.server.writes) == len(t.counts()) <= 22


async def test_its_end_is_told_all_the_same():
    """Nor does another job suffer."""
    async with telling() as t:
        await t.tell(*numbered(50), END)
        await t.tell(EVENT, job=make_job().metadata(uid="other").build())
        reasons = [event["reason"] for event in t.server.of("events")]
        assert reasons == ["Restarting"] * 10 + ["RestartLimitExceeded", "Restarting"]


def refuse(times: int, answer: web.Response | None = None) -> Callable[[str, Object], web.Response | None]:
    """An API server that refuses some writes before it takes one."""
    left = [times]

    def admit(_plural: str, _body: Object) -> web.Response | None:
        left[0] -= 1
        return (answer or refusal(500, "InternalError", "etcd")) if left[0] >= 0 else None

    return admit


@pytest.mark.parametrize(("refusals", "want"), [(2, [1]), (3, [])])
async def test_tries_are_bounded(monkeypatch: pytest.MonkeyPatch, refusals: int, want: list[int]):
    """Three, then it is dropped and the next one has its turn."""
    monkeypatch.setattr(events, "_RETRY_SECONDS", (0.001, 0.001))
    async with telling() as t:
        t.server.admit = refuse(refusals)
        await t.tell(EVENT)
        assert t.counts() == want
        await t.tell(END)
        assert t.counts() == [*want, 1]


async def test_what_is_forbidden_is_not_tried_again():
    """A namespace that is being deleted takes no Events."""
    async with telling() as t:
        t.server.admit = refuse(1, refusal(403, "Forbidden", "the namespace is being terminated"))
        await t.tell(EVENT)
        assert (len(t.server.writes), t.counts()) == (1, [])


async def test_a_lost_answer_is_not_told_twice(monkeypatch: pytest.MonkeyPatch):
    """The Event was made: the second try finds its name taken, and that is as good."""
    monkeypatch.setattr(events, "_RETRY_SECONDS", (0.001, 0.001))
    async with telling() as t:
        t.server.break_at = (0, "after")
        await t.tell(EVENT, EVENT)
        assert (len(t.server.writes), t.counts()) == (3, [2])
