"""The life of a job on a real control plane, from apply to its end."""

from datetime import datetime

import pytest

from scalejob.contract import LastWord, Phase
from scalejob.kube.client import SERVICES
from scalejob.kube.errors import NotFound
from tests.controlplane.api import Jobs, condition
from tests.controlplane.control_plane import ControlPlane
from tests.controlplane.fake_nodes import MISSING_IMAGE, FakeKubelet

pytestmark = pytest.mark.usefixtures("operator")


async def test_all_workers_succeed(jobs: Jobs, kubelet: FakeKubelet, control_plane: ControlPlane):
    """A job whose workers end with 0 is Succeeded, with the result that rank 0 left, in the status and in kubectl's columns."""
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    word = LastWord(rank=0, metrics={"r2": 0.5}, rows=10, features=2, model_uri="/m", model_sha256="ab")
    await kubelet.succeed(jobs.namespace, "job-0-1")
    await kubelet.succeed(jobs.namespace, "job-0-0", word)
    status = await jobs.reaches(Phase.SUCCEEDED)
    assert status["result"]["metrics"] == [{"name": "r2", "value": "0.5"}]
    assert {k: condition(status, k)["status"] for k in ("Complete", "Finished", "Failed")} == {
        "Complete": "True",
        "Finished": "True",
        "Failed": "False",
    }
    shown = control_plane.kubectl("-n", jobs.namespace, "get", "sj").stdout
    assert "Succeeded" in shown
    assert "r2=0.5" in shown


async def test_wait_returns_on_success(jobs: Jobs, kubelet: FakeKubelet, control_plane: ControlPlane):
    """`kubectl wait --for=condition=Complete` returns."""
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)
    await kubelet.succeed(jobs.namespace, "job-0-0")
    control_plane.kubectl("-n", jobs.namespace, "wait", "--for=condition=Complete", "sj/job", "--timeout=20s")


async def test_failure_starts_a_new_attempt(jobs: Jobs, kubelet: FakeKubelet):
    """A worker that fails is followed by a new attempt of all workers, until the allowed failures are used up."""
    await jobs.create(workers=2, restarts={"failures": 1, "backoffSeconds": 0})
    await jobs.reaches(Phase.RUNNING, attempt=0)
    await kubelet.end(jobs.namespace, "job-0-1", 1, message="boom")
    status = await jobs.reaches(Phase.RUNNING, attempt=1)
    assert (status["lastFailure"]["index"], status["lastFailure"]["exitCode"]) == (1, 1)
    await kubelet.end(jobs.namespace, "job-1-0", 1, message="boom again")
    status = await jobs.reaches(Phase.FAILED)
    assert status["reason"] == "RestartLimitExceeded"
    assert "boom again" in status["lastFailure"]["message"]


async def test_back_off_delays_the_next_attempt(jobs: Jobs, kubelet: FakeKubelet):
    """The Pods of the next attempt are made no sooner than `backoffSeconds` after the failure."""
    await jobs.create(restarts={"failures": 1, "backoffSeconds": 2})
    await jobs.reaches(Phase.RUNNING, attempt=0)
    await kubelet.end(jobs.namespace, "job-0-0", 1)
    await jobs.reaches(Phase.RESTARTING, attempt=1)
    failed = datetime.fromisoformat((await jobs.status())["lastFailure"]["time"])
    await jobs.reaches(Phase.RUNNING, attempt=1)
    made = (await jobs.pods())["job-1-0"]["metadata"]["creationTimestamp"]
    assert (datetime.fromisoformat(made) - failed).total_seconds() >= 2


async def test_invalid_data_fails_at_once(jobs: Jobs, kubelet: FakeKubelet):
    """Exit code 2 ends the job with the reason and the message of the worker, without a retry."""
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)
    word = LastWord(rank=0, reason="InvalidData", error="DataError", message="x.parquet has no column y")
    await kubelet.end(jobs.namespace, "job-0-0", 2, message=word.to_json())
    status = await jobs.reaches(Phase.FAILED)
    assert (status["reason"], status["attempt"]) == ("InvalidData", 0)
    assert "no column y" in status["message"]


async def test_deleted_pod_starts_a_new_attempt(jobs: Jobs):
    """`kubectl delete pod` is a disruption: all workers start again, and no failure is counted."""
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    await jobs.delete_pod("job-0-1")
    status = await jobs.reaches(Phase.RUNNING, attempt=1)
    assert (status["restarts"]["failures"], status["restarts"]["disruptions"]) == (0, 1)
    assert status["lastFailure"]["class"] == "PodDeleted"


async def test_evicted_pod_starts_a_new_attempt(jobs: Jobs, kubelet: FakeKubelet):
    """An eviction is a disruption too."""
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)
    await kubelet.evict(jobs.namespace, "job-0-0")
    status = await jobs.reaches(Phase.RUNNING, attempt=1)
    assert status["lastFailure"]["class"] == "Evicted"


async def test_missing_image_fails_after_its_deadline(jobs: Jobs):
    """An image that cannot be pulled ends the job after `imagePullSeconds`, in the kubelet's words."""
    await jobs.create(pod={"image": MISSING_IMAGE}, deadlines={"imagePullSeconds": 1})
    status = await jobs.reaches(Phase.FAILED, reason="ImagePullFailed")
    assert MISSING_IMAGE in status["message"]


async def test_too_many_gpus_are_told(jobs: Jobs, control_plane: ControlPlane):
    """A job that asks for more GPUs than exist waits, and `kubectl get sj -o wide` says so in the scheduler's words."""
    await jobs.create(gpus={"perWorker": 9})
    await jobs.reaches(Phase.PENDING, reason="Unschedulable")
    assert "Insufficient nvidia.com/gpu" in (await jobs.status())["message"]
    assert "Unschedulable" in control_plane.kubectl("-n", jobs.namespace, "get", "sj", "-o", "wide").stdout


async def test_gpus_bring_a_worker_to_their_node(jobs: Jobs):
    """The only node that offers GPUs gets the worker that asks for some."""
    await jobs.create(gpus={"perWorker": 8})
    await jobs.reaches(Phase.RUNNING)
    assert (await jobs.pods())["job-0-0"]["spec"]["nodeName"] == "gpu-node"


async def test_scheduling_deadline(jobs: Jobs):
    """A job that finds no node within `schedulingSeconds` fails and leaves no Pod that waits."""
    await jobs.create(pod={"nodeSelector": {"no": "node"}}, deadlines={"schedulingSeconds": 1})
    await jobs.reaches(Phase.FAILED, reason="DeadlineExceeded")
    await jobs.has_pods()


async def test_active_deadline(jobs: Jobs):
    """A job that runs longer than `activeSeconds` fails, and its workers are stopped."""
    await jobs.create(deadlines={"activeSeconds": 1})
    await jobs.reaches(Phase.FAILED, reason="DeadlineExceeded")
    await jobs.has_pods()


async def test_suspend_and_resume(jobs: Jobs):
    """Suspending deletes the Pods and forgets the start time; resuming starts the next attempt."""
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    await jobs.patch(suspend=True)
    status = await jobs.reaches(Phase.SUSPENDED)
    assert "startTime" not in status
    await jobs.has_pods()
    await jobs.patch(suspend=False)
    await jobs.reaches(Phase.RUNNING, attempt=1)


async def test_time_to_live(jobs: Jobs, kubelet: FakeKubelet):
    """A finished job is deleted after its time to live, with all that it owns, and does not come back."""
    await jobs.create(ttlSecondsAfterFinished=0, keepPods="All")
    await jobs.reaches(Phase.RUNNING)
    await kubelet.succeed(jobs.namespace, "job-0-0")
    await jobs.api.until(jobs.is_gone)
    await jobs.has_pods()


@pytest.mark.parametrize(
    ("keep", "want"),
    [("None", []), ("Failed", ["job-0-1"]), ("All", ["job-0-0", "job-0-1"])],
)
async def test_pods_are_kept_as_asked(jobs: Jobs, kubelet: FakeKubelet, keep: str, want: list[str]):
    """`keepPods` decides which Pods of the last attempt stay after a failure; those that still run never do."""
    await jobs.create(workers=3, keepPods=keep, restarts={"failures": 0})
    await jobs.reaches(Phase.RUNNING)
    await kubelet.succeed(jobs.namespace, "job-0-0")
    await kubelet.end(jobs.namespace, "job-0-1", 2)
    await jobs.reaches(Phase.FAILED)
    await jobs.has_pods(*want)


async def test_deletion_leaves_nothing(jobs: Jobs):
    """`kubectl delete sj` takes Pods and Service with it."""
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    await jobs.delete()
    await jobs.has_pods()
    await jobs.api.until(lambda: _has_no_service(jobs))


async def test_a_job_may_be_made_anew_at_once(jobs: Jobs):
    """A new job of the same name waits for all that its predecessor has left, and then starts from the beginning."""
    old = await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    await jobs.hold_pod("job-0-1", "test/held")
    await jobs.delete()
    await jobs.create(workers=2)
    await jobs.has_pods("job-0-1")
    status = await jobs.reaches(Phase.PENDING, reason="NameConflict")
    assert status["message"] == f"Pods of an earlier ScaleJob {jobs.namespace}/job have not gone yet"
    await jobs.hold_pod("job-0-1")
    await jobs.reaches(Phase.RUNNING, attempt=0)
    owner = (await jobs.pods())["job-0-0"]["metadata"]["ownerReferences"][0]["uid"]
    assert owner == (await jobs.get())["metadata"]["uid"] != old["metadata"]["uid"]


async def test_events_tell_the_story(jobs: Jobs, kubelet: FakeKubelet):
    """`kubectl describe sj` shows why the job was started again."""
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)
    await kubelet.end(jobs.namespace, "job-0-0", 1, message="boom")
    await jobs.reaches(Phase.RUNNING, attempt=1)

    async def told() -> bool:
        return any(event["type"] == "Warning" and "boom" in event["message"] for event in await jobs.events())

    await jobs.api.until(told)


async def _has_no_service(jobs: Jobs) -> bool:
    try:
        await jobs.api.client.get(SERVICES, jobs.namespace, "job")
    except NotFound:
        return True
    return False
