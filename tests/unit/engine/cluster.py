"""An operator on a memory server, step by step: what was seen is copied from the server before each reconcile."""

from typing import Any

from scalejob.engine.departed import Departed
from scalejob.engine.engine import trim_pod
from scalejob.engine.events import EventRecorder
from scalejob.engine.executor import Executor, Voices
from scalejob.engine.expectations import Expectations
from scalejob.engine.jobs import JobStore
from scalejob.engine.metrics import Metrics
from scalejob.engine.progress import ProgressPoller
from scalejob.engine.reconciler import Reconciler, Seen
from scalejob.engine.status import StatusWriter
from scalejob.engine.workers import Workers
from scalejob.kube.client import Client
from scalejob.kube.store import Store
from scalejob.kube.workqueue import WorkQueue
from scalejob.plan.model import Pod
from scalejob.plan.pods import PodDefaults
from tests.unit.engine.memory_server import MemoryServer, Object

KEY = "n/job"


def job_body(**spec: Any) -> Object:
    """A job of any program that was just created."""
    base = {"workload": {"command": {"argv": ["train"]}}, "restarts": {"backoffSeconds": 0}}
    return {"metadata": {"name": "job", "namespace": "n", "uid": "uid-job", "generation": 1}, "spec": base | spec}


class Operator:
    """All state of one operator process. A new one is an operator that was started again."""

    def __init__(self, server: MemoryServer, client: Client) -> None:
        self.server = server
        self.queue = WorkQueue()
        self.jobs = JobStore(self.queue.add)
        self.expectations = Expectations()
        self.departed = Departed()
        self.pods: Store[Pod] = Store(lambda before, after: after or self.departed.note(KEY, before.value))
        self.metrics = Metrics()
        defaults = PodDefaults(trainer_image="trainer")
        self.workers = Workers(client, self.expectations, defaults, self.metrics.count_created)
        voices = Voices(events=EventRecorder(client), metrics=self.metrics)
        executor = Executor(client, StatusWriter(client, self.jobs), self.workers, voices)
        progress = ProgressPoller(self.queue.add)
        seen = Seen(
            jobs=self.jobs,
            pods=self.pods,
            departed=self.departed,
            expectations=self.expectations,
            progress=progress,
        )
        self.reconciler = Reconciler(client, self.queue, seen, executor)

    def see(self) -> None:
        """The watches have delivered everything."""
        for body in self.server.of("scalejobs"):
            self.jobs.put(body)
        entries = [entry for body in self.server.of("pods") if (entry := trim_pod(body))]
        self.pods.replace(entries, namespace=None)
        self.expectations.forget(KEY)

    async def step(self) -> None:
        """See, then reconcile once."""
        self.see()
        await self.reconciler.reconcile(KEY)


def set_pod(server: MemoryServer, name: str, phase: str, exit_code: int | None = None) -> None:
    """What a kubelet reports."""
    state: Object = {"running": {}} if exit_code is None else {"terminated": {"exitCode": exit_code}}
    conditions = [{"type": "Ready", "status": "True" if phase == "Running" else "False"}]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": [{"name": "worker", "state": state}]}
    body = server.objects["pods", name]
    server.put("pods", body | {"spec": body["spec"] | {"nodeName": "node"}, "status": status})


def status_of(server: MemoryServer) -> Object:
    found: Object = server.objects["scalejobs", "job"].get("status", {})
    return found
