"""A gang in the cluster: half of it placed, held back by gates, queued, or changed while nobody looked."""

from dataclasses import replace

import pytest

from scalejob.contract import Phase, Reason
from scalejob.plan.attempts import template_of
from scalejob.plan.decide import decide
from scalejob.plan.model import Job, Pod
from tests.unit.plan.builders import (
    NOW,
    JobBuilder,
    after,
    failed,
    make_job,
    pending,
    planned,
    running,
    started,
    store,
    succeeded,
)

NO_ROOM = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
HALF = [running(0), pending(1, unschedulable=NO_ROOM)]


def half_placed(builder: JobBuilder | None = None, **deadlines: int) -> Job:
    """A job of two workers, one of which has had a node since NOW."""
    builder = (builder or make_job()).workers(2).spec(deadlines={"holdSeconds": 60} | deadlines)
    return planned(builder.build(), ([], NOW), (HALF, NOW))


class TestHalfAGang:
    def test_gives_all_back_after_a_while(self) -> None:
        """All Pods go, none is made before the scheduler has looked at those of others, and the cause is remembered."""
        job = half_placed()
        assert 60 <= (decide(job, HALF, NOW).requeue_after or 0) <= 120
        plan = decide(job, HALF, after(120))
        assert (len(plan.deletes), plan.creates, plan.status.attempt) == (2, (), 1)
        assert (plan.status.phase, plan.status.restarts.disruptions) == (Phase.RESTARTING, 1)
        failure = plan.status.last_failure
        assert failure is not None
        assert (failure.class_, failure.index, failure.message) == (Reason.UNSCHEDULABLE, 1, NO_ROOM)
        told, begins = plan.status.message, plan.status.attempt_time
        way = f"gave its nodes back for others; attempt 1 begins at {begins}"
        assert told == f"{way}; worker 1 found no node: {NO_ROOM}"
        plan = decide(store(job, plan), [], after(121))
        assert (plan.creates, plan.status.message) == ((), told)
        assert 9 < (plan.requeue_after or 0) < 21

    def test_stays_away_for_its_back_off_and_more(self) -> None:
        """A stored time that lies so far ahead is believed."""
        job = half_placed(make_job().spec(restarts={"backoffSeconds": 60}))
        job = store(job, decide(job, HALF, after(120)))
        assert 69 < (decide(job, [], after(121)).requeue_after or 0) < 81

    def test_two_jobs_do_not_give_back_at_the_same_time(self) -> None:
        """Else both would find their nodes, and each other, again."""
        jobs = [half_placed(make_job().metadata(uid=f"uid-{number}")) for number in range(20)]
        ends = sorted(decide(job, HALF, NOW).requeue_after or 0 for job in jobs)
        assert ends[-1] - ends[0] > 30
        assert len(set(ends)) == len(ends)

    def test_stays_away_longer_each_time_and_leaves_with_nothing_too(self) -> None:
        """Else the waiting Pods of many jobs would share whatever becomes free, and none would get it whole."""
        job = store(half_placed(), decide(half_placed(), HALF, after(120)))
        again = [pending(0, 1, unschedulable=NO_ROOM), pending(1, 1, unschedulable=NO_ROOM)]
        job = planned(job, (again, after(150)))
        assert 60 <= (decide(job, again, after(150)).requeue_after or 0) <= 120
        job = planned(job, (again, after(270)))
        assert (job.status.attempt, job.status.restarts.disruptions) == (2, 2)
        assert 20 < (decide(job, [], after(270)).requeue_after or 0) < 43

    def test_keeps_its_nodes_if_the_others_come(self) -> None:
        """The clock stops, and begins anew if it has to."""
        job = planned(half_placed(), ([running(0), pending(1, is_scheduled=True)], after(30)))
        assert job.status.hold_time is None
        assert decide(job, [running(0), running(1)], after(500)).status.phase == Phase.RUNNING

    def test_that_holds_nothing_waits(self) -> None:
        """There is nothing to give."""
        waiting = [pending(0, unschedulable=NO_ROOM), pending(1, unschedulable=NO_ROOM)]
        job = planned(make_job().workers(2).build(), ([], NOW), (waiting, NOW))
        plan = decide(job, waiting, after(100_000))
        assert (plan.deletes, plan.requeue_after, plan.status) == ((), None, job.status)

    def test_fails_when_its_time_to_be_scheduled_is_over(self) -> None:
        """That time goes on through all tries."""
        job = half_placed(schedulingSeconds=200)
        job = store(job, decide(job, HALF, after(120)))
        plan = decide(job, [], after(199))
        assert plan.status.phase == Phase.RESTARTING
        plan = decide(job, [pending(0, 1, unschedulable=NO_ROOM)], after(200))
        assert (plan.status.phase, plan.status.reason) == (Phase.FAILED, Reason.DEADLINE_EXCEEDED)

    def test_fails_when_no_disruption_is_allowed(self) -> None:
        """`restarts.disruptions` bounds the tries."""
        job = half_placed(make_job().spec(restarts={"disruptions": 0}))
        status = decide(job, HALF, after(120)).status
        assert (status.phase, status.reason) == (Phase.FAILED, Reason.RESTART_LIMIT_EXCEEDED)
        assert f"worker 1 found no node: {NO_ROOM}" in (status.message or "")

    @pytest.mark.parametrize(
        ("builder", "pods"),
        [
            (make_job().command("train", restartable=False), HALF),
            (make_job().command("train"), [succeeded(0), pending(1, unschedulable=NO_ROOM)]),
        ],
        ids=["a program that may not be started again", "workers that do not wait for each other"],
    )
    def test_is_not_taken_from(self, builder: JobBuilder, pods: list[Pod]) -> None:
        """Where starting again would cost what is done."""
        job = planned(half_placed(builder), (pods, after(1)))
        assert decide(job, pods, after(1000)).deletes == ()


class TestGates:
    GATED = pending(0, gates=("example.com/quota",))

    def test_are_told(self) -> None:
        """Nobody else would say why nothing happens."""
        status = planned(make_job().build(), ([], NOW), ([self.GATED], after(1))).status
        assert (status.phase, status.reason) == (Phase.PENDING, Reason.SCHEDULING_GATED)
        assert status.message == "1 of 1 worker held by scheduling gates: example.com/quota"

    def test_stop_the_clock_of_scheduling(self) -> None:
        """Whoever holds the gate decides; the scheduler's time begins when it opens."""
        builder = make_job().spec(deadlines={"schedulingSeconds": 30})
        job = planned(builder.build(), ([], NOW), ([self.GATED], after(1)))
        assert (decide(job, [self.GATED], after(1000)).status.phase) == Phase.PENDING
        open_ = [pending(0, unschedulable=NO_ROOM)]
        job = planned(job, (open_, after(1000)))
        assert decide(job, open_, after(1000)).requeue_after == 30
        assert decide(job, open_, after(1030)).status.reason == Reason.DEADLINE_EXCEEDED


class TestQueue:
    QUEUED = make_job().metadata(labels={"kueue.x-k8s.io/queue-name": "team-a"})

    def test_holds_a_job_that_it_has_not_touched(self) -> None:
        """Nobody else suspends a job at its creation."""
        plan = decide(self.QUEUED.build(), [], NOW)
        assert (plan.creates, plan.status.phase, plan.status.reason) == ((), Phase.SUSPENDED, Reason.QUEUED)
        assert plan.status.message == "waits until the queue team-a admits it"

    def test_lets_it_run_by_suspend(self) -> None:
        """Suspended and resumed: the spec has another generation, and nothing else is needed."""
        job = planned(self.QUEUED.build(), ([], NOW))
        suspended = self.QUEUED.spec(suspend=True).metadata(generation=2).status(job.status).build()
        job = planned(suspended, ([], after(1)))
        admitted = self.QUEUED.spec(suspend=False).metadata(generation=3).status(job.status).build()
        plan = decide(admitted, [], after(2))
        assert (plan.creates, plan.status.attempt, plan.status.phase) == ((0,), 0, Phase.PENDING)

    def test_takes_no_running_job_by_its_name_alone(self) -> None:
        """Labelled later, or begun under a release that knew no queues: it may take the job back by `suspend`."""
        job = replace(started(make_job()), queue="team-a")
        plan = decide(job, [running(0)], after(60))
        assert (plan.deletes, plan.status) == ((), job.status)
        lost = planned(job, ([failed(0)], after(60)), ([], after(61)))
        assert (lost.status.phase, lost.status.attempt) == (Phase.RESTARTING, 1)

    def test_that_is_none(self) -> None:
        """An empty label names no queue."""
        assert make_job().metadata(labels={"kueue.x-k8s.io/queue-name": ""}).build().queue is None


def edited(job: Job, **fields: object) -> Job:
    return replace(job, spec=job.spec.model_copy(update=fields), generation=job.generation + 1)


class TestChange:
    def test_is_found_though_nobody_saw_the_suspension(self) -> None:
        """Workers of the old spec do not stay: suspended, edited and resumed while the operator was away."""
        plan = decide(edited(started(make_job()), seed=7), [running(0)], after(60))
        assert (len(plan.deletes), plan.status.attempt, plan.status.restarts.total) == (1, 1, 0)
        assert plan.status.message == "the spec has changed: attempt 1 with 1 worker"

    def test_of_the_life_cycle_disturbs_no_worker(self) -> None:
        """Nor one that did not change anything."""
        job = started(make_job())
        for fields in ({"ttl_seconds_after_finished": 5}, {"suspend": False}, {"seed": 0}):
            assert decide(edited(job, **fields), [running(0)], after(60)).status.attempt == 0

    def test_of_a_release_disturbs_no_worker(self) -> None:
        """A field that is new there has its default in all stored jobs; one that began under a release without digests has none."""
        written_out = make_job().spec(seed=0, rendezvous={"port": 29500}, pod={}).build()
        assert template_of(written_out.spec) == template_of(make_job().build().spec)
        job = started(make_job())
        job = replace(job, status=job.status.model_copy(update={"template": None}))
        assert decide(edited(job, seed=7), [running(0)], after(60)).status.attempt == 0
