"""What a fake node cannot show: the kernel's killer, a drain, a node that is cut off, a node without its kubelet."""

from typing import Any

import pytest

from scalejob.contract import LABEL_ATTEMPT, LABEL_INDEX, LABEL_JOB
from tests.e2e.cluster import Cluster, Object
from tests.e2e.conftest import OPERATOR_NAMESPACE, OPERATOR_PODS
from tests.e2e.jobs import finish, is_in_the_middle, long_job
from tests.e2e.nodes import Node, need_tool

# The first attempt lasts until it is ended, the second is done at once.
PATIENT = 'test "$SCALEJOB_ATTEMPT" -gt 0 || sleep 1800'
# Worker 1 takes a GiB; the other waits.
GREEDY = 'test "$SCALEJOB_INDEX" = 1 || sleep 1800; python -c "b\'x\' * (1 << 30)"'


def shell_job(name: str, script: str, **spec: Any) -> Object:
    """Two workers that run a script, on two nodes if there are two that take them."""
    pod: Object = spec.pop("pod", {})
    return {
        "apiVersion": "scalejob.io/v1alpha1",
        "kind": "ScaleJob",
        "metadata": {"name": name},
        "spec": {
            "workload": {"command": {"argv": ["sh", "-c", script]}},
            "workers": 2,
            "keepPods": "All",
            "pod": {"terminationGracePeriodSeconds": 5, **spread(name), **pod},
            **spec,
        },
    }


def spread(job: str) -> Object:
    """Each worker on a node of its own, if that can be."""
    term = {"labelSelector": {"matchLabels": {LABEL_JOB: job}}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}


def placed(cluster: Cluster, job: str, attempt: int) -> dict[int, str]:
    """Which node each worker of an attempt has, those that are being deleted included."""
    pods = cluster.items("pods", "-l", f"{LABEL_JOB}={job},{LABEL_ATTEMPT}={attempt}")
    return {int(pod["metadata"]["labels"][LABEL_INDEX]): pod["spec"].get("nodeName", "") for pod in pods}


def nodes_of(cluster: Cluster, job: str, attempt: int) -> set[str]:
    """All nodes of an attempt."""
    return set(placed(cluster, job, attempt).values())


@pytest.fixture
def operators_node(cluster: Cluster) -> str:
    """Breaking it would be another test."""
    (pod,) = cluster.items(
        "pods", "-n", OPERATOR_NAMESPACE, "-l", OPERATOR_PODS, "--field-selector=status.phase=Running"
    )
    if len(cluster.items("nodes")) < 2:
        pytest.skip("the cluster has one node: nothing could go on without it")
    found: str = pod["spec"]["nodeName"]
    return found


def place(cluster: Cluster, job: str, operators_node: str) -> tuple[Node, int]:
    """The node to break, and the worker that is there."""
    found = placed(cluster, job, attempt=0)
    away = [index for index, node in found.items() if node != operators_node]
    assert len(away) == 1, f"one of two workers on each node is wanted, and they are on {found}"
    return Node(cluster=cluster, name=found[away[0]]), away[0]


def check_loss(status: Object, reason: str, node: Node, index: int) -> None:
    """The blame, and that no failure was counted."""
    failure = status["lastFailure"]
    assert (failure["class"], failure["index"], failure["node"]) == (reason, index, node.name)
    assert (status["attempt"], status["restarts"]["failures"], status["restarts"]["disruptions"]) == (1, 0, 1)


@pytest.mark.timeout(300)
def test_worker_without_memory(cluster: Cluster):
    """The kernel ends a worker that takes more than its limit: once that is forgiven, and then the advice is to raise it."""
    job = "greedy"
    cluster.apply(shell_job(job, GREEDY, pod={"resources": {"limits": {"memory": "256Mi"}}}, keepPods="Failed"))
    status = cluster.wait_for_phase(job, "Failed")
    assert (status["reason"], status["attempt"], status["restarts"]["failures"]) == ("OOMKilled", 1, 1)
    failure = status["lastFailure"]
    assert (failure["class"], failure["index"], failure["exitCode"]) == ("OOMKilled", 1, 137)
    assert status["message"].startswith(f"worker 1 on {failure['node']} ran out of memory (exit code 137)")
    assert status["message"].endswith("; again: raise pod.resources.limits.memory, or use more workers")
    cluster.run("delete", "sj", job)
    cluster.wait_until_gone(job)


@pytest.mark.timeout(300)
def test_drained_node(cluster: Cluster, operators_node: str):
    """`kubectl drain`: the job goes on where there is room, and says that a worker was evicted."""
    job = "drained"
    cluster.apply(shell_job(job, PATIENT))
    cluster.wait_for_phase(job, "Running")
    node, index = place(cluster, job, operators_node)
    with node.drained():
        status = cluster.wait_for_phase(job, "Succeeded")
        check_loss(status, "Evicted", node, index)
        assert "Eviction API: evicting" in status["lastFailure"]["message"]
        assert nodes_of(cluster, job, attempt=1) == {operators_node}
    cluster.run("delete", "sj", job)
    cluster.wait_until_gone(job)


@pytest.mark.timeout(300)
def test_node_without_kubelet(cluster: Cluster, operators_node: str):
    """Nobody can end its containers: the job goes on elsewhere, and the Pod that stays Terminating is not waited for."""
    need_tool()
    job = "frozen"
    cluster.apply(shell_job(job, PATIENT))
    cluster.wait_for_phase(job, "Running")
    node, index = place(cluster, job, operators_node)
    with node.without_kubelet():
        status = cluster.wait_for_phase(job, "Succeeded")
        check_loss(status, "NodeLost", node, index)
        assert node.name in nodes_of(cluster, job, attempt=0), "its Pod was waited for"
        assert nodes_of(cluster, job, attempt=1) == {operators_node}
    cluster.run("delete", "sj", job)
    cluster.wait_until_gone(job)


@pytest.mark.timeout(600)
def test_node_that_is_cut_off(cluster: Cluster, operators_node: str, undisturbed: str):
    """Ranks notice the silence before Kubernetes does: the node is to blame all the same, and the model is that of any other run."""
    need_tool()
    job = "cut-off"
    manifest = long_job(job)
    manifest["spec"]["pod"] |= spread(job)
    manifest["spec"] |= {"restarts": {"failures": 0}, "keepPods": "All"}
    cluster.apply(manifest)
    cluster.wait(job, "in the middle", is_in_the_middle)
    node, index = place(cluster, job, operators_node)
    with node.cut_off():
        status = cluster.wait_for_phase(job, "Succeeded", seconds=300)
        check_loss(status, "NodeLost", node, index)
        assert nodes_of(cluster, job, attempt=1) == {operators_node}
    assert finish(cluster, job)["result"]["model"]["sha256"] == undisturbed
