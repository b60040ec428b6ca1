"""What was seen of a Pod counts when the Pod is gone."""

from dataclasses import replace

import pytest

from scalejob.contract import Phase, Reason
from scalejob.engine.departed import Departed
from scalejob.plan.decide import decide
from scalejob.plan.model import Job, Pod
from tests.unit.plan.builders import after, failed, make_job, running, started, store, succeeded

KEY = "team-a/segments"


def decided(job: Job, *pods: Pod, gone: Pod) -> Job:
    """After a look that came when `gone` was."""
    departed = Departed()
    departed.note(KEY, gone)
    return store(job, decide(job, pods + departed.of(KEY, job, pods), after(60)))


def test_an_eviction_that_was_over_before_anybody_looked_is_one():
    """Not a deletion; and it had a node."""
    gone = running(1, is_deleting=True, disruption="EvictionByEvictionAPI")
    failure = decided(started(make_job().workers(2)), running(0), gone=gone).status.last_failure
    assert (failure.class_, failure.index, failure.node) == (Reason.EVICTED, 1, "n1")


def test_a_worker_that_was_done_before_its_pod_went_is_done():
    """Its work is not repeated."""
    job = decided(started(make_job().workers(2)), running(0), gone=succeeded(1))
    assert (job.status.phase, job.status.attempt, job.status.workers.succeeded) == (Phase.RUNNING, 0, 1)


@pytest.mark.parametrize(
    ("job", "pods"),
    [
        (make_job().workers(2).build(), []),
        (decided(started(make_job().workers(2)), running(0), gone=running(1)), []),
        (started(make_job().workers(2)), [running(1)]),
        (replace(started(make_job().workers(2)), uid="another"), []),
        (decided(started(make_job().workers(1)), gone=succeeded(0)), []),
    ],
    ids=["it is made again", "the attempt is over", "there is one of that name", "the job is new", "the job has ended"],
)
def test_nothing_is_kept_that_cannot_count(job: Job, pods: list[Pod]):
    """Neither told nor held."""
    departed = Departed()
    departed.note(KEY, running(1))
    assert departed.of(KEY, job, pods) == ()
    assert len(departed) == 0


def test_who_stands_by_does_not_remember_for_ever():
    """It looks at no job, but may have to go on with one at any time."""
    job, ended = started(make_job().workers(2)), decided(started(make_job().workers(1)), gone=succeeded(0))
    departed = Departed()
    for key in ("team-a/segments", "team-a/ended", "team-a/gone"):
        departed.note(key, succeeded(1))
    departed.note(KEY, failed(0, attempt=-1))
    departed.sweep({KEY: job, "team-a/ended": ended}.get)
    assert len(departed) == 1
    assert [pod.index for pod in departed.of(KEY, job, [running(0)])] == [1]
