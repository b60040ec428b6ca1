"""/healthz fails for what a new process would mend, and for nothing else."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp
import pytest

from scalejob.engine.engine import Engine
from scalejob.engine.liveness import SECONDS, Answers, Debts, watches, works
from scalejob.engine.metrics import Metrics
from scalejob.engine.options import Options
from scalejob.kube.client import Client
from scalejob.kube.config import ClusterConfig
from scalejob.kube.workqueue import WorkQueue
from tests.unit.engine.cluster import KEY, job_body

BEGIN = 1000.0


@dataclass
class Clock:
    now: float = BEGIN

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class World:
    """The requests of a process, and its watch of Pods, silent since the beginning."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.answers = Answers(self.clock)
        self.heard: float | None = BEGIN
        self.check = watches(self.answers, "pods", lambda: self.heard)

    def asks(self, resource: str, code: int, *, every: float = 15.0, seconds: float, verb: str = "list") -> None:
        """For some time, at a steady pace."""
        for _ in range(int(seconds / every)):
            self.clock.pass_(every)
            self.answers.observe(verb, resource, code, 0.1)


class TestWatch:
    def test_is_dead_if_others_are_answered_for_long(self):
        """The text says for how long."""
        world = World()
        world.asks("scalejobs", 200, seconds=SECONDS - 15)
        assert world.check() is None
        world.asks("scalejobs", 200, seconds=15)
        assert world.check() == "silent, though the API server has answered for 300 s since"

    def test_lives_as_long_as_it_hears(self):
        """An event or a bookmark now and then is enough."""
        world = World()
        world.asks("leases", 200, seconds=10 * SECONDS)
        world.heard = world.clock.now - 60
        assert world.check() is None

    @pytest.mark.parametrize("code", [0, 429, 500, 503])
    def test_is_not_blamed_for_an_api_server_that_is_away(self, code: int):
        """However long, and whoever answers in its place; and not in the moment when it is back either."""
        world = World()
        world.asks("scalejobs", code, seconds=100 * SECONDS)
        assert world.check() is None
        world.asks("scalejobs", 200, seconds=SECONDS - 15)
        assert world.check() is None

    def test_is_not_blamed_if_nobody_asks(self):
        """An outage that begins right after the last answer looks like silence of the watch alone."""
        world = World()
        world.asks("scalejobs", 200, seconds=15)
        world.clock.pass_(10 * SECONDS)
        assert world.check() is None

    def test_is_not_its_own_witness(self):
        """Its list and its own requests say nothing of the others', neither good nor bad."""
        world = World()
        world.asks("pods", 200, seconds=2 * SECONDS)
        assert world.check() is None
        world.asks("leases", 200, seconds=SECONDS)
        world.asks("pods", 0, seconds=SECONDS)
        assert world.check() is not None

    def test_the_end_of_another_watch_is_no_answer(self):
        """It was answered when it began, and may have broken just now."""
        world = World()
        world.asks("leases", 200, seconds=2 * SECONDS, verb="watch")
        assert world.check() is None

    def test_owes_nothing_for_ever(self):
        """Without a sign that it is late it may be silent: of ScaleJobs nothing may happen for days."""
        world = World()
        world.heard = None
        world.asks("leases", 200, seconds=2 * SECONDS)
        assert world.check() is None


class TestDebts:
    @pytest.mark.parametrize(
        ("watched", "want"), [(None, None), ("a", None), ("b", BEGIN)], ids=["all", "its namespace", "another"]
    )
    def test_an_event_pays_those_of_its_watch(self, watched: str | None, want: float | None):
        """With one watch for each namespace only its own."""
        debts = Debts(lambda key: True, Clock())
        debts.owe(["a/job"])
        debts.pay(watched)
        assert debts.oldest == want

    def test_the_oldest_counts(self):
        """Each list that shows more news does not put it off."""
        clock = Clock()
        debts = Debts(lambda key: True, clock)
        debts.owe(["a/job"])
        clock.pass_(SECONDS)
        debts.owe(["a/job", "a/other"])
        assert debts.oldest == BEGIN

    def test_a_job_that_has_gone_is_owed_no_more(self):
        """It was deleted while the list was on its way, and the watch had told so before."""
        debts = Debts(lambda key: key != "a/job", Clock())
        debts.owe(["a/job"])
        assert debts.oldest is None


class TestWork:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def answers(self, clock: Clock) -> Answers:
        return Answers(clock)

    async def test_is_stuck_if_no_look_ends(self, clock: Clock, answers: Answers):
        """One job is looked at for ever, others wait."""
        queue = WorkQueue(clock)
        check = works(queue, answers, clock)
        for key in ("n/a", "n/b"):
            queue.add(key)
        await queue.get()
        clock.pass_(SECONDS - 1)
        assert check() is None
        clock.pass_(1)
        assert check() == "1 jobs wait, and no look at one has ended for 300 s"

    async def test_is_stuck_if_the_last_worker_never_ends(self, clock: Clock, answers: Answers):
        """Also if nothing else waits."""
        queue = WorkQueue(clock)
        queue.add("n/a")
        await queue.get()
        clock.pass_(SECONDS)
        assert works(queue, answers, clock)() is not None

    async def test_goes_on_while_one_worker_does(self, clock: Clock, answers: Answers):
        """A long queue is no stuck one."""
        queue = WorkQueue(clock)
        check = works(queue, answers, clock)
        for number in range(100):
            queue.add(f"n/{number}")
        for _ in range(99):
            clock.pass_(SECONDS - 1)
            assert check() is None
            queue.done(await queue.get())

    async def test_goes_on_while_pods_are_made(self, clock: Clock, answers: Answers):
        """All workers are with large jobs, and few requests per second are allowed."""
        queue = WorkQueue(clock)
        queue.add("n/a")
        await queue.get()
        for _ in range(3):
            clock.pass_(SECONDS - 1)
            answers.observe("create", "pods", 201, 0.1)
        assert works(queue, answers, clock)() is None

    async def test_an_idle_one_is_not_stuck(self, clock: Clock, answers: Answers):
        """Nor when the first job comes after days."""
        queue = WorkQueue(clock)
        check = works(queue, answers, clock)
        worker = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        clock.pass_(1000 * SECONDS)
        assert check() is None
        queue.add("n/a")
        assert queue.waiting_since == clock.now
        await worker

    async def test_a_replica_that_stands_by_is_not_stuck(self, clock: Clock, answers: Answers):
        """Keys wait in it for ever, and on its first day as the leader they have waited no time."""
        queue = WorkQueue(clock)
        check = works(queue, answers, clock)
        queue.add("n/a")
        queue.add("n/b")
        clock.pass_(1000 * SECONDS)
        assert check() is None
        await queue.get()
        assert check() is None


async def test_the_page_says_what_is_wrong(unused_tcp_port: int):
    """503 and a line for it; the watch of ScaleJobs has told nothing of a job that a list has shown."""
    clock = Clock()
    answers = Answers(clock)
    client = Client(ClusterConfig(server="http://127.0.0.1:1"))
    options = Options(trainer_image="trainer", metrics_port=unused_tcp_port)
    async with client:
        engine = Engine(options, client, Metrics(), answers=answers)
        engine._debts = Debts(lambda key: True, clock)
        async with engine.running():
            assert await _healthz(unused_tcp_port) == (200, "ok\n")
            engine._debts.owe([KEY])
            clock.pass_(SECONDS)
            answers.observe("list", "scalejobs", 200, 0.1)
            want = "watch of scalejobs: silent, though the API server has answered for 300 s since\n"
            assert await _healthz(unused_tcp_port) == (503, want)
            body = job_body()
            body["metadata"]["resourceVersion"] = "1"
            engine.see(None, body)
            assert await _healthz(unused_tcp_port) == (200, "ok\n")


async def test_the_page_knows_all_that_must_go_on(unused_tcp_port: int):
    """The watch of Pods and the queue of the engine itself, as they are after five minutes in which the rest of the world went on."""
    clock = Clock(time.monotonic() + SECONDS + 1)
    answers = Answers(clock)
    client = Client(ClusterConfig(server="http://127.0.0.1:1"))
    options = Options(trainer_image="trainer", metrics_port=unused_tcp_port)
    async with client:
        engine = Engine(options, client, Metrics(), answers=answers)
        engine._queue = WorkQueue(lambda: time.monotonic() - SECONDS - 1)
        async with engine.running():
            assert await _healthz(unused_tcp_port) == (200, "ok\n")
            answers.observe("list", "leases", 200, 0.1)
            engine._queue.add(KEY)
            await engine._queue.get()
            status, text = await _healthz(unused_tcp_port)
    assert status == 503
    assert [line.partition(":")[0] for line in text.splitlines()] == ["watch of pods", "queue"]


async def _healthz(port: int) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as answer:
        return answer.status, await answer.text()
