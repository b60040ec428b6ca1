"""A job from its creation to its end, and everything a user may ask of it on the way."""

from dataclasses import replace
from datetime import timedelta

import pytest

from scalejob.api.v1alpha1 import Progress
from scalejob.contract import Condition, LastWord, Phase, Reason
from scalejob.plan.decide import decide
from scalejob.plan.model import Job, Plan, Pod, Refusal
from tests.unit.plan.builders import (
    NOW,
    JobBuilder,
    after,
    blocked,
    failed,
    make_job,
    pending,
    planned,
    running,
    started,
    store,
    succeeded,
)


def names(plan: Plan) -> list[str]:
    return [ref.name for ref in plan.deletes]


def condition(plan: Plan, name: Condition) -> tuple[str, str]:
    found = next(c for c in plan.status.conditions if c.type == name)
    return found.status, found.reason


def edit(job: Job, **fields: object) -> Job:
    """The job after a user has changed its spec."""
    return replace(job, spec=job.spec.model_copy(update=fields), generation=job.generation + 1)


def test_a_new_job_gets_all_its_pods_at_once() -> None:
    """The first plan holds the status that is written ahead, and every index."""
    plan = decide(make_job().workers(3).build(), [], NOW)
    assert (plan.creates, plan.deletes, plan.status.phase) == ((0, 1, 2), (), Phase.PENDING)
    assert (plan.status.start_time, plan.status.workers.summary) == ("2026-01-02T03:04:05Z", "0/3")


def test_pods_that_a_crash_left_out_are_made_in_the_same_attempt() -> None:
    """A crash between two creates is no deletion."""
    job = planned(make_job().workers(3).build(), ([], NOW))
    plan = decide(job, [running(0), pending(2)], after(1))
    assert (plan.creates, plan.status.attempt) == ((1,), 0)


def test_phases_tell_the_story() -> None:
    """Pending, Starting, Running, Succeeded."""
    job, phases = make_job().workers(2).build(), []
    looks = [
        [],
        [pending(0), pending(1)],
        [running(0), pending(1, is_scheduled=True)],
        [running(0), running(1)],
        [running(0), succeeded(1)],
        [succeeded(0), succeeded(1)],
    ]
    for second, pods in enumerate(looks):
        job = planned(job, (pods, after(second)))
        phases.append(job.status.phase)
    assert phases == [Phase.PENDING, Phase.PENDING, Phase.STARTING, Phase.RUNNING, Phase.RUNNING, Phase.SUCCEEDED]


def test_the_end_of_rank_0_is_the_result() -> None:
    """Its last word is kept, also when its Pod goes before the others end."""
    word = LastWord(rank=0, metrics={"inertia": 118.25}, rows=10, features=2, model_uri="/m", model_sha256="ab")
    job = planned(started(make_job().workers(2)), ([succeeded(0, word=word), running(1)], after(60)))
    status = decide(job, [succeeded(1)], after(90)).status
    assert status.result.model.to_wire() == {"uri": "/m", "sha256": "ab"}
    assert (status.progress.summary, status.duration) == ("inertia=118.25", "1m30s")
    assert status.message == "2 workers succeeded: inertia=118.25"


def test_a_new_attempt_waits_until_the_old_pods_were_told_to_stop() -> None:
    """Deletes and creates of two attempts never stand in one plan."""
    job = started(make_job().workers(2).spec(restarts={"backoffSeconds": 0}))
    pods = [failed(0), running(1)]
    plan = decide(job, pods, after(60))
    assert (names(plan), plan.creates, plan.status.attempt) == (["segments-0-0", "segments-0-1"], (), 1)
    plan = decide(store(job, plan), [running(1, is_deleting=True)], after(60))
    assert (names(plan), plan.creates) == ([], (0, 1))


def test_a_new_attempt_runs_every_worker_again() -> None:
    """Also those that were done: their part of the state is gone with their peers."""
    job = planned(started(make_job().workers(2)), ([succeeded(0), running(1)], after(50)))
    job = planned(job, ([succeeded(0), failed(1)], after(60)))
    plan = decide(job, [], after(61))
    assert (plan.creates, plan.status.succeeded_indices, plan.status.workers.succeeded) == ((0, 1), "", 0)


def test_nothing_waits_for_a_dead_node() -> None:
    """The Pod of a lost node is deleted, but not waited for."""
    plan = decide(started(make_job()), [running(0, phase="Unknown")], after(60))
    assert (names(plan), plan.creates) == (["segments-0-0"], (0,))


def test_nothing_is_made_before_the_backoff_is_over() -> None:
    """Back-off is a stored time: it does not begin anew with the operator."""
    job = planned(started(make_job()), ([failed(0)], after(60)))
    plan = decide(job, [], after(60.5))
    assert (plan.creates, plan.requeue_after) == ((), 0.5)
    assert decide(job, [], after(61)).creates == (0,)


def test_suspension_deletes_the_workers_and_resuming_starts_the_next_attempt() -> None:
    """No start time while suspended; the number of the attempt only grows; no restart is counted."""
    job = edit(started(make_job().workers(2)), suspend=True)
    pods = [running(0), running(1)]
    plan = decide(job, pods, after(60))
    assert (len(plan.deletes), plan.status.phase, plan.status.start_time) == (2, Phase.SUSPENDED, None)
    assert condition(plan, Condition.SUSPENDED) == ("True", Reason.SUSPENDED)
    job = edit(store(job, plan), suspend=False)
    plan = decide(job, [], after(100))
    assert (
        plan.creates,
        plan.status.attempt,
        plan.status.phase,
        plan.status.restarts.total,
    ) == ((0, 1), 1, Phase.PENDING, 0)
    assert condition(plan, Condition.SUSPENDED)[0] == "False"


def test_a_job_that_is_born_suspended_starts_with_attempt_0() -> None:
    """Nothing was made for it, so nothing was used up."""
    job = planned(make_job().spec(suspend=True).build(), ([], NOW))
    assert (job.status.phase, job.status.attempt) == (Phase.SUSPENDED, 0)
    assert ((plan := decide(edit(job, suspend=False), [], after(5))).creates, plan.status.attempt) == ((0,), 0)


def test_a_job_that_is_done_succeeds_even_if_suspended_meanwhile() -> None:
    """Work that is finished is not thrown away."""
    status = decide(edit(started(make_job()), suspend=True), [succeeded(0)], after(60)).status
    assert (status.phase, status.attempt, status.workers.summary) == (Phase.SUCCEEDED, 0, "1/1")


@pytest.mark.parametrize("size", [1, 4])
def test_another_number_of_workers_is_a_new_attempt(size: int) -> None:
    """World size is fixed within an attempt. It is no restart."""
    plan = decide(edit(started(make_job().workers(2)), workers=size), [running(0), running(1)], after(60))
    assert (1, size, 0, 2) == (
        plan.status.attempt,
        plan.status.workers.desired,
        plan.status.restarts.total,
        len(plan.deletes),
    )


def test_a_change_of_workers_is_told_until_they_run() -> None:
    """All workers were ended for it, and nothing else says why."""
    job = edit(started(make_job().workers(2)), workers=3)
    plan = decide(job, [running(0), running(1)], after(60))
    told = "spec.workers has changed: attempt 1 with 3 workers in place of 2"
    assert [(event.type, event.message) for event in plan.events] == [("Normal", told)]
    job = planned(store(job, plan), ([], after(61)), ([pending(index, 1) for index in range(3)], after(62)))
    assert (job.status.reason, job.status.message) == (Reason.WORKERS_STARTING, told)


def test_the_deadline_of_running_counts_no_other_time() -> None:
    """Neither the wait for a node nor a suspension."""
    job = planned(make_job().spec(deadlines={"activeSeconds": 100}).build(), ([], NOW))
    job = planned(job, ([pending(0)], after(1000)), ([running(0)], after(1001)))
    assert decide(job, [running(0)], after(1001)).requeue_after == 100
    job = planned(edit(job, suspend=True), ([running(0)], after(1041)))
    job = planned(edit(job, suspend=False), ([], after(5000)), ([running(0, 1)], after(5001)))
    assert decide(job, [running(0, 1)], after(5001)).requeue_after == 60
    plan = decide(job, [running(0, 1)], after(5061))
    assert (plan.status.phase, plan.status.reason) == (Phase.FAILED, Reason.DEADLINE_EXCEEDED)
    assert names(plan) == ["segments-1-0"]


def test_the_deadline_of_scheduling_releases_all_pods() -> None:
    """A gang that does not fit must not keep others from their nodes."""
    builder = make_job().workers(2).spec(deadlines={"schedulingSeconds": 30}, keepPods="All")
    text = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    pods = [running(0), pending(1, unschedulable=text)]
    job = planned(builder.build(), ([], NOW), (pods, after(1)))
    assert decide(job, pods, after(1)).requeue_after == 29
    plan = decide(job, pods, after(30))
    assert (plan.status.reason, len(plan.deletes)) == (Reason.DEADLINE_EXCEEDED, 2)
    assert text in plan.status.message


def test_a_job_that_does_not_fit_says_so_in_the_schedulers_words() -> None:
    """`kubectl get sj -o wide` shows what is missing."""
    text = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    plan = decide(planned(make_job().build(), ([], NOW)), [pending(0, unschedulable=text)], after(1))
    assert (plan.status.phase, plan.status.reason) == (Phase.PENDING, Reason.UNSCHEDULABLE)
    assert f"1 of 1 worker cannot be scheduled: {text}" == plan.status.message
    assert condition(plan, Condition.SCHEDULED) == ("False", Reason.UNSCHEDULABLE)
    assert condition(plan, Condition.STALLED) == ("True", Reason.UNSCHEDULABLE)


def test_an_image_that_cannot_be_pulled_fails_the_job_after_its_time() -> None:
    """The clock runs from the first sight, and stops when the pull succeeds."""
    builder = make_job().workers(2).spec(deadlines={"imagePullSeconds": 60})
    job = planned(builder.build(), ([], NOW), ([running(0), blocked(1)], after(10)))
    assert (job.status.phase, job.status.reason) == (Phase.STARTING, Reason.IMAGE_PULL_FAILED)
    assert decide(job, [running(0), blocked(1)], after(10)).requeue_after == 60
    assert decide(job, [running(0), running(1)], after(70)).status.phase == Phase.RUNNING
    plan = decide(job, [running(0), blocked(1, "ErrImagePull")], after(70))
    assert (plan.status.phase, plan.status.reason) == (Phase.FAILED, Reason.IMAGE_PULL_FAILED)
    assert plan.status.message == "worker 1 cannot start: ErrImagePull: not found"


def test_the_cause_of_a_failing_pull_is_not_replaced_by_its_repetition() -> None:
    """Kubelets say ErrImagePull and ImagePullBackOff in turns; each write would wake whoever watches."""
    job = planned(make_job().build(), ([], NOW), ([blocked(0, "ErrImagePull")], after(1)))
    assert decide(job, [blocked(0, "ImagePullBackOff")], after(2)).status == job.status


@pytest.mark.parametrize(
    ("keep", "want"),
    [("None", ["segments-0-0", "segments-0-1"]), ("Failed", ["segments-0-0"]), ("All", [])],
)
def test_pods_that_ended_stay_as_asked_when_the_job_fails(keep: str, want: list[str]) -> None:
    """`keepPods` looks at how each Pod ended."""
    job = started(make_job().workers(2).spec(keepPods=keep))
    assert want == names(decide(job, [succeeded(0), failed(1, code=2)], after(60)))


@pytest.mark.parametrize(("keep", "want"), [("None", 1), ("Failed", 1), ("All", 0)])
def test_pods_that_ended_stay_as_asked_when_the_job_succeeds(keep: str, want: int) -> None:
    """The same rule on the other path."""
    assert want == len(decide(started(make_job().spec(keepPods=keep)), [succeeded(0)], after(60)).deletes)


@pytest.mark.parametrize("keep", ["None", "Failed", "All"])
def test_workers_that_still_run_go_with_the_job(keep: str) -> None:
    """A Pod that runs for a job that has failed only costs."""
    plan = decide(started(make_job().workers(2).spec(keepPods=keep)), [running(0), failed(1, code=2)], after(60))
    assert "segments-0-0" in names(plan)


@pytest.mark.parametrize("other", [running(0), pending(0)])
def test_nothing_is_ready_when_the_job_has_failed(other: Pod) -> None:
    """What still runs is told to stop, and nobody counts it afterwards."""
    workers = decide(started(make_job().workers(2)), [other, failed(1, code=2)], after(60)).status.workers
    assert (workers.ready, workers.pending, workers.failed, workers.summary) == (0, 0, 1, "0/2")


def test_a_sidecar_holds_neither_the_job_nor_its_node() -> None:
    """The job ends with its workers, and what runs on beside them is ended, whatever is kept."""
    pod = replace(succeeded(0), is_outlived=True)
    plan = decide(started(make_job().spec(keepPods="All")), [pod], after(60))
    assert (plan.status.phase, names(plan)) == (Phase.SUCCEEDED, ["segments-0-0"])


def test_a_finished_job_is_deleted_when_its_time_is_over() -> None:
    """And not before; without a TTL never."""
    job = planned(started(make_job().spec(ttlSecondsAfterFinished=30)), ([succeeded(0)], after(60)))
    assert ((plan := decide(job, [], after(60))).delete_job, plan.requeue_after) == (False, 30)
    assert decide(job, [], after(90)).delete_job
    assert not decide(edit(job, ttl_seconds_after_finished=None), [], after(10_000)).delete_job


def test_a_finished_job_is_never_run_again() -> None:
    """Whatever is deleted or asked for."""
    job = planned(started(make_job()), ([succeeded(0)], after(60)))
    for change in ({"workers": 3}, {"suspend": True}, {"suspend": False}):
        plan = decide(edit(job, **change), [], after(100))
        assert (plan.status.phase, plan.creates, plan.status.observed_generation) == (Phase.SUCCEEDED, (), 2)


def test_a_job_of_another_controller_is_left_alone() -> None:
    """Not even its status is written."""
    job = make_job().spec(managedBy="example.com/other").build()
    assert Plan(status=job.status) == decide(job, [running(0)], NOW)


def test_a_job_that_is_being_deleted_gets_nothing_new() -> None:
    """Its Pods go by their owner references."""
    job = make_job().metadata(deletionTimestamp="2026-01-02T03:04:05Z").build()
    assert Plan(status=job.status) == decide(job, [], NOW)


def test_a_refusal_is_told() -> None:
    """No Pod is made while it stands."""
    refusal = Refusal(reason=Reason.QUOTA_EXCEEDED, message="exceeded quota: gpus")
    job = planned(make_job().build(), ([], NOW))
    plan = decide(job, [], NOW, refusal=refusal)
    assert (plan.creates, plan.status.phase, plan.status.reason) == ((), Phase.PENDING, Reason.QUOTA_EXCEEDED)


def test_trying_again_after_a_refusal_does_not_deny_it() -> None:
    """The reason stays until all Pods are there: no flapping while the outcome is unknown."""
    refusal = Refusal(reason=Reason.QUOTA_EXCEEDED, message="exceeded quota: gpus")
    job = planned(make_job().build(), ([], NOW))
    job = store(job, decide(job, [], NOW, refusal=refusal))
    plan = decide(job, [], after(1))
    assert ((0,), job.status) == (plan.creates, plan.status)
    assert decide(job, [pending(0)], after(2)).status.reason == Reason.WORKERS_STARTING


def test_the_same_refusal_of_another_pod_is_no_news() -> None:
    """Which Pod meets it, and what a quota holds of the tries before, is up to chance."""
    words = 'pods "segments-0-{}" is forbidden: exceeded quota: q, requested: pods=1, used: pods={}, limited: pods={}'
    job = planned(make_job().build(), ([], NOW))
    tries = [(1, 1, 1), (0, 1, 1), (2, 0, 1), (1, 1, 3)]
    refusals = [Refusal(reason=Reason.QUOTA_EXCEEDED, message=words.format(*numbers)) for numbers in tries]
    told = []
    for refusal in refusals:
        job = store(job, decide(job, [], NOW, refusal=refusal))
        told.append(job.status.message)
    assert told == [refusals[0].message] * 3 + [refusals[3].message]


def test_pods_that_the_api_server_calls_invalid_fail_the_job() -> None:
    """A retry would be refused with the same words."""
    refusal = Refusal(reason=Reason.INVALID_SPEC, message="spec.volumes[0]: not found")
    status = decide(planned(make_job().build(), ([], NOW)), [], after(1), refusal=refusal).status
    assert (Phase.FAILED, Reason.INVALID_SPEC, refusal.message) == (status.phase, status.reason, status.message)


def test_a_task_that_no_program_can_be_started_with_fails_the_job() -> None:
    """Linux bounds a variable; the message names what takes the room."""
    files = {"uri": "/data/x.parquet", "features": [f"column-{i:0200}" for i in range(700)]}
    plan = decide(make_job().spec(data={"files": files}).build(), [], NOW)
    assert (plan.creates, plan.status.phase, plan.status.reason) == ((), Phase.FAILED, Reason.INVALID_SPEC)
    assert "data.features" in plan.status.message


def test_cost_counts_every_attempt_once() -> None:
    """Seconds of Pods times GPUs; those of the lost attempt are wasted."""
    job = started(make_job().workers(2).gpus(4))
    job = planned(job, ([failed(0, at=50), running(1)], after(60)), ([running(1, is_deleting=True)], after(61)))
    job = planned(job, ([running(0, 1, started=after(70)), running(1, 1, started=after(70))], after(75)))
    pods = [replace(succeeded(i, 1, at=100), started=after(70)) for i in range(2)]
    status = decide(job, pods, after(100)).status
    assert status.cost.to_wire() == {"podSeconds": 170, "gpuSeconds": 680, "wastedPodSeconds": 110}


def test_progress_of_rank_0_is_shown_while_the_job_runs() -> None:
    """One line for the printed column; a new attempt begins without it."""
    read = Progress(phase="fit", step=12, of=300, metric="inertia", value="1.2e5", updated_at="2026-01-02T03:05:05Z")
    job = started(make_job())
    job = store(job, decide(job, [running(0)], after(60), progress=read))
    assert job.status.progress.summary == "fit 12/300 inertia=1.2e5"
    assert job.status == decide(job, [running(0)], after(70)).status
    assert decide(job, [], after(80)).status.progress is None


def test_a_condition_turns_only_when_its_status_does() -> None:
    """A changed message is no transition."""
    job = planned(make_job().build(), ([], NOW), ([pending(0, unschedulable="a")], after(5)))
    job = planned(job, ([pending(0, unschedulable="b")], after(50)))
    found = {c.type: (c.last_transition_time, c.message) for c in job.status.conditions}
    assert found[Condition.SCHEDULED] == ("2026-01-02T03:04:05Z", "b")


SILENT = running(1, is_ready=False)
MESH = running(1, is_ready=False, unready="containers with unready status: [mesh]")
VICTIM = failed(1, message="RuntimeError: Connection reset by peer", at=59)


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        ([running(0), SILENT], "1 of 2 workers running; worker 1 on n1 gives no sign"),
        ([replace(SILENT, index=0, node="n0"), SILENT], "0 of 2 workers running; worker 0 on n0 gives no sign; 1 more"),
        ([succeeded(0), SILENT], "1 of 2 workers running; worker 1 on n1 gives no sign"),
        (
            [running(0), MESH],
            "1 of 2 workers running; worker 1 on n1 is not ready: containers with unready status: [mesh]",
        ),
        (
            [running(0), VICTIM],
            "1 of 2 workers running; worker 1 on n1 failed (exit code 1): RuntimeError: Connection reset by peer",
        ),
    ],
    ids=["silent", "all silent", "a peer is done", "a container beside it", "a victim, before the verdict"],
)
def test_a_running_job_tells_of_a_worker_that_is_not(pods: list[Pod], told: str) -> None:
    """Without an Event: it may come and go."""
    job = started(make_job().workers(2))
    plan = decide(job, pods, after(60))
    assert (plan.status.phase, plan.status.reason, plan.status.message) == (
        Phase.RUNNING,
        Reason.ALL_WORKERS_RUNNING,
        told,
    )
    assert plan.events == ()
    back = decide(store(job, plan), [running(0), running(1)], after(61))
    assert (back.status.message, back.events) == ("2 workers running", ())


def test_every_turn_is_one_event() -> None:
    """What a job goes through can be read in `kubectl describe`, each turn once."""
    job, seen = make_job().build(), []
    for second, pods in enumerate([[], [pending(0)], [running(0)], [running(0)], [failed(0)], [], [running(0, 1)]]):
        plan = decide(job, pods, after(second))
        seen += [(event.type, event.reason) for event in plan.events]
        job = store(job, plan)
    want = [
        ("Normal", Reason.WORKERS_STARTING),
        ("Normal", Reason.ALL_WORKERS_RUNNING),
        ("Warning", Reason.RESTARTING),
        ("Normal", Reason.ALL_WORKERS_RUNNING),
    ]
    assert want == seen


@pytest.mark.parametrize(
    "pods",
    [[], [pending(0)], [running(0)], [running(0, is_ready=False)], [blocked(0)], [pending(0, unschedulable="no")]],
)
def test_time_alone_changes_nothing(pods: list) -> None:
    """A job that stays as it is costs no write, also after a day."""
    job = planned(make_job().spec(deadlines={"imagePullSeconds": 10**9}).build(), ([], NOW), (pods, after(1)))
    assert job.status == decide(job, pods, after(1) + timedelta(days=1)).status


def test_the_wire_form_of_a_status_can_be_read_back() -> None:
    """What was decided must survive the API server to the bit."""
    builder: JobBuilder = make_job().workers(2)
    status = planned(started(builder), ([failed(0), running(1)], after(60))).status
    assert status == builder.status(status).build().status
