"""What the API server, a quota, a policy or somebody else's object has against a job."""

import json

import pytest

from scalejob.contract import Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import SERVICES, Object, Resource
from scalejob.kube.errors import Invalid
from tests.controlplane.api import Api, Jobs, make_job
from tests.controlplane.control_plane import ControlPlane
from tests.tools import ROOT
from tests.unit.api.cases import ACCEPTED, REFUSED, Case

QUOTAS = Resource("v1", "resourcequotas")


async def _submit(api: Api, document: Object) -> bytes:
    """As kubectl does: unknown fields are errors. Nothing is stored."""
    path = SCALEJOBS.path("default")
    return await api.raw("POST", path, body=document, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
async def test_api_server_refuses(api: Api, case: Case):
    """The message names what is wrong."""
    with pytest.raises(Invalid) as refusal:
        await _submit(api, case.document())
    assert case.want in refusal.value.message


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
async def test_api_server_accepts(api: Api, case: Case):
    """What the CLI accepts is accepted."""
    assert await _submit(api, case.document())


def test_crd_is_small(control_plane: ControlPlane):
    """It installs by plain `kubectl apply`, which stores it in an annotation of at most 256 KiB; we stay below 200 kB."""
    applied = control_plane.kubectl("apply", "view-last-applied", "crd/scalejobs.scalejob.io", "-o", "json").stdout
    assert len(json.dumps(json.loads(applied))) < 200_000
    assert "unchanged" in control_plane.kubectl("apply", "-f", str(ROOT / "manifests" / "crd.yaml")).stdout


def test_fields_are_explained(control_plane: ControlPlane):
    """`kubectl explain` reads well."""
    shown = control_plane.kubectl("explain", "scalejob.spec.workload.kmeans.init").stdout
    assert "k-means||" in shown


def test_a_typo_is_named(control_plane: ControlPlane):
    """`kubectl apply` of a file with a typo fails and names the field."""
    result = control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(make_job(worker=4)), check=False)
    assert result.returncode != 0
    assert 'unknown field "spec.worker"' in result.stderr


@pytest.mark.usefixtures("operator")
class TestWithOperator:
    async def test_workload_cannot_change(self, jobs: Jobs):
        """The workload of a job is for ever."""
        await jobs.create()
        with pytest.raises(Invalid, match="workload cannot be changed"):
            await jobs.patch(workload={"command": {"argv": ["other"]}})

    async def test_most_fields_change_only_while_suspended(self, jobs: Jobs):
        """What the running workers were made from stays; a suspended job may be corrected, and goes on with it."""
        await jobs.create()
        await jobs.reaches(Phase.RUNNING)
        with pytest.raises(Invalid, match="seed can change only while the job is suspended"):
            await jobs.patch(seed=7)
        await jobs.patch(suspend=True)
        await jobs.reaches(Phase.SUSPENDED)
        await jobs.patch(seed=7)
        await jobs.patch(suspend=False)
        await jobs.reaches(Phase.RUNNING, attempt=1)
        environment = (await jobs.pods())["job-1-0"]["spec"]["containers"][0]["env"]
        assert any(v["name"] == "SCALEJOB_SPEC" and '"seed":7' in v["value"].replace(" ", "") for v in environment)

    async def test_quota_leaves_nothing_half_made(self, jobs: Jobs):
        """A quota with room for a part of the workers gets none of them; the job says why, and runs once there is room."""
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": {"pods": "2"}},
        }
        await jobs.api.client.create(QUOTAS, jobs.namespace, quota)
        await jobs.api.until(lambda: _is_counted(jobs))
        await jobs.create(workers=4)
        status = await jobs.reaches(Phase.PENDING, reason="QuotaExceeded")
        assert "exceeded quota: q" in status["message"]
        await jobs.has_pods()
        await jobs.api.client.merge_patch(QUOTAS, jobs.namespace, "q", {"spec": {"hard": {"pods": "4"}}})
        await jobs.reaches(Phase.RUNNING, attempt=0)

    async def test_restricted_namespace_accepts_the_pods(self, api: Api):
        """The Pods satisfy the strictest Pod Security Standard."""
        jobs = Jobs(api, "restricted")
        await api.new_namespace("restricted", {"pod-security.kubernetes.io/enforce": "restricted"})
        await jobs.create(workers=2)
        await jobs.reaches(Phase.RUNNING)
        await jobs.delete()

    async def test_foreign_service_is_a_name_conflict(self, jobs: Jobs):
        """A Service of somebody else stays as it is; the job waits, says so, and goes on when it is gone."""
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "job"}, "spec": {"ports": [{"port": 1}]}}
        await jobs.api.client.create(SERVICES, jobs.namespace, service)
        await jobs.create()
        status = await jobs.reaches(Phase.PENDING, reason="NameConflict")
        assert f"Service {jobs.namespace}/job exists" in status["message"]
        assert await jobs.pods() == {}
        await jobs.api.delete_now(SERVICES, jobs.namespace, "job")
        await jobs.reaches(Phase.RUNNING)

    async def test_refused_pods_fail_the_job(self, jobs: Jobs):
        """Pods that the API server calls invalid end the job, with the API server's message."""
        await jobs.create(pod={"affinity": {"nodeAffinity": "none"}})
        status = await jobs.reaches(Phase.FAILED, reason="InvalidSpec")
        assert "nodeAffinity" in status["message"] or "NodeAffinity" in status["message"]

    async def test_jobs_of_others_are_left_alone(self, jobs: Jobs):
        """A job that another controller manages gets no status and no Pods."""
        await jobs.create("theirs", managedBy="example.com/other")
        await jobs.create("ours")
        await jobs.reaches(Phase.RUNNING, "ours")
        assert "status" not in await jobs.get("theirs")
        assert await jobs.pods("theirs") == {}


async def _is_counted(jobs: Jobs) -> bool:
    quota = await jobs.api.client.get(QUOTAS, jobs.namespace, "q")
    return "used" in quota.get("status", {})
