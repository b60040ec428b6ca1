"""Pods per second that the operator creates for one job, against a real API server on this machine.

    python -m tests.bench.pods_per_second [--pods 500] [--qps 5000]

There are nodes, so that the scheduler works too, but no kubelets: what is measured is etcd, API server, scheduler and operator
on the same cores. The default --qps is out of the way; at `scalejob operator --qps 200` it is the limit that one sees.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from scalejob.contract import LABEL_JOB
from scalejob.kube.client import PODS, Client, Selection
from scalejob.kube.config import from_kubeconfig
from scalejob.kube.limiter import TokenBucket
from tests.controlplane.api import Api, Jobs
from tests.controlplane.control_plane import ControlPlane, OperatorProcess, free_port
from tests.controlplane.fake_nodes import add_node

SETTLE_SECONDS = 2.0  # then the operator has taken in all events, and written the last count


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one run gave. `cpu_ms_per_pod` is CPU time of the operator alone, until all is quiet again."""

    pods: int
    seconds: float
    cpu_ms_per_pod: float

    @property
    def pods_per_second(self) -> float:
        return self.pods / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.pods} Pods of one job in {self.seconds:.2f} s: {self.pods_per_second:.0f} Pods/s, "
            f"{self.cpu_ms_per_pod:.2f} ms CPU of the operator per Pod"
        )


async def measure_on(api: Api, operator: OperatorProcess, pods: int) -> Rate:
    """One job of `pods` workers, from its creation to the last Pod. The operator runs already."""
    jobs = Jobs(api, "bench")
    await api.new_namespace(jobs.namespace)
    await jobs.create("first", suspend=True)  # the API server takes 2 s to admit the first object of a new kind
    selection = Selection(resource=PODS, namespace=jobs.namespace, label_selector=LABEL_JOB)
    version = (await api.client.list_page(selection)).resource_version
    cpu, start = operator.cpu_seconds, time.perf_counter()
    await jobs.create(workers=pods)
    seen: set[str] = set()
    while len(seen) < pods:  # the API server ends a watch that is slow to read what it sends
        async for event in api.client.watch(selection, version):
            version = event.object["metadata"]["resourceVersion"]
            if event.type != "BOOKMARK":
                seen.add(event.object["metadata"]["name"])
            if len(seen) == pods:
                break
    seconds = time.perf_counter() - start
    await asyncio.sleep(SETTLE_SECONDS)
    return Rate(pods=pods, seconds=seconds, cpu_ms_per_pod=1000 * (operator.cpu_seconds - cpu) / pods)


async def measure(home: Path, pods: int, qps: float) -> Rate:
    """Start a control plane and an operator in `home`, measure, and end them."""
    with ControlPlane(home) as plane:
        operator = OperatorProcess(plane.write_operator_kubeconfig(), home / "operator.log", free_port())
        config = from_kubeconfig(home / "admin.kubeconfig")
        async with Client(config, limiter=TokenBucket(qps=5000, burst=5000)) as client:
            api = Api(client)
            await add_node(api, "node")
            await operator.start("--qps", str(qps), "--burst", "50")
            try:
                return await measure_on(api, operator, pods)
            finally:
                operator.kill()


def pods_per_second(pods: int = 500, qps: float = 5000.0) -> Rate:
    """The same in a folder of its own, for other benchmarks."""
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(measure(Path(home), pods, qps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=500, help="workers of the job (default: %(default)s)")
    parser.add_argument("--qps", type=float, default=5000.0, help="the operator's --qps (default: %(default)s)")
    arguments = parser.parse_args()
    print(pods_per_second(arguments.pods, arguments.qps))


if __name__ == "__main__":
    main()
