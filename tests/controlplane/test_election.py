"""Two replicas: one acts, the other goes on, and one that stood still writes nothing more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest_asyncio

from scalejob.contract import Phase
from scalejob.kube.config import from_kubeconfig
from tests.controlplane.api import Jobs
from tests.controlplane.control_plane import Access, ControlPlane, OperatorProcess, free_port
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.fault_proxy import FaultProxy
from tests.controlplane.replicas import FAILOVER_SECONDS, HANDOVER_SECONDS, LEASE, leads, wait_until_it_leads


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    process: OperatorProcess
    proxy: FaultProxy  # sees what it asks

    async def start(self) -> None:
        """Slow enough that a job of some Pods takes seconds."""
        await self.process.start("--lease", "/".join(LEASE), "--qps", "20", "--burst", "5")

    @property
    def writes(self) -> list[str]:
        return [call for call in self.proxy.calls if not call.startswith("GET") and "leases/" not in call]


@asynccontextmanager
async def replica(plane: ControlPlane, name: str) -> AsyncIterator[Replica]:
    """Not started; ended in any case."""
    path = plane.write_operator_kubeconfig()
    config = from_kubeconfig(path)
    assert config.token
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0, ssl=config.ssl or False)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        proxy = FaultProxy(config.server, session, None)
        url = await stack.enter_async_context(proxy.serving())
        access = Access(server=url, ca=plane.access("admin").ca, token=config.token)
        kubeconfig = access.write_kubeconfig(plane.home / f"{name}.kubeconfig")
        process = OperatorProcess(kubeconfig, plane.home / f"{name}.log", free_port())
        try:
            yield Replica(process=process, proxy=proxy)
        finally:
            if process.is_running:
                process.kill()


@pytest_asyncio.fixture(loop_scope="session")
async def replicas(
    control_plane: ControlPlane, operator_process: OperatorProcess, kubelet: FakeKubelet
) -> AsyncIterator[list[Replica]]:
    """The first leads, the second stands by."""
    if operator_process.is_running:
        operator_process.stop()
    control_plane.kubectl("-n", "scalejob-system", "delete", "lease", "--all")
    async with replica(control_plane, "first") as first, replica(control_plane, "second") as second:
        await first.start()
        await wait_until_it_leads(first.process.port)
        await second.start()
        yield [first, second]


async def test_one_acts(jobs: Jobs, replicas: list[Replica]):
    first, second = replicas
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    assert first.writes
    assert not second.writes
    assert not await leads(second.process.port)


async def test_the_other_goes_on_after_a_crash(jobs: Jobs, replicas: list[Replica]):
    """In the middle of a batch of creates: the rest is made, and none twice."""
    first, second = replicas
    await jobs.create(workers=40)
    await jobs.api.until(lambda: _has_pods(jobs, 5))
    first.process.kill()
    assert await wait_until_it_leads(second.process.port) < FAILOVER_SECONDS
    status = await jobs.reaches(Phase.RUNNING)
    assert (status["attempt"], set(await jobs.pods())) == (0, {f"job-0-{n}" for n in range(40)})
    assert status["restarts"]["total"] == 0


async def test_the_lease_is_handed_over_at_an_orderly_end(jobs: Jobs, replicas: list[Replica]):
    first, second = replicas
    assert await asyncio.to_thread(first.process.stop) == 0  # the proxy runs in this thread
    assert await wait_until_it_leads(second.process.port) < HANDOVER_SECONDS
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)


async def test_one_that_stood_still_writes_nothing_more(jobs: Jobs, replicas: list[Replica]):
    """Stopped in the middle of its creates, and continued when the other leads: it sends no write, and ends."""
    first, second = replicas
    await jobs.create(workers=60)
    await jobs.api.until(lambda: _has_pods(jobs, 5))
    first.process.freeze()
    await wait_until_it_leads(second.process.port)
    written = len(first.writes)
    first.process.thaw()
    assert await asyncio.to_thread(first.process.wait) == 1
    assert len(first.writes) == written
    assert "another replica goes on" in first.process.log.read_text()
    status = await jobs.reaches(Phase.RUNNING)
    assert (status["attempt"], status["restarts"]["total"]) == (0, 0)


async def _has_pods(jobs: Jobs, count: int) -> bool:
    return len(await jobs.pods()) >= count
