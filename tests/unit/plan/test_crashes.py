"""The operator is killed at each of its writes in turn: the end is that of an undisturbed run, and nothing is made twice."""

import pytest

from scalejob.contract import Phase
from tests.unit.plan.builders import make_job
from tests.unit.plan.cluster import Cluster, Operator


def reconcile(operator: Operator) -> None:
    """Until nothing is left to do."""
    cluster = operator.cluster
    for _ in range(10):
        before = cluster.num_writes, operator.dies_at
        operator.reconcile()
        if before == (cluster.num_writes, operator.dies_at):
            return
    raise AssertionError("the operator never comes to rest")


def run(dies_at: int | None) -> Cluster:
    """Three workers; one fails; one is deleted by hand; a suspension; success."""
    cluster = Cluster(make_job().workers(3).spec(restarts={"backoffSeconds": 0}, keepPods="None").body)
    operator = Operator(cluster, dies_at)
    story = [
        lambda: None,
        lambda: [cluster.start(name) for name in list(cluster.pods)],
        lambda: cluster.end("segments-0-1", 1, "boom"),
        lambda: [cluster.start(name) for name in list(cluster.pods)],
        lambda: cluster.delete("segments-1-2", cluster.pods["segments-1-2"].uid),
        lambda: [cluster.start(name) for name in list(cluster.pods)],
        lambda: cluster.edit_spec(suspend=True),
        lambda: cluster.edit_spec(suspend=False),
        lambda: [cluster.start(name) for name in list(cluster.pods)],
        lambda: [cluster.end(name, 0) for name in sorted(cluster.pods) if name.startswith("segments-3")],
    ]
    for happens in story:
        happens()
        operator.see_all()
        reconcile(operator)
        cluster.stop_deleted()
    return cluster


UNDISTURBED = run(None)


@pytest.mark.parametrize("dies_at", range(UNDISTURBED.num_writes))
def test_a_crash_at_any_write_changes_nothing_in_the_end(dies_at: int) -> None:
    """Same status, same number of Pods made, none left."""
    cluster = run(dies_at)
    assert cluster.job.status == UNDISTURBED.job.status
    assert (cluster.num_created, cluster.pods) == (UNDISTURBED.num_created, {})


def test_the_undisturbed_run_is_what_the_story_tells() -> None:
    """One failure, one disruption, one suspension; four attempts of three Pods."""
    status = UNDISTURBED.job.status
    assert (status.phase, status.attempt, UNDISTURBED.num_created) == (Phase.SUCCEEDED, 3, 12)
    assert (status.restarts.failures, status.restarts.disruptions) == (1, 1)


def run_half_a_gang(dies_at: int | None) -> Cluster:
    """Three workers, room for one: they give it back three times. Suspended, resumed, made smaller, it succeeds."""
    spec = {"restarts": {"backoffSeconds": 0}, "deadlines": {"holdSeconds": 5}, "keepPods": "None"}
    cluster = Cluster(make_job().workers(3).spec(**spec).body)
    operator = Operator(cluster, dies_at)

    def place_one() -> None:
        first, *others = sorted(cluster.pods)
        cluster.start(first)
        for name in others:
            cluster.refuse_to_schedule(name)

    story = [
        lambda: None,
        *3 * [place_one, lambda: cluster.advance(11), lambda: cluster.advance(90)],
        place_one,
        lambda: cluster.edit_spec(suspend=True),
        lambda: cluster.edit_spec(suspend=False),
        place_one,
        lambda: cluster.edit_spec(workers=1),
        lambda: [cluster.start(name) for name in list(cluster.pods)],
        lambda: [cluster.end(name, 0) for name in list(cluster.pods)],
    ]
    for happens in story:
        happens()
        for _ in range(2):
            operator.see_all()
            reconcile(operator)
            cluster.stop_deleted()
    return cluster


HALF_A_GANG = run_half_a_gang(None)


@pytest.mark.parametrize("dies_at", range(HALF_A_GANG.num_writes))
def test_half_a_gang_gives_back_once_whenever_the_operator_dies(dies_at: int) -> None:
    """Neither is a try counted twice, nor is a node held."""
    cluster = run_half_a_gang(dies_at)
    assert cluster.job.status == HALF_A_GANG.job.status
    assert (cluster.num_created, cluster.pods) == (HALF_A_GANG.num_created, {})


def test_half_a_gang_gives_back_as_the_story_tells() -> None:
    """Three tries, a suspension, another size."""
    status = HALF_A_GANG.job.status
    assert (status.phase, status.attempt, status.restarts.disruptions) == (Phase.SUCCEEDED, 5, 3)
