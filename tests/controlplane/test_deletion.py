"""Deletion of a job in each of the ways that Kubernetes knows, of its namespace, and of the definition of its kind."""

import asyncio

import pytest

from scalejob.contract import Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import PODS, SERVICES, Object, Selection
from scalejob.kube.errors import ApiError, NotFound
from tests.controlplane.api import NAMESPACES, Api, Jobs, make_job
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.tools import ROOT

pytestmark = pytest.mark.usefixtures("operator")

NOWHERE = {"nodeSelector": {"no": "node"}}


async def is_gone(jobs: Jobs) -> bool:
    try:
        await jobs.get()
    except NotFound:
        return True
    return False


async def delete_with(jobs: Jobs, policy: str) -> None:
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}
    await jobs.api.raw("DELETE", SCALEJOBS.path(jobs.namespace, "job"), body=body)


async def owned(jobs: Jobs) -> list[Object]:
    """Pods and Services of the namespace."""
    pages = [
        await jobs.api.client.list_page(Selection(resource=resource, namespace=jobs.namespace))
        for resource in (PODS, SERVICES)
    ]
    return [body for page in pages for body in page.items]


@pytest.mark.parametrize("policy", ["Foreground", "Background"])
async def test_takes_all_that_the_job_owns(jobs: Jobs, policy: str):
    """Whoever waits for whom."""
    await jobs.create(workers=3)
    await jobs.reaches(Phase.RUNNING)
    await delete_with(jobs, policy)
    await jobs.api.until(lambda: is_gone(jobs))

    async def nothing_is_left() -> bool:
        return not await owned(jobs)

    await jobs.api.until(nothing_is_left)


async def test_of_an_orphaned_gang_leaves_it_alone(jobs: Jobs):
    """Pods and Service stay, without an owner; nothing is made, stopped or taken over, not by a new job of that name either."""
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    await delete_with(jobs, "Orphan")
    await jobs.api.until(lambda: is_gone(jobs))
    orphans = {body["metadata"]["uid"] for body in await owned(jobs)}
    assert not any(body["metadata"].get("ownerReferences") for body in await owned(jobs))
    await jobs.create(workers=2)
    status = await jobs.reaches(Phase.PENDING, reason="NameConflict")
    assert "belongs to nobody" in status["message"]
    assert {body["metadata"]["uid"] for body in await owned(jobs)} == orphans
    for body in await owned(jobs):
        resource = SERVICES if body["metadata"]["name"] == "job" else PODS
        await jobs.api.delete_now(resource, jobs.namespace, body["metadata"]["name"])
    await jobs.reaches(Phase.RUNNING, attempt=0)


async def test_of_the_namespace_disturbs_nobody_else(jobs: Jobs, api: Api, operator: OperatorProcess):
    """All of it goes, and the jobs of others go on."""
    doomed = Jobs(api, f"{jobs.namespace}-doomed")
    await api.new_namespace(doomed.namespace)
    await doomed.create(workers=3)
    await doomed.create("queued", pod=NOWHERE)
    await doomed.reaches(Phase.RUNNING)
    await api.raw("DELETE", NAMESPACES.path(None, doomed.namespace))
    await jobs.create()
    await jobs.reaches(Phase.RUNNING)

    async def is_away() -> bool:
        try:
            await api.client.get(NAMESPACES, None, doomed.namespace)
        except NotFound:
            return True
        return False

    await api.until(is_away)
    assert operator.is_running


async def test_of_the_definition_and_its_return(jobs: Jobs, control_plane: ControlPlane, operator: OperatorProcess):
    """All jobs go with their CustomResourceDefinition; when it is back, new ones run, by the same process."""
    await jobs.create(workers=2)
    await jobs.reaches(Phase.RUNNING)
    control_plane.kubectl("delete", "-f", str(ROOT / "manifests" / "crd.yaml"))
    await jobs.has_pods()
    await asyncio.sleep(1)
    control_plane.kubectl("apply", "-f", str(ROOT / "manifests" / "crd.yaml"))
    await jobs.api.until(lambda: _is_taken(jobs))
    await jobs.reaches(Phase.RUNNING, attempt=0)
    assert operator.is_running


async def test_of_the_definition_leaves_an_operator_that_can_be_stopped(
    jobs: Jobs, control_plane: ControlPlane, operator: OperatorProcess
):
    """By SIGTERM, while it waits for the definition."""
    control_plane.kubectl("delete", "-f", str(ROOT / "manifests" / "crd.yaml"))
    await asyncio.sleep(1)
    assert operator.stop() == 0
    control_plane.kubectl("apply", "-f", str(ROOT / "manifests" / "crd.yaml"))
    await jobs.api.until(lambda: _is_taken(jobs))


async def _is_taken(jobs: Jobs) -> bool:
    """Whether a job could be created."""
    try:
        await jobs.api.client.create(SCALEJOBS, jobs.namespace, make_job())
    except ApiError:
        return False
    return True
