"""The many jobs of one user do not hold up the one job of another."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from scalejob.contract import Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import Selection
from tests.controlplane.api import Jobs
from tests.controlplane.control_plane import OperatorProcess
from tests.controlplane.fake_nodes import FakeKubelet

NUM_JOBS = 150


@pytest_asyncio.fixture(loop_scope="session")
async def slow_operator(operator_process: OperatorProcess, kubelet: FakeKubelet) -> AsyncIterator[None]:
    """So few requests per second that the many jobs keep it busy for longer than a test waits for anything."""
    if operator_process.is_running:
        operator_process.stop()
    await operator_process.start("--qps", "25", "--burst", "5")
    yield
    operator_process.stop()


async def test_one_job_is_not_behind_the_many_of_another_namespace(jobs: Jobs, slow_operator: None):
    """It runs while most of them have not even been looked at."""
    others = Jobs(jobs.api, f"{jobs.namespace}-many")
    await jobs.api.new_namespace(others.namespace)
    await asyncio.gather(*(others.create(f"job-{number}") for number in range(NUM_JOBS)))
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)
    assert await _num_looked_at(others) < NUM_JOBS / 2
    await asyncio.gather(*(others.delete(f"job-{number}") for number in range(NUM_JOBS)))


async def _num_looked_at(jobs: Jobs) -> int:
    page = await jobs.api.client.list_page(Selection(resource=SCALEJOBS, namespace=jobs.namespace))
    return sum("status" in job for job in page.items)
