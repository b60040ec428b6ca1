"""What a user may do to a job at any time of its life, and what the operator's absence must not change about it."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from scalejob.contract import Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import Object
from scalejob.kube.errors import NotFound
from tests.controlplane.api import Jobs
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.fake_nodes import MISSING_IMAGE, FakeKubelet

pytestmark = pytest.mark.usefixtures("operator")

NOWHERE = {"nodeSelector": {"no": "node"}}


async def task_of(jobs: Jobs, pod: str) -> Object:
    """What the worker is told to do."""
    environment = (await jobs.pods())[pod]["spec"]["containers"][0]["env"]
    task: Object = json.loads(next(v["value"] for v in environment if v["name"] == "SCALEJOB_SPEC"))
    return task


async def is_gone(jobs: Jobs, name: str = "job") -> bool:
    try:
        await jobs.get(name)
    except NotFound:
        return True
    return False


class TestSuspension:
    @pytest.mark.parametrize(
        ("phase", "spec"),
        [
            (Phase.PENDING, {"pod": NOWHERE}),
            (Phase.STARTING, {"pod": {"image": MISSING_IMAGE}}),
            (Phase.RUNNING, {}),
        ],
    )
    async def test_in_any_phase(self, jobs: Jobs, phase: Phase, spec: Object):
        """The Pods go; edited and resumed, the job runs in its next attempt with what was corrected."""
        await jobs.create(workers=2, **spec)
        await jobs.reaches(phase, attempt=0)
        await jobs.patch(suspend=True)
        await jobs.reaches(Phase.SUSPENDED, attempt=1)
        await jobs.has_pods()
        await jobs.patch(pod={"image": "good", "nodeSelector": None})
        await jobs.patch(suspend=False)
        await jobs.reaches(Phase.RUNNING, attempt=1)
        pods = await jobs.has_pods("job-1-0", "job-1-1")
        assert {pod["spec"]["containers"][0]["image"] for pod in pods.values()} == {"good"}

    async def test_during_back_off(self, jobs: Jobs, kubelet: FakeKubelet):
        """Who resumes a job does not wait for the rest of the back-off."""
        await jobs.create(restarts={"backoffSeconds": 3600, "backoffMaxSeconds": 3600})
        await jobs.reaches(Phase.RUNNING)
        await kubelet.end(jobs.namespace, "job-0-0", 1)
        await jobs.reaches(Phase.RESTARTING, attempt=1)
        await jobs.patch(suspend=True)
        await jobs.reaches(Phase.SUSPENDED)
        await jobs.patch(suspend=False)
        status = await jobs.reaches(Phase.RUNNING)
        assert status["restarts"]["failures"] == 1

    async def test_of_a_job_that_has_ended(self, jobs: Jobs, kubelet: FakeKubelet):
        """Changes nothing but the generation that was seen."""
        await jobs.create()
        await jobs.reaches(Phase.RUNNING)
        await kubelet.succeed(jobs.namespace, "job-0-0")
        await jobs.reaches(Phase.SUCCEEDED)
        job = await jobs.patch(suspend=True)
        await jobs.reaches(Phase.SUCCEEDED, attempt=0, observedGeneration=job["metadata"]["generation"])

    async def test_and_edit_while_the_operator_is_away(self, jobs: Jobs, operator: OperatorProcess):
        """Suspended, edited and resumed before it is back: the workers of the old spec do not stay."""
        await jobs.create(workers=2)
        await jobs.reaches(Phase.RUNNING, attempt=0)
        operator.kill()
        await jobs.patch(suspend=True)
        await jobs.patch(seed=7)
        await jobs.patch(suspend=False)
        await operator.start()
        status = await jobs.reaches(Phase.RUNNING, attempt=1)
        assert (await task_of(jobs, "job-1-0"))["seed"] == 7
        assert status["restarts"]["total"] == 0


class TestScale:
    async def test_kubectl_scale_starts_the_next_attempt(self, jobs: Jobs, control_plane: ControlPlane):
        """Of the new size, up and down, without a count; the task is the same, so the checkpoint is carried over."""
        training = {
            "workload": {"kmeans": {"clusters": 3}},
            "data": {"synthetic": {"blobs": {"rows": 100, "features": 4}}},
            "output": {"uri": "/models/job"},
            "checkpoint": {"uri": "/models/job-checkpoint"},
        }
        await jobs.create(workers=2, **training)
        await jobs.reaches(Phase.RUNNING, attempt=0)
        task = await task_of(jobs, "job-0-0")
        for attempt, size in ((1, 4), (2, 1)):
            control_plane.kubectl("-n", jobs.namespace, "scale", "sj/job", f"--replicas={size}")
            status = await jobs.reaches(Phase.RUNNING, attempt=attempt)
            await jobs.has_pods(*(f"job-{attempt}-{index}" for index in range(size)))
            assert status["restarts"]["total"] == 0
            assert await task_of(jobs, f"job-{attempt}-0") == task
        scale = json.loads(await jobs.api.raw("GET", SCALEJOBS.path(jobs.namespace, "job", "scale")))
        assert (scale["spec"]["replicas"], scale["status"]) == (
            1,
            {"replicas": 1, "selector": "scalejob.io/job=job"},
        )


class TestTimes:
    async def test_of_running_ends_while_the_operator_is_away(self, jobs: Jobs, operator: OperatorProcess):
        """`activeSeconds` is a stored time: back again, it ends the job at once."""
        await jobs.create(deadlines={"activeSeconds": 2}, keepPods="All")
        await jobs.reaches(Phase.RUNNING)
        await self._away(operator, 2.5)
        await jobs.reaches(Phase.FAILED, reason="DeadlineExceeded")
        await jobs.has_pods()

    async def test_of_scheduling_ends_while_the_operator_is_away(self, jobs: Jobs, operator: OperatorProcess):
        """`schedulingSeconds` too."""
        await jobs.create(pod=NOWHERE, deadlines={"schedulingSeconds": 2})
        await jobs.reaches(Phase.PENDING, reason="Unschedulable")
        await self._away(operator, 2.5)
        await jobs.reaches(Phase.FAILED, reason="DeadlineExceeded")
        await jobs.has_pods()

    async def test_to_live_ends_while_the_operator_is_away(
        self, jobs: Jobs, kubelet: FakeKubelet, operator: OperatorProcess
    ):
        """And `ttlSecondsAfterFinished`."""
        await jobs.create(ttlSecondsAfterFinished=2)
        await jobs.reaches(Phase.RUNNING)
        await kubelet.succeed(jobs.namespace, "job-0-0")
        await jobs.reaches(Phase.SUCCEEDED)
        await self._away(operator, 2.5)
        await jobs.api.until(lambda: is_gone(jobs))

    async def test_to_live_may_be_set_when_the_job_has_ended(self, jobs: Jobs, kubelet: FakeKubelet):
        """It counts from the end."""
        await jobs.create()
        await jobs.reaches(Phase.RUNNING)
        await kubelet.succeed(jobs.namespace, "job-0-0")
        await jobs.reaches(Phase.SUCCEEDED)
        await jobs.patch(ttlSecondsAfterFinished=0)
        await jobs.api.until(lambda: is_gone(jobs))

    async def _away(self, operator: OperatorProcess, seconds: float) -> None:
        operator.kill()
        await asyncio.sleep(seconds)
        await operator.start()


Story = Callable[[Jobs, FakeKubelet], Awaitable[Phase]]


async def all_succeed(jobs: Jobs, kubelet: FakeKubelet) -> Phase:
    for index in range(2):
        await kubelet.succeed(jobs.namespace, f"job-0-{index}")
    return Phase.SUCCEEDED


async def one_fails_for_good(jobs: Jobs, kubelet: FakeKubelet) -> Phase:
    await kubelet.succeed(jobs.namespace, "job-0-0")
    await kubelet.end(jobs.namespace, "job-0-1", 93)
    return Phase.FAILED


async def the_restarts_are_used_up(jobs: Jobs, kubelet: FakeKubelet) -> Phase:
    await kubelet.succeed(jobs.namespace, "job-0-0")
    await kubelet.end(jobs.namespace, "job-0-1", 1)
    return Phase.FAILED


async def its_time_is_over(jobs: Jobs, kubelet: FakeKubelet) -> Phase:
    """While one worker is done and the other runs."""
    await kubelet.succeed(jobs.namespace, "job-0-0")
    await jobs.patch(deadlines={"activeSeconds": 1})
    return Phase.FAILED


SUCCEEDED, FAILED = "job-0-0", "job-0-1"


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        (all_succeed, {"None": [], "Failed": [], "All": [SUCCEEDED, "job-0-1"]}),
        (one_fails_for_good, {"None": [], "Failed": [FAILED], "All": [SUCCEEDED, FAILED]}),
        (the_restarts_are_used_up, {"None": [], "Failed": [FAILED], "All": [SUCCEEDED, FAILED]}),
        (its_time_is_over, {"None": [], "Failed": [], "All": [SUCCEEDED]}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("keep", ["None", "Failed", "All"])
async def test_pods_are_kept_on_every_way_to_the_end(
    jobs: Jobs, kubelet: FakeKubelet, end: Story, kept: dict[str, list[str]], keep: str
):
    """`keepPods` looks at how each Pod ended; one that still runs never stays."""
    await jobs.create(workers=2, keepPods=keep, restarts={"failures": 0})
    await jobs.reaches(Phase.RUNNING)
    await jobs.reaches(await end(jobs, kubelet))
    await jobs.has_pods(*kept[keep])
