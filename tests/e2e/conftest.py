"""The tier needs a cluster: $KUBECONFIG, whose nodes have the images of this release (or can pull them).

Everything is typed as the README says. The claims are made once: storage that was claimed may not be claimable again.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, Object
from tests.e2e.jobs import finish, long_job
from tests.tools import ROOT, find_tool

MANIFESTS = ROOT / "manifests"
NAMESPACE = "scalejob-e2e"
OPERATOR_NAMESPACE = "scalejob-system"
OPERATOR = "deployment/scalejob-operator"
OPERATOR_PODS = "app.kubernetes.io/component=operator"
IMAGES = tuple(f"scalejob/{name}:{version('scalejob')}" for name in ("operator", "trainer"))


@pytest.fixture(scope="session")
def bare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The cluster of $KUBECONFIG, with a namespace for the tests that takes restricted Pods only."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no $KUBECONFIG: this tier needs a cluster")
    kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    shutil.copy(os.environ["KUBECONFIG"], kubeconfig)
    cluster = Cluster(kubectl=find_tool("kubectl"), kubeconfig=kubeconfig)
    need_images(cluster)
    cluster.run("config", "set-context", "--current", f"--namespace={NAMESPACE}")
    return cluster


def need_images(cluster: Cluster) -> None:
    """Skip unless every node has the images of this release: a run against old ones would prove nothing."""
    for node in cluster.items("nodes"):
        names = [name for image in node["status"].get("images", []) for name in image["names"] or ()]
        for image in IMAGES:
            if not any(name.endswith(image) for name in names):
                pytest.skip(f"node {node['metadata']['name']} has no image {image}")


@pytest.fixture(scope="session")
def cluster(bare_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with the operator installed as the README says, and the claims of the samples."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    bare_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    install(bare_cluster)
    bare_cluster.run("apply", "-f", MANIFESTS / "samples" / "storage.yaml")
    yield bare_cluster
    bare_cluster.run("delete", "namespace", NAMESPACE, "--ignore-not-found")


def install(cluster: Cluster) -> None:
    """CRD and operator, by plain kubectl."""
    cluster.run("apply", "-f", MANIFESTS / "crd.yaml", "-f", MANIFESTS / "operator.yaml")
    cluster.run("-n", OPERATOR_NAMESPACE, "rollout", "status", OPERATOR, "--timeout=120s")


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster) -> str:
    """SHA-256 of the model when nothing happens."""
    cluster.apply(long_job("undisturbed"))
    return finish(cluster, "undisturbed")["result"]["model"]["sha256"]


@pytest.fixture(scope="session")
def flights(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The flights lie on the claim `data`."""
    path = tmp_path_factory.mktemp("flights") / "flights.parquet"
    folder = MANIFESTS / "samples" / "data"
    subprocess.run([sys.executable, folder / "flights.py", path], check=True)
    subprocess.run(["sh", folder / "load.sh", path], env=cluster.env, check=True)


@pytest.fixture(scope="session")
def gpus(cluster: Cluster) -> Iterator[None]:
    """One node offers two GPUs, without devices behind them."""
    node = cluster.items("nodes")[0]["metadata"]["name"]
    offer_gpus(cluster, node, "2")
    yield
    offer_gpus(cluster, node, None)


def offer_gpus(cluster: Cluster, node: str, count: str | None) -> None:
    """As a device plug-in would make the kubelet do; None takes them away."""
    offer: Object = {"nvidia.com/gpu": count}
    patch = json.dumps({"status": {"capacity": offer, "allocatable": offer}})
    cluster.run("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """An empty folder from which `manifests/...` is found, as in a checkout."""
    (tmp_path / "manifests").symlink_to(MANIFESTS)
    return tmp_path
