"""A control plane for a command, as the fixtures make one for the tests."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from scalejob.kube.client import Client
from scalejob.kube.config import from_kubeconfig
from scalejob.kube.limiter import TokenBucket
from tests.controlplane.api import Api
from tests.controlplane.control_plane import ControlPlane
from tests.controlplane.fake_nodes import FakeKubelet, add_node


@asynccontextmanager
async def alone() -> AsyncIterator[tuple[ControlPlane, Api, FakeKubelet]]:
    """With one node; gone with the context."""
    with tempfile.TemporaryDirectory() as home, ControlPlane(Path(home)) as plane:
        config = from_kubeconfig(plane.home / "admin.kubeconfig")
        async with Client(config, limiter=TokenBucket(qps=5000, burst=5000)) as client:
            api = Api(client)
            await add_node(api, "cpu-node")
            kubelet = FakeKubelet(api)
            async with kubelet.running():
                yield plane, api, kubelet
