"""How the workers of a job get their nodes together: without a gang scheduler, with one, from a queue and behind gates."""

import asyncio
import math
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
import yaml

from scalejob.contract import Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import PODS, Object, Resource
from scalejob.kube.errors import ApiError
from tests.controlplane.api import Api, Jobs, condition, make_job
from tests.controlplane.fake_nodes import NODES, FakeKubelet, add_node
from tests.tools import ROOT

pytestmark = pytest.mark.usefixtures("operator")

GPU = "example.com/gpu"  # no other node has it
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
LONG_SECONDS = 90.0  # a job that gave its nodes back stays away for 10 to 20 s


async def until_one_runs(jobs: Jobs, *names: str) -> str:
    """The name of the job all of whose workers run."""

    async def probe() -> str | None:
        running = [name for name in names if (await jobs.status(name)).get("phase") == Phase.RUNNING]
        return running[0] if running else None

    found: str = await jobs.api.until(probe, LONG_SECONDS)
    return found


async def succeed(jobs: Jobs, kubelet: FakeKubelet, name: str) -> Object:
    """All workers of the present attempt end well. The status then."""
    attempt = (await jobs.status(name))["attempt"]
    for pod in await jobs.pods(name):
        if pod.startswith(f"{name}-{attempt}-"):
            await kubelet.succeed(jobs.namespace, pod)
    return await jobs.reaches(Phase.SUCCEEDED, name)


class TestHalfAGang:
    @pytest_asyncio.fixture(loop_scope="session")
    async def halves(self, api: Api) -> AsyncIterator[None]:
        """Two nodes of four GPUs. Each takes only the Pods of one job, until `open_halves`."""
        for half in ("a", "b"):
            await add_node(api, f"half-{half}", example_com__gpu="4")
            taint = {"key": "half", "value": half, "effect": "NoSchedule"}
            await api.client.merge_patch(NODES, None, f"half-{half}", {"spec": {"taints": [taint]}})
        yield
        for half in ("a", "b"):
            await api.delete_now(NODES, "", f"half-{half}")

    async def test_two_jobs_that_hold_each_others_nodes_both_succeed(
        self, jobs: Jobs, kubelet: FakeKubelet, halves: None
    ):
        """Each needs all eight GPUs and has four. One gives back what it holds, the other runs with it, and then it runs, too."""
        for name in ("a", "b"):
            pod = {"tolerations": [{"key": "half", "value": name}]}
            await jobs.create(name, workers=4, gpus={"perWorker": 2, "resource": GPU}, pod=pod)
        for name in ("a", "b"):
            await self._holds_half(jobs, name)
            await jobs.api.client.merge_patch(NODES, None, f"half-{name}", {"spec": {"taints": None}})
        await asyncio.sleep(1.5)
        held = [await self._holds_half(jobs, name) for name in ("a", "b")]
        assert [(status["phase"], status["reason"], status["attempt"]) for status in held] == [
            ("Pending", "Unschedulable", 0)
        ] * 2
        since = min(datetime.fromisoformat(status["holdTime"]) for status in held)
        hold = math.ceil((datetime.now(UTC) - since).total_seconds()) + 1
        for name in ("a", "b"):
            await jobs.patch(name, deadlines={"holdSeconds": hold})
        first = await until_one_runs(jobs, "a", "b")
        await succeed(jobs, kubelet, first)
        second = await until_one_runs(jobs, *({"a", "b"} - {first}))
        status = await succeed(jobs, kubelet, second)
        assert status["restarts"]["failures"] == 0
        assert status["restarts"]["disruptions"] >= 1
        assert (status["lastFailure"]["class"], GPU in status["lastFailure"]["message"]) == ("Unschedulable", True)

    async def _holds_half(self, jobs: Jobs, name: str) -> Object:
        """The status once two workers run and the scheduler has said that it has no node for the others."""

        async def probe() -> Object | None:
            status = await jobs.status(name)
            return status if status.get("holdTime") and status["workers"]["ready"] == 2 else None

        found: Object = await jobs.api.until(probe)
        return found


class TestGates:
    async def test_a_gated_job_says_so_and_its_time_stands_still(self, jobs: Jobs):
        """`schedulingSeconds` begins when the last gate is open."""
        gates = [{"name": "example.com/quota"}]
        await jobs.create(workers=2, pod={"schedulingGates": gates}, deadlines={"schedulingSeconds": 3})
        status = await jobs.reaches(Phase.PENDING, reason="SchedulingGated")
        assert status["message"] == "2 of 2 workers held by scheduling gates: example.com/quota"
        assert condition(status, "Scheduled")["reason"] == "SchedulingGated"
        await asyncio.sleep(3.5)
        await jobs.reaches(Phase.PENDING, reason="SchedulingGated")
        for name in await jobs.pods():
            await jobs.api.client.merge_patch(PODS, jobs.namespace, name, {"spec": {"schedulingGates": []}})
        await jobs.reaches(Phase.RUNNING, attempt=0)


QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


class TestQueue:
    """Kueue's part is played by the test: it writes what `RunWithPodSetsInfo` and `RestorePodSetsInfo` of an adapter write."""

    async def _create(self, jobs: Jobs, **spec: Any) -> None:
        job = make_job(**spec)
        job["metadata"]["labels"] = {QUEUE_LABEL: "team-a"}
        await jobs.api.client.create(SCALEJOBS, jobs.namespace, job)

    async def test_a_queued_job_waits_for_its_queue(self, jobs: Jobs):
        """Though nobody suspended it: there is no webhook that could."""
        await self._create(jobs, workers=2)
        status = await jobs.reaches(Phase.SUSPENDED, reason="Queued")
        assert status["message"] == "waits until the queue team-a admits it"
        assert condition(status, "Suspended")["status"] == "True"
        assert await jobs.pods() == {}
        await jobs.api.client.merge_patch(
            SCALEJOBS, jobs.namespace, "job", {"metadata": {"labels": {QUEUE_LABEL: None}}}
        )
        await jobs.reaches(Phase.RUNNING, attempt=0)

    async def test_the_queue_admits_takes_back_and_admits_elsewhere(self, jobs: Jobs):
        """Each time with other Pods, changed in the same write as `suspend`."""
        await self._create(jobs, workers=2)
        await jobs.patch(suspend=True)
        await jobs.reaches(Phase.SUSPENDED)
        flavour = {
            "nodeSelector": {"test/node": "cpu-node"},
            "labels": {"kueue.x-k8s.io/podset": "main"},
            "annotations": {"kueue.x-k8s.io/workload": "w"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
        }
        await jobs.patch(suspend=False, pod=flavour)
        await jobs.reaches(Phase.RUNNING, attempt=0)
        pod = (await jobs.pods())["job-0-1"]
        assert pod["spec"]["nodeName"] == "cpu-node"
        assert flavour["labels"].items() <= pod["metadata"]["labels"].items()
        assert flavour["annotations"].items() <= pod["metadata"]["annotations"].items()
        assert any(toleration.get("key") == "spot" for toleration in pod["spec"]["tolerations"])
        await jobs.patch(suspend=True, pod=dict.fromkeys(flavour))
        await jobs.reaches(Phase.SUSPENDED, reason="Queued")
        await jobs.has_pods()
        await jobs.patch(suspend=False, pod={"nodeSelector": {"test/node": "gpu-node"}}, workers=1)
        await jobs.reaches(Phase.RUNNING, attempt=1)
        assert (await jobs.has_pods("job-1-0"))["job-1-0"]["spec"]["nodeName"] == "gpu-node"


BLOCKS = re.findall(r"```yaml\n(.+?)```", (ROOT / "docs" / "scheduling.md").read_text(), re.DOTALL)
EXAMPLES = [pair for block in BLOCKS if len(pair := [*yaml.safe_load_all(block)]) == 2]


@pytest.mark.parametrize(("group", "job"), EXAMPLES, ids=lambda found: found["apiVersion"].split("/")[0])
async def test_a_gang_scheduler_finds_its_group(api: Api, jobs: Jobs, kubelet: FakeKubelet, group: Object, job: Object):
    """As documented: every Pod of every attempt names its group and scheduler, and is left to that one.

    The test plays the scheduler: it binds when there are as many as the group's minMember.
    """
    resource = await serve_groups(api, group["apiVersion"])
    await api.client.create(resource, jobs.namespace, group)
    spec = make_job()["spec"] | job["spec"]
    await api.client.create(SCALEJOBS, jobs.namespace, job | {"spec": spec})
    name = job["metadata"]["name"]
    for attempt in (0, 1):
        pods = await waiting_group(jobs, name, attempt, group["spec"]["minMember"])
        assert [pod["spec"].get("nodeName") for pod in pods] == [None] * 4
        assert {pod["spec"]["schedulerName"] for pod in pods} == {job["spec"]["pod"]["schedulerName"]}
        assert {group_of(pod) for pod in pods} == {group["metadata"]["name"]}
        for pod in pods:
            await bind(jobs, pod["metadata"]["name"], "cpu-node")
        await jobs.reaches(Phase.RUNNING, name, attempt=attempt)
        await kubelet.end(jobs.namespace, f"{name}-{attempt}-0", 1)


def group_of(pod: Object) -> str | None:
    """Where coscheduling and Volcano look."""
    metadata = pod["metadata"]
    label: str | None = metadata["labels"].get("scheduling.x-k8s.io/pod-group")
    return label or metadata["annotations"].get("scheduling.k8s.io/group-name")


async def waiting_group(jobs: Jobs, name: str, attempt: int, size: int) -> list[Object]:
    """The Pods of an attempt, once there are so many."""

    async def probe() -> list[Object] | None:
        pods = [pod for key, pod in (await jobs.pods(name)).items() if key.startswith(f"{name}-{attempt}-")]
        return pods if len(pods) == size else None

    found: list[Object] = await jobs.api.until(probe)
    return found


async def bind(jobs: Jobs, name: str, node: str) -> None:
    """What a scheduler does in the end."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    await jobs.api.raw("POST", PODS.path(jobs.namespace, name, "binding"), body=body)


async def serve_groups(api: Api, group_version: str) -> Resource:
    """PodGroups, of the least schema that is one; served when this returns."""
    group, version = group_version.split("/")
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"podgroups.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "PodGroup", "plural": "podgroups"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }
    await api.client.create(CRDS, None, crd)
    resource = Resource(group_version, "podgroups")

    async def is_served() -> bool:
        try:
            await api.raw("GET", resource.path("default"))
        except ApiError:
            return False
        return True

    await api.until(is_served)
    return resource
