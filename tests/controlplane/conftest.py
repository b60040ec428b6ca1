"""One control plane, one fake kubelet and one operator for all tests of this tier; a namespace of its own for each test."""

import inspect
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import Client, Selection
from scalejob.kube.config import from_kubeconfig
from scalejob.kube.limiter import TokenBucket
from tests.controlplane.api import Api, Jobs
from tests.controlplane.control_plane import CONTROLLERS, NODE_CONTROLLERS, ControlPlane, OperatorProcess, free_port
from tests.controlplane.fake_nodes import FakeKubelet, add_node

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here share one event loop: the client and the kubelet live in it."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and inspect.iscoroutinefunction(item.function):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """In the end it must not have refused anything to an operator: each ran with the rights of the shipped roles."""
    home = tmp_path_factory.mktemp("control-plane")
    with ControlPlane(home, controllers=CONTROLLERS + NODE_CONTROLLERS) as plane:
        yield plane
        assert plane.refused() == []


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """As admin; there are two nodes, one of them with GPUs."""
    config = from_kubeconfig(control_plane.home / "admin.kubeconfig")
    async with Client(config, limiter=TokenBucket(qps=5000, burst=5000)) as client:
        api = Api(client)
        await add_node(api, "cpu-node")
        await add_node(api, "gpu-node", nvidia_com__gpu="8")
        yield api


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kubelet(api: Api) -> AsyncIterator[FakeKubelet]:
    kubelet = FakeKubelet(api)
    async with kubelet.running():
        yield kubelet


@pytest.fixture(scope="session")
def operator_process(control_plane: ControlPlane, api: Api) -> Iterator[OperatorProcess]:
    """Not started; ended in any case."""
    process = OperatorProcess(
        control_plane.write_operator_kubeconfig(), control_plane.home / "operator.log", free_port()
    )
    yield process
    if process.is_running:
        process.kill()


@pytest_asyncio.fixture(loop_scope="session")
async def operator(operator_process: OperatorProcess, kubelet: FakeKubelet) -> OperatorProcess:
    """Running with its defaults."""
    if not operator_process.is_running:
        await operator_process.start()
    return operator_process


@pytest_asyncio.fixture(loop_scope="session")
async def jobs(api: Api) -> AsyncIterator[Jobs]:
    """A new namespace; its jobs are deleted in the end, so that they do not disturb the tests that count."""
    jobs = Jobs(api, f"t{next(_numbers)}")
    await api.new_namespace(jobs.namespace)
    yield jobs
    page = await api.client.list_page(Selection(resource=SCALEJOBS, namespace=jobs.namespace))
    for job in page.items:
        await jobs.delete(job["metadata"]["name"])
