"""The last of the tier: the operator goes as it came, and comes and goes again with Helm."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from scalejob.contract import LABEL_JOB
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import MANIFESTS, NAMESPACE, OPERATOR_NAMESPACE
from tests.e2e.samples import FOLDER
from tests.shell_blocks import shell_block
from tests.tools import ROOT, find_tool

OURS = "app.kubernetes.io/name=scalejob"
Helm = Callable[[str], str]

CLUSTER_KINDS = "clusterroles,clusterrolebindings"


def operators_metrics(cluster: Cluster) -> str:
    (pod,) = cluster.items("pods", "-n", OPERATOR_NAMESPACE)
    name = pod["metadata"]["name"]
    return cluster.run("get", "--raw", f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{name}:8080/proxy/metrics")


def test_rights_suffice(cluster: Cluster):
    """The API server refused the operator nothing."""
    requests = [
        line for line in operators_metrics(cluster).splitlines() if line.startswith("scalejob_api_requests_total")
    ]
    assert any('resource="scalejobs"' in line for line in requests), requests
    assert not [line for line in requests if 'code="403"' in line]


def test_uninstall(cluster: Cluster):
    """`kubectl delete -f` of the two files ends at once, with jobs in the cluster, and leaves nothing behind."""
    cluster.run("apply", "-f", FOLDER / "too-many-gpus.yaml")
    cluster.wait("too-many-gpus", "Pending", lambda s: s.get("phase") == "Pending")
    cluster.run("delete", "-f", MANIFESTS / "operator.yaml", "-f", MANIFESTS / "crd.yaml", "--timeout=60s")
    left = cluster.run("get", f"{CLUSTER_KINDS},crds,namespaces", "-l", OURS, "-o", "name")
    assert left == ""
    cluster.run("wait", "pods", "-l", LABEL_JOB, "--for=delete", "--timeout=60s")


@pytest.fixture
def helm(bare_cluster: Cluster) -> Helm:
    """A shell that finds helm and kubectl, in the root of the project; what it prints."""
    path = f"{find_tool('helm').parent}{os.pathsep}{bare_cluster.env['PATH']}"

    def run(script: str) -> str:
        command = ["bash", "-ec", script]
        env = {**bare_cluster.env, "PATH": path}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def notes(bare_cluster: Cluster, helm: Helm) -> Iterator[str]:
    """What the documented installation prints, for the namespace of the tests alone. Afterwards nothing but the CRD is left."""
    yield helm(shell_block(ROOT / "docs/install.md", "helm").replace("team-a", NAMESPACE))
    helm(f"helm uninstall scalejob --namespace {OPERATOR_NAMESPACE} --wait")
    assert bare_cluster.run("get", CLUSTER_KINDS, "-l", OURS, "-o", "name") == ""
    bare_cluster.run("delete", "crd", "scalejobs.scalejob.io")
    bare_cluster.run("delete", "namespace", OPERATOR_NAMESPACE)


@pytest.mark.timeout(600)
def test_helm(cluster: Cluster, notes: str):
    """With rights in one namespace only, the operator runs a job there; the command in the notes waits for it."""
    (command,) = re.findall(r"^  kubectl (.*rollout status.*)$", notes, re.MULTILINE)
    cluster.run(*command.split())
    cluster.run("apply", "-f", FOLDER / "kmeans.yaml")
    cluster.wait_for_phase("kmeans", "Succeeded", seconds=300)
    cluster.run("delete", "-f", FOLDER / "kmeans.yaml")
