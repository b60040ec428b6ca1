"""The operator gets along with exactly what the shipped roles grant, and uses all of it: the API server's audit log says so."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

import pytest
import yaml

from charts.plain_manifest import CHART, KUBE_VERSION, TARGET
from scalejob.contract import Phase
from scalejob.kube.client import PODS, SERVICES, Object
from tests.controlplane.api import Api, Jobs
from tests.controlplane.audit import Request
from tests.controlplane.control_plane import ControlPlane, OperatorProcess, free_port
from tests.controlplane.fake_nodes import FakeKubelet
from tests.tools import find_tool

FOREIGN_SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "job"}, "spec": {"ports": [{"port": 1}]}}
FOREIGN_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "job-0-0"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Grant:
    """One verb on one kind of object. `namespace` is empty for all of them."""

    namespace: str
    group: str
    resource: str
    verb: str

    def covers(self, request: Request) -> bool:
        is_there = self.namespace in ("", request.namespace)
        wanted = (self.group, self.resource, self.verb)
        return is_there and (request.group, request.resource, request.verb) == wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The objects of one installation, and the namespaces whose jobs it runs."""

    objects: list[Object]
    namespaces: tuple[str, ...]

    @property
    def deployment(self) -> Object:
        return next(o for o in self.objects if o["kind"] == "Deployment")

    @property
    def account(self) -> tuple[str, str]:
        """Namespace and name."""
        template: Object = self.deployment["spec"]["template"]["spec"]
        return self.deployment["metadata"]["namespace"], template["serviceAccountName"]

    @property
    def options(self) -> list[str]:
        """Those of the command line."""
        found: list[str] = self.deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        return found

    @property
    def grants(self) -> set[Grant]:
        """Of all roles that its bindings name."""
        bindings = [o for o in self.objects if o["kind"].endswith("RoleBinding")]
        bound = {(b["roleRef"]["kind"], b["metadata"].get("namespace"), b["roleRef"]["name"]) for b in bindings}
        roles = [o for o in self.objects if (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) in bound]
        assert len(roles) == len(bound)
        return {grant for role in roles for grant in _grants(role)}


def _grants(role: Object) -> Iterator[Grant]:
    namespace = role["metadata"].get("namespace", "")
    for rule in role["rules"]:
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"]):
            yield Grant(namespace=namespace, group=group, resource=resource, verb=verb)


def _cluster_wide() -> Installation:
    """That of the manifests."""
    return Installation(objects=list(yaml.safe_load_all(TARGET.read_text())), namespaces=("all-1",))


def _namespaced() -> Installation:
    """That of the chart with a list of namespaces."""
    release = ["template", "few", CHART, "--namespace", "few-system", "--kube-version", KUBE_VERSION]
    settings = "crds.install=false,rbac.aggregate=false,watch.namespaces={few-1,few-2}"
    done = subprocess.run([find_tool("helm"), *release, "--set", settings], check=True, capture_output=True, text=True)
    objects = [o for o in yaml.safe_load_all(done.stdout) if o]
    assert "ClusterRole" not in {o["kind"] for o in objects}
    return Installation(objects=objects, namespaces=("few-1", "few-2"))


@pytest.mark.parametrize("make", [_cluster_wide, _namespaced], ids=["cluster", "namespaces"])
async def test_all_that_is_granted_is_used_and_nothing_else(
    make, api: Api, kubelet: FakeKubelet, operator_process: OperatorProcess, control_plane: ControlPlane
):
    """Lives that need every verb of the roles are lived without a refusal, and nowhere else; one verb too many stays unused."""
    if operator_process.is_running:
        operator_process.stop()
    installation = make()
    namespace, account = installation.account
    for name in {namespace, *installation.namespaces} - {"scalejob-system"}:
        await api.new_namespace(name)
    outside = Jobs(api, f"{namespace}-outside")
    await api.new_namespace(outside.namespace)
    await outside.create()
    items = {"apiVersion": "v1", "kind": "List", "items": installation.objects}
    control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(items))
    # One that another test's operator has left would not be created, only taken.
    control_plane.kubectl("delete", "leases", "--all", "--namespace", namespace)
    kubeconfig = control_plane.write_operator_kubeconfig(namespace, account)
    process, since = OperatorProcess(kubeconfig, control_plane.home / f"{account}.log", free_port()), datetime.now(UTC)
    await process.start(*installation.options)
    try:
        await asyncio.gather(*(_live(Jobs(api, name), kubelet) for name in installation.namespaces))
        await asyncio.sleep(2.0)  # the lease is renewed
        assert ("status" in await outside.get()) == ("" in {grant.namespace for grant in installation.grants})
    finally:
        process.kill()
        await outside.delete()
    user = f"system:serviceaccount:{namespace}:{account}"
    seen = [request for request in control_plane.audited() if request.user == user and request.time >= since]
    assert [request for request in seen if request.is_refused] == []
    assert sorted(grant for grant in installation.grants if not any(map(grant.covers, seen))) == []


async def _live(jobs: Jobs, kubelet: FakeKubelet) -> None:
    """A job whose names are taken, that fails, is suspended twice, ends well and is deleted when its time has come."""
    client = jobs.api.client
    await client.create(SERVICES, jobs.namespace, FOREIGN_SERVICE)
    await client.create(PODS, jobs.namespace, FOREIGN_POD)
    await jobs.create(workers=2, ttlSecondsAfterFinished=0)
    await jobs.reaches(Phase.PENDING, reason="NameConflict")
    await jobs.api.delete_now(SERVICES, jobs.namespace, "job")
    await jobs.api.until(lambda: _says(jobs, "Pod"))
    await jobs.api.delete_now(PODS, jobs.namespace, "job-0-0")
    await jobs.reaches(Phase.RUNNING, attempt=0)
    await kubelet.end(jobs.namespace, "job-0-1", 1)
    for attempt in (1, 2, 3):
        await jobs.reaches(Phase.RUNNING, attempt=attempt)
        if attempt < 3:
            await jobs.patch(suspend=True)
            await jobs.reaches(Phase.SUSPENDED)
            await jobs.patch(suspend=False)
    for index in (0, 1):
        await kubelet.end(jobs.namespace, f"job-3-{index}", 0)
    await jobs.api.until(jobs.is_gone)


async def _says(jobs: Jobs, kind: str) -> bool:
    return f"{kind} {jobs.namespace}/job" in (await jobs.status()).get("message", "")
