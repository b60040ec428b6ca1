"""Jobs that a former release has begun go on under this one, also those that it would not accept any more."""

from collections.abc import AsyncIterator

import pytest_asyncio
import yaml

from scalejob.contract import Phase
from scalejob.kube.errors import Invalid
from tests.controlplane.api import Jobs
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.fake_nodes import FakeKubelet
from tests.tools import ROOT

CRD = ROOT / "manifests" / "crd.yaml"
NEW_IN_STATUS = ("template", "schedulingTime", "holdTime")
REFUSED_NOW = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
DROPS = "the API server drops fields of the status"


def former_definition() -> str:
    """Without the fields and the rule that came later."""
    crd = yaml.safe_load(CRD.read_text())
    (version,) = crd["spec"]["versions"]
    parts = version["schema"]["openAPIV3Schema"]["properties"]
    for name in NEW_IN_STATUS:
        del parts["status"]["properties"][name]
    del parts["spec"]["properties"]["deadlines"]["properties"]["holdSeconds"]
    del parts["spec"]["properties"]["pod"]["properties"]["resources"]["x-kubernetes-validations"]
    return yaml.safe_dump(crd)


async def accepts(jobs: Jobs, name: str) -> bool:
    """Whether the API server takes a job that asks for GPUs in the old way."""
    try:
        await jobs.create(name, workers=2, pod=REFUSED_NOW)
    except Invalid:
        return False
    return True


@pytest_asyncio.fixture(loop_scope="session")
async def old_job(jobs: Jobs, operator: OperatorProcess, control_plane: ControlPlane) -> AsyncIterator[str]:
    """The name of one that runs; the operator is away and the definition is this release's.

    An operator whose definition is older than itself says so.
    """
    assert DROPS not in operator.log.read_text()
    control_plane.kubectl("apply", "-f", "-", stdin=former_definition())
    try:
        await jobs.api.until(lambda: accepts(jobs, "old"))
        await jobs.reaches(Phase.RUNNING, "old")
        assert operator.log.read_text().count(DROPS) == 1
        operator.stop()
    finally:
        control_plane.kubectl("apply", "-f", str(CRD))

    names = (f"new-{number}" for number in range(1000))

    async def refuses() -> bool:
        return not await accepts(jobs, next(names))

    await jobs.api.until(refuses)
    yield "old"


async def test_a_running_job_is_not_disturbed_and_ends(
    jobs: Jobs, old_job: str, operator: OperatorProcess, kubelet: FakeKubelet
):
    """Its status lacks what came later and its spec breaks a rule. It fails over, is suspended, resumed, and succeeds."""
    before = await jobs.status(old_job)
    assert not set(NEW_IN_STATUS) & set(before)
    pods = {pod["metadata"]["uid"] for pod in (await jobs.pods(old_job)).values()}
    await operator.start()
    await jobs.create("later")
    await jobs.reaches(Phase.RUNNING, "later")
    status = await jobs.reaches(Phase.RUNNING, old_job, attempt=0)
    assert {pod["metadata"]["uid"] for pod in (await jobs.pods(old_job)).values()} == pods
    assert status["startTime"] == before["startTime"]

    await kubelet.end(jobs.namespace, "old-0-1", 1)
    status = await jobs.reaches(Phase.RUNNING, old_job, attempt=1)
    assert (status["restarts"]["failures"], bool(status["template"])) == (1, True)
    await jobs.patch(old_job, suspend=True)
    await jobs.reaches(Phase.SUSPENDED, old_job, attempt=2)
    await jobs.patch(old_job, suspend=False)
    await jobs.reaches(Phase.RUNNING, old_job, attempt=2)
    for index in range(2):
        await kubelet.succeed(jobs.namespace, f"old-2-{index}")
    await jobs.reaches(Phase.SUCCEEDED, old_job, attempt=2)
