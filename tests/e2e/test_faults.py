"""Workers and the operator are killed in the middle: the job ends with the model of an undisturbed run."""

import re

import pytest

from scalejob.contract import LABEL_INDEX, LABEL_JOB
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import OPERATOR, OPERATOR_NAMESPACE, OPERATOR_PODS
from tests.e2e.jobs import SOME_STEPS, finish, is_in_the_middle, long_job


def kill_operator(cluster: Cluster) -> None:
    """Without a word of warning."""
    cluster.run("-n", OPERATOR_NAMESPACE, "delete", "pod", "-l", OPERATOR_PODS, "--force", "--grace-period=0")


@pytest.mark.timeout(600)
def test_killed_worker(cluster: Cluster, undisturbed: str):
    """`kubectl delete pod` on a worker: a new attempt of all workers, and the same model."""
    cluster.apply(long_job("worker-killed"))
    cluster.wait("worker-killed", "in the middle", is_in_the_middle)
    cluster.run("delete", "pod", "worker-killed-0-1", "--now")
    status = finish(cluster, "worker-killed")
    assert (status["attempt"], status["restarts"]["disruptions"]) == (1, 1)
    assert status["lastFailure"]["class"] == "PodDeleted"
    assert status["result"]["model"]["sha256"] == undisturbed


@pytest.mark.timeout(600)
def test_preempted_worker_with_a_checkpoint(cluster: Cluster, undisturbed: str):
    """A worker is told to go: the state is saved, and the next attempt, on three workers, begins after it with the same model."""
    job = "preempted"
    manifest = long_job(job)
    # Long enough that only SIGTERM makes it save.
    manifest["spec"] |= {"checkpoint": {"everySeconds": 3600}, "keepPods": "All"}
    cluster.apply(manifest)
    cluster.wait(job, "in the middle", is_in_the_middle)
    cluster.run("patch", "sj", job, "--type=merge", "--patch", '{"spec": {"workers": 3}}')
    status = cluster.wait_for_phase(job, "Succeeded", seconds=300)
    log = cluster.run("logs", "-l", f"{LABEL_JOB}={job},{LABEL_INDEX}=0", "--tail=-1")
    found = re.search(r"the fit goes on after step (\d+) of an earlier attempt", log)
    assert found, log
    assert int(found[1]) >= SOME_STEPS
    assert status["attempt"] == 1
    assert finish(cluster, job)["result"]["model"]["sha256"] == undisturbed


@pytest.mark.timeout(600)
def test_killed_operator(cluster: Cluster, undisturbed: str):
    """The operator is killed as soon as the first Pods are there: it comes back, and every Pod was made once."""
    with cluster.record_pods("operator-killed") as seen:
        cluster.apply(long_job("operator-killed"))
        cluster.wait("operator-killed", "seen by the operator", bool)
        kill_operator(cluster)
        status = cluster.wait_for_phase("operator-killed", "Succeeded", seconds=300)
        assert {name: len(uids) for name, uids in seen().items()} == {
            "operator-killed-0-0": 1,
            "operator-killed-0-1": 1,
        }
    assert status["attempt"] == 0
    assert finish(cluster, "operator-killed")["result"]["model"]["sha256"] == undisturbed


@pytest.mark.timeout(600)
def test_worker_killed_while_the_operator_is_away(cluster: Cluster, undisturbed: str):
    """What happened while nobody looked is found and made good: nothing is lost, no Pod is made twice."""
    job = "both-killed"
    with cluster.record_pods(job) as seen:
        cluster.apply(long_job(job))
        cluster.wait(job, "in the middle", is_in_the_middle)
        cluster.run("-n", OPERATOR_NAMESPACE, "scale", OPERATOR, "--replicas=0")
        kill_operator(cluster)
        cluster.run("delete", "pod", "-l", f"{LABEL_JOB}={job},{LABEL_INDEX}=0", "--now")
        cluster.run("-n", OPERATOR_NAMESPACE, "scale", OPERATOR, "--replicas=1")
        status = cluster.wait_for_phase(job, "Succeeded", seconds=300)
        names = {f"{job}-{attempt}-{index}": 1 for attempt in (0, 1) for index in (0, 1)}
        assert {name: len(uids) for name, uids in seen().items()} == names
    assert (status["attempt"], status["restarts"]["disruptions"]) == (1, 1)
    assert finish(cluster, job)["result"]["model"]["sha256"] == undisturbed


def test_delete_in_the_middle(cluster: Cluster):
    """`kubectl delete` of a running job takes its Pods and its Service with it."""
    cluster.apply(long_job("deleted"))
    cluster.wait("deleted", "running", lambda s: s.get("phase") == "Running")
    cluster.run("delete", "sj", "deleted")
    cluster.wait_until_gone("deleted")
