"""Metrics, health, progress: what people and machines hear of the operator."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.core import Metric

from scalejob.api.v1alpha1 import Progress, RestartCounts, Status
from scalejob.contract import PROGRESS_PATH, Phase, ProgressLine
from scalejob.engine.health import serve_health
from scalejob.engine.jobs import JobStore
from scalejob.engine.metrics import Metrics
from scalejob.engine.progress import ProgressPoller
from scalejob.kube.errors import Unreachable
from scalejob.plan.model import Plan
from tests.documented import documented_metrics
from tests.unit.engine.cluster import Operator, job_body
from tests.unit.engine.memory_server import MemoryServer
from tests.unit.plan.builders import make_job, running


def test_transitions_are_counted_once():
    """An end is counted when it is stored, with its result and reason; what is unchanged is not counted again."""
    metrics, job = Metrics(), make_job().build()
    failed = Status(phase=Phase.FAILED, reason="UserError", restarts=RestartCounts(total=0))
    metrics.count_transition(job, failed)
    metrics.count_transition(make_job().status(failed).build(), failed)
    labels = {"namespace": "team-a", "workload": "kmeans", "result": "Failed", "reason": "UserError"}
    assert metrics.registry.get_sample_value("scalejob_jobs_finished_total", labels) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_each_pod_is_counted_once(when: str):
    """The second of three is not made, or is, but its answer is lost: then it is never known who made it."""
    server = MemoryServer()
    server.put("scalejobs", job_body(workers=3))
    server.break_at = (4, when)  # after status, Service, dry run and the first Pod
    async with server.serving() as client:
        operator = Operator(server, client)
        for _ in range(3):
            with contextlib.suppress(Unreachable):
                await operator.step()
    assert len(server.of("pods")) == 3
    assert operator.metrics.registry.get_sample_value("scalejob_pods_created_total") == (3 if when == "before" else 2)


def test_documented_metrics():
    """docs/metrics.md names every metric there is, with its type, and no other. (Labels: tests/controlplane/test_telling.py.)"""
    found = [(f"{m.name}_total" if m.type == "counter" else m.name, m.type) for m in families()]
    assert sorted((metric.name, metric.type) for metric in documented_metrics()) == sorted(found)


def families() -> list[Metric]:
    """Of an operator that has done nothing yet."""
    metrics = Metrics()
    metrics.follow(JobStore(lambda key: None), lambda: 0, lambda: True)
    return list(metrics.registry.collect())


def test_a_class_of_restarts_begins_with_zero():
    """Prometheus sees no step in a series that begins with one: an alert would miss the first restart of each class."""
    (restarts,) = [family for family in families() if family.name == "scalejob_restarts"]
    assert {"Evicted", "NodeLost", "OOMKilled", "Unschedulable", "UserError"} <= {
        sample.labels["class"] for sample in restarts.samples
    }
    assert {sample.value for sample in restarts.samples} == {0.0}


async def test_health_names_what_is_wrong(unused_tcp_port: int):
    """200 while all is well, else 503 with a line for each check that fails."""
    checks = {"queue": lambda: None, "watch": lambda: "silent for 400 s"}
    async with serve_health(unused_tcp_port, {}, checks, Metrics().registry), aiohttp.ClientSession() as session:
        answers = {}
        for path in ("healthz", "readyz", "metrics"):
            async with session.get(f"http://127.0.0.1:{unused_tcp_port}/{path}") as response:
                answers[path] = (response.status, await response.text())
    assert answers["healthz"] == (200, "ok\n")
    assert answers["readyz"] == (503, "watch: silent for 400 s\n")
    assert "scalejob_pods_created_total 0.0" in answers["metrics"][1]


@asynccontextmanager
async def rank_zero(port: int, answer: str, status: int = 200) -> AsyncIterator[None]:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text=answer, status=status)

    app = web.Application()
    app.add_routes([web.get(PROGRESS_PATH, handler)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield
    await runner.cleanup()


@asynccontextmanager
async def polling(port: int) -> AsyncIterator[tuple[ProgressPoller, list[str]]]:
    """A poller that follows one running job."""
    told: list[str] = []
    poller = ProgressPoller(told.append, port=port, interval=0.01)
    job, pods = make_job().build(), (running(0, ip="127.0.0.1"),)
    poller.follow("k", job, pods, Plan(status=Status(phase=Phase.RUNNING)))
    task = asyncio.create_task(poller.run())
    yield poller, told
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def told_by(poller: ProgressPoller) -> Progress:
    """What the poller has heard of the job, as soon as it has heard anything."""
    for _ in range(500):
        if progress := poller.latest("k"):
            return progress
        await asyncio.sleep(0.01)
    raise AssertionError("it has heard nothing")


async def test_progress_is_told_when_it_changes(unused_tcp_port: int):
    """The same answer again wakes nobody."""
    line = ProgressLine(phase="fit", step=3, of=10, metric="inertia", value=1.25)
    async with rank_zero(unused_tcp_port, line.to_json()), polling(unused_tcp_port) as (poller, told):
        progress = await told_by(poller)
        await asyncio.sleep(0.1)
    assert told == ["k"]
    assert (progress.phase, progress.step, progress.of, progress.value) == ("fit", 3, 10, "1.25")


async def test_long_names_are_cut(unused_tcp_port: int):
    """What stands in a column of `kubectl get` is one short line."""
    line = ProgressLine(phase="fit\nand more", step=3, metric="x" * 1000)
    async with rank_zero(unused_tcp_port, line.to_json()), polling(unused_tcp_port) as (poller, _):
        progress = await told_by(poller)
    assert (progress.phase, progress.metric) == ("fit and more", "x" * 64)


DEEP = '{"progress": ' + "[" * 4000


@pytest.mark.parametrize(("answer", "status"), [("hello", 200), ("{}", 404), ('{"progress": 1}', 200), (DEEP, 200)])
async def test_any_other_answer_is_no_progress(unused_tcp_port: int, answer: str, status: int):
    """The workload may be any program, with any server."""
    async with rank_zero(unused_tcp_port, answer, status), polling(unused_tcp_port) as (poller, told):
        await asyncio.sleep(0.1)
        assert poller.latest("k") is None
    assert told == []


async def test_a_job_that_stops_is_not_asked(unused_tcp_port: int):
    """What it said is forgotten when its attempt is over."""
    line = ProgressLine(phase="fit", step=3)
    async with rank_zero(unused_tcp_port, line.to_json()), polling(unused_tcp_port) as (poller, _):
        await told_by(poller)
        poller.follow("k", make_job().build(), (), Plan(status=Status(phase=Phase.RESTARTING)))
        assert poller.latest("k") is None


async def test_no_answer_is_told_with_its_job(unused_tcp_port: int, caplog: pytest.LogCaptureFixture):
    """An address alone says nothing to whoever reads the log of a thousand jobs."""
    caplog.set_level(logging.DEBUG, "scalejob.engine.progress")
    async with polling(unused_tcp_port):
        for _ in range(500):
            if caplog.records:
                break
            await asyncio.sleep(0.01)
    found = vars(caplog.records[0])
    assert (found["message"], found["job"], found["ip"]) == ("no progress", "k", "127.0.0.1")
