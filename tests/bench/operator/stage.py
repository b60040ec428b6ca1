"""One control plane on which all sides work, with one node and a kubelet that counts."""

import asyncio
import json
import os
import re
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scalejob.kube.client import Client, Object
from scalejob.kube.config import from_kubeconfig
from scalejob.kube.limiter import TokenBucket
from scalejob.kube.store import Entry
from tests.bench.operator.sides import INDEXED_JOB, JOBSET, OURS, Side
from tests.controlplane.api import Api
from tests.controlplane.control_plane import CONTROLLERS, ControlPlane, OperatorProcess, free_port
from tests.controlplane.fake_nodes import FakeKubelet, add_node
from tests.tools import look_for, module_folder

QPS = 5000.0  # out of the way: the machine is the limit
AT_ONCE = 16  # objects that are applied concurrently
_PATIENCE_SECONDS = 300.0
_LEAN = Path(__file__).parent / "lean"


class Counting(FakeKubelet):
    """Remembers which Pods of a namespace were seen, and which of them running."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.seen: defaultdict[str, set[str]] = defaultdict(set)  # names by namespace
        self.started: defaultdict[str, set[str]] = defaultdict(set)

    def _on_change(self, before: Entry[Object] | None, after: Entry[Object] | None) -> None:
        if after:
            name = after.value["metadata"]["name"]
            self.seen[after.namespace].add(name)
            if after.value["status"].get("phase") == "Running":
                self.started[after.namespace].add(name)
        super()._on_change(before, after)


class Plane(ControlPlane):
    """With the Job controller, and JobSet's where it can be had."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, controllers=(*CONTROLLERS, "job-controller"))

    def start_jobset(self) -> bool:
        """Whether it is on this machine."""
        program, module = look_for("jobset"), module_folder("jobset", "sigs.k8s.io/jobset")
        if not program or not module:
            return False
        self.kubectl("create", "-f", str(module / "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"))
        while self.kubectl("get", "jobsets", check=False).returncode:
            time.sleep(0.1)
        self.kubectl("-n", "kube-system", "create", "serviceaccount", "jobset")
        who = ("--clusterrole=cluster-admin", "--serviceaccount=kube-system:jobset")
        self.kubectl("create", "clusterrolebinding", "jobset", *who)
        certificates = self.home / "jobset-pki"
        certificates.mkdir()
        for ending, name in (("crt", "tls.crt"), ("key", "tls.key")):
            (certificates / name).symlink_to(self.home / "pki" / f"apiserver.{ending}")
        config = {
            "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
            "kind": "Configuration",
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
            "webhook": {"port": free_port(), "host": "127.0.0.1", "certDir": str(certificates)},
            "metrics": {"bindAddress": "0"},
            "health": {"healthProbeBindAddress": "0"},
        }
        (self.home / "jobset.json").write_text(json.dumps(config))
        kubeconfig = self.write_operator_kubeconfig("kube-system", "jobset")
        self._start(
            program, f"--kubeconfig={kubeconfig}", f"--config={self.home / 'jobset.json'}", "--zap-log-level=error"
        )
        return True

    def cpu_seconds(self) -> dict[str, float]:
        """Of each program, so far."""
        return {name: process_cpu(process.pid) for name, process in self._processes.items()}


def process_cpu(pid: int) -> float:
    """Seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(kw_only=True)
class Stage:
    """What the cases work with."""

    plane: Plane
    api: Api
    kubelet: Counting
    operator: OperatorProcess
    sides: tuple[Side, ...]
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    async def namespace(self) -> str:
        """A new one."""
        name = f"bench-{next(self.numbers)}"
        await self.api.new_namespace(name)
        return name

    async def apply(self, side: Side, namespace: str, names: Iterable[str], workers: int) -> None:
        """All of them, some at once."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with limit:
                await self.api.client.create(side.resource, namespace, side.make(name, workers))

        await asyncio.gather(*(one(name) for name in names))

    def writes(self, side: Side, namespace: str) -> list[str]:
        """`create pods`, ...: what a side has written in a namespace so far, by the audit log."""
        return [
            f"{request.verb} {request.resource}"
            for request in self.plane.audited()
            if request.is_write and request.user in side.users and request.namespace == namespace
        ]

    def cpu_seconds(self) -> dict[str, float]:
        """Of everything that shares this machine's cores."""
        ours = {"operator": self.operator.cpu_seconds, "nodes": time.process_time()}
        return self.plane.cpu_seconds() | ours


def memory_mib(operator: OperatorProcess) -> float:
    """Resident."""
    status = Path(f"/proc/{operator.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def metric(operator: OperatorProcess, pattern: str) -> float:
    """The sum of those of its metrics whose names, with labels, match."""
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics", timeout=10) as answer:
        found = re.findall(rf"^{pattern} (\S+)$", answer.read().decode(), re.MULTILINE)
    return sum(map(float, found))


async def until(holds: Callable[[], bool], what: str, every: float = 0.005) -> None:
    """Raises AssertionError if that takes too long."""
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while not holds():
        assert time.perf_counter() < deadline, what
        await asyncio.sleep(every)


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Everything started and at rest; gone with the context."""
    with tempfile.TemporaryDirectory() as home, Plane(Path(home)) as plane:
        sides = (OURS, INDEXED_JOB, *([JOBSET] if plane.start_jobset() else []))
        config = from_kubeconfig(plane.home / "admin.kubeconfig")
        async with Client(config, limiter=TokenBucket(qps=QPS, burst=5000)) as client:
            api = Api(client)
            await add_node(api, "node")
            kubelet = Counting(api)
            operator = OperatorProcess(plane.write_operator_kubeconfig(), plane.home / "operator.log", free_port())
            async with kubelet.running():
                await start(operator)
                try:
                    await asyncio.sleep(2.0)
                    yield Stage(plane=plane, api=api, kubelet=kubelet, operator=operator, sides=sides)
                finally:
                    operator.kill()


async def start(operator: OperatorProcess) -> None:
    """With the packages of its image."""
    with _lean():
        await operator.start("--qps", str(QPS), "--burst", "400")


@contextmanager
def _lean() -> Iterator[None]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_LEAN), before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
