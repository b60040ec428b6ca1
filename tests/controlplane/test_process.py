"""The operator as a process: killed and started again, idle, with many Pods, with a program that tells its progress."""

import asyncio
import re
import time

import aiohttp
from aiohttp import web

from scalejob.contract import PROGRESS_PATH, PROGRESS_PORT, Phase, ProgressLine
from scalejob.kube.client import SERVICES
from scalejob.kube.errors import ApiError
from tests.controlplane.api import Jobs
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.fake_nodes import FakeKubelet


async def test_killed_while_it_creates(jobs: Jobs, operator: OperatorProcess):
    """SIGKILL in the middle of a batch of creates: started again it makes the rest, and none twice."""
    operator.stop()
    await operator.start("--qps", "20", "--burst", "8")
    await jobs.create(workers=20)
    await jobs.api.until(lambda: _has_some_pods(jobs, 3))
    operator.kill()
    before = await jobs.pods()
    assert 3 <= len(before) < 20
    await operator.start()
    status = await jobs.reaches(Phase.RUNNING, attempt=0)
    after = await jobs.pods()
    assert set(after) == {f"job-0-{i}" for i in range(20)}
    assert {name: after[name]["metadata"]["uid"] for name in before} == {
        n: p["metadata"]["uid"] for n, p in before.items()
    }
    assert status["restarts"]["total"] == 0


async def test_failure_while_it_is_away(jobs: Jobs, operator: OperatorProcess, kubelet: FakeKubelet):
    """What happens while the operator is away is found when it is back, and counted once."""
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    operator.kill()
    await kubelet.end(jobs.namespace, "job-0-1", 1, message="boom")
    await operator.start()
    status = await jobs.reaches(Phase.RUNNING, attempt=1)
    assert status["restarts"]["failures"] == 1


async def test_deletion_while_it_is_away(jobs: Jobs, operator: OperatorProcess, kubelet: FakeKubelet):
    """No finalizer: a job can be deleted while the operator is away, and a new one of its name starts from the beginning."""
    await jobs.create()
    old = await jobs.reaches(Phase.RUNNING)
    operator.kill()
    await jobs.delete()
    await jobs.has_pods()
    await jobs.create()
    await operator.start()
    assert (await jobs.reaches(Phase.RUNNING))["startTime"] >= old["startTime"]


async def test_api_server_restarts(
    jobs: Jobs, operator: OperatorProcess, kubelet: FakeKubelet, control_plane: ControlPlane
):
    """While the API server is away nothing ends; what happens after that is seen and acted on."""
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    await asyncio.to_thread(control_plane.restart_api_server, 2.0)
    await jobs.api.until(lambda: _fails(kubelet, jobs, "job-0-1"))
    await jobs.create("second")
    assert (await jobs.reaches(Phase.RUNNING, attempt=1))["restarts"]["failures"] == 1
    await jobs.reaches(Phase.RUNNING, "second")
    assert operator.is_running


async def test_steady_state_writes_nothing(jobs: Jobs, operator: OperatorProcess):
    """Nothing is written while nothing happens, nor after a restart: no request of ours, and no object of the job, by whomever."""
    await jobs.create(workers=3)
    await jobs.reaches(Phase.RUNNING)
    await asyncio.sleep(1.5)  # counts may be written a second late
    before = await _versions(jobs)
    assert operator.stop() == 0
    await operator.start()
    await asyncio.sleep(2)
    assert await _versions(jobs) == before
    assert await _operator_writes(operator) == 0


async def test_stops_at_once(operator: OperatorProcess):
    """SIGTERM ends it within 2 s, long before the kubelet would kill it, also while Prometheus keeps a connection open."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{operator.port}/metrics") as response:
            await response.read()
        started = time.monotonic()
        assert operator.stop() == 0
        assert time.monotonic() - started < 2


async def test_few_writes_for_a_job(jobs: Jobs, operator: OperatorProcess, kubelet: FakeKubelet):
    """Of a job of N workers the operator writes N Pods, and besides them at most 6 times: the Service and the status."""
    before = await _operator_writes(operator)
    await jobs.create(workers=10, keepPods="All")
    await jobs.reaches(Phase.RUNNING)
    for index in range(10):
        await kubelet.succeed(jobs.namespace, f"job-0-{index}")
    await jobs.reaches(Phase.SUCCEEDED)
    assert await _operator_writes(operator) - before <= 10 + 6


async def test_progress_reaches_the_status(jobs: Jobs, operator: OperatorProcess):
    """What rank 0 serves appears in the status and in the printed column."""
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)
    address = (await jobs.pods())["job-0-0"]["status"]["podIP"]
    line = ProgressLine(phase="fit", step=3, of=10, metric="inertia", value=1.5)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=line.to_json())

    app = web.Application()
    app.add_routes([web.get(PROGRESS_PATH, answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address, PROGRESS_PORT).start()

    async def told() -> bool:
        return "progress" in await jobs.status()

    await jobs.api.until(told)
    await runner.cleanup()
    assert (await jobs.status())["progress"]["summary"] == "fit 3/10 inertia=1.5"


async def test_health_and_metrics(jobs: Jobs, operator: OperatorProcess):
    """/healthz says ok, and /metrics counts jobs by phase."""
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)
    assert await _fetch(operator, "healthz") == "ok\n"
    assert f'scalejob_jobs{{namespace="{jobs.namespace}",phase="Running",workload="command"}} 1.0' in await _fetch(
        operator, "metrics"
    )


async def test_objects_carry_no_marks_of_the_framework(jobs: Jobs, operator: OperatorProcess):
    """Neither finalizers nor annotations are put on jobs."""
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)
    metadata = (await jobs.get())["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata


async def _fails(kubelet: FakeKubelet, jobs: Jobs, name: str) -> bool:
    """The worker fails, as soon as the API server listens to its kubelet again."""
    try:
        await kubelet.end(jobs.namespace, name, 1)
    except ApiError:
        return False
    return True


async def _has_some_pods(jobs: Jobs, count: int) -> bool:
    return len(await jobs.pods()) >= count


async def _fetch(operator: OperatorProcess, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{operator.port}/{path}") as response:
        return await response.text()


async def _versions(jobs: Jobs) -> dict[str, str]:
    """Of the job, its Pods, its Service and its Events."""
    service = await jobs.api.client.get(SERVICES, jobs.namespace, "job")
    found = [await jobs.get(), service, *(await jobs.pods()).values(), *await jobs.events()]
    return {body["metadata"]["uid"]: body["metadata"]["resourceVersion"] for body in found}


async def _operator_writes(operator: OperatorProcess) -> int:
    """Requests of the operator that change something, Events not counted."""
    pattern = r'^scalejob_api_requests_total\{.*resource="(?!events)\w+",verb="(?:create|patch|delete)"\} (\S+)$'
    found = re.findall(pattern, await _fetch(operator, "metrics"), re.MULTILINE)
    return int(sum(map(float, found)))
