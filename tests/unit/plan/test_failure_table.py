"""The failure table: who is blamed, what is counted, and what follows."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from scalejob.contract import NO_SIGN_OF_LIFE, LastWord, Phase, Reason
from scalejob.plan.decide import decide
from scalejob.plan.model import Job, Pod
from tests.unit.plan.builders import NOW, after, failed, make_job, pending, running, started, store, succeeded, word


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is seen of a job of three running workers a minute later, and what is wanted."""

    name: str
    pods: list[Pod]
    want_class: Reason
    want_phase: Phase = Phase.RESTARTING
    want_reason: Reason = Reason.RESTARTING
    want_budget: str | None = "failures"
    want_index: int = 1
    want_backoff: float = 1
    spec: dict[str, Any] | None = None


def others(*gone: int) -> list[Pod]:
    return [running(index) for index in range(3) if index not in gone]


RESET = word(error="RuntimeError", message="[gloo] Connection reset by peer")
SILENCE = word(error="PeerLost", message=f"rank 1 failed: PeerLost: rank 1 {NO_SIGN_OF_LIFE} for 5 s")
FINAL = {"want_phase": Phase.FAILED, "want_budget": None}
TAKEN = {"want_budget": "disruptions", "want_backoff": 0}
CLOSED = {"restarts": {"failures": 0, "disruptions": 0}}
ONCE = {"workload": {"command": {"argv": ["a"], "restartable": False}}}

CASES = [
    Case(name="a program fails", pods=[*others(1), failed(1)], want_class=Reason.USER_ERROR),
    Case(
        name="exit 2 without words ends the job",
        pods=[*others(1), failed(1, code=2)],
        want_class=Reason.USER_ERROR,
        want_reason=Reason.USER_ERROR,
        **FINAL,
    ),
    Case(
        name="exit 2 with words ends the job with their reason",
        pods=[*others(1), failed(1, code=2, message=word(rank=1, reason="InvalidData", message="no column y"))],
        want_class=Reason.INVALID_DATA,
        want_reason=Reason.INVALID_DATA,
        **FINAL,
    ),
    Case(
        name="a launcher hides exit code 2 but not the words",
        pods=[*others(1), failed(1, code=1, message=word(rank=1, reason="InvalidSpec", message="3 clusters, 2 rows"))],
        want_class=Reason.INVALID_SPEC,
        want_reason=Reason.INVALID_SPEC,
        **FINAL,
    ),
    Case(
        name="a code that the user calls final ends the job",
        pods=[*others(1), failed(1, code=7)],
        spec={"restarts": {"nonRetryableExitCodes": [7]}},
        want_class=Reason.USER_ERROR,
        want_reason=Reason.USER_ERROR,
        **FINAL,
    ),
    Case(
        name="exit 93 ends the job",
        pods=[*others(1), failed(1, code=93)],
        want_class=Reason.USER_ERROR,
        want_reason=Reason.USER_ERROR,
        **FINAL,
    ),
    Case(name="exit 94 is a hang", pods=[*others(1), failed(1, code=94)], want_class=Reason.HUNG),
    Case(name="exit 85 is a disruption", pods=[*others(1), failed(1, code=85)], want_class=Reason.EVICTED, **TAKEN),
    Case(name="exit 86 is a disruption", pods=[*others(1), failed(1, code=86)], want_class=Reason.EVICTED, **TAKEN),
    Case(
        name="the first time without memory is forgiven",
        pods=[*others(1), failed(1, code=137, reason="OOMKilled")],
        want_class=Reason.OOM_KILLED,
    ),
    Case(name="137 alone is no lack of memory", pods=[*others(1), failed(1, code=137)], want_class=Reason.USER_ERROR),
    Case(
        name="a preempted Pod was taken away",
        pods=[*others(1), running(1, is_deleting=True, disruption="PreemptionByScheduler")],
        want_class=Reason.EVICTED,
        **TAKEN,
    ),
    Case(
        name="a Pod that the kubelet refused was taken away",
        pods=[*others(1), pending(1, phase="Failed", reason="OutOfcpu", message="node has too little")],
        want_class=Reason.EVICTED,
        **TAKEN,
    ),
    Case(
        name="an init container of a mesh fails",
        pods=[*others(1), pending(1, phase="Failed", init_failure="init container mesh ended with exit code 2")],
        want_class=Reason.USER_ERROR,
    ),
    Case(
        name="a Pod cleared from a node that answers was taken away",
        pods=[*others(1), running(1, is_deleting=True, disruption="DeletionByTaintManager")],
        want_class=Reason.EVICTED,
        **TAKEN,
    ),
    Case(
        name="a Pod cleared from a silent node is lost with it",
        pods=[*others(1), running(1, is_ready=False, is_deleting=True, disruption="DeletionByTaintManager")],
        want_class=Reason.NODE_LOST,
        **TAKEN,
    ),
    Case(
        name="a Pod without a node was lost with it",
        pods=[*others(1), running(1, phase="Failed", disruption="DeletionByPodGC")],
        want_class=Reason.NODE_LOST,
        **TAKEN,
    ),
    Case(
        name="a Pod of unknown phase is on a lost node",
        pods=[*others(1), running(1, phase="Unknown")],
        want_class=Reason.NODE_LOST,
        **TAKEN,
    ),
    Case(
        name="a Pod that is being deleted is lost, whatever its exit code",
        pods=[*others(1), failed(1, code=143, is_deleting=True)],
        want_class=Reason.POD_DELETED,
        **TAKEN,
    ),
    Case(name="a Pod that is gone was deleted", pods=others(1), want_class=Reason.POD_DELETED, **TAKEN),
    Case(
        name="ranks that waited in vain",
        pods=[
            failed(index, message=word(rank=index, reason="RendezvousTimeout", message="rank 2 is missing"))
            for index in range(3)
        ],
        want_class=Reason.RENDEZVOUS_TIMEOUT,
        want_index=0,
    ),
    Case(
        name="a store that does not answer beats the victims of that rank",
        pods=[
            failed(
                0, message=word(rank=0, error="PeerLost", reason="StorageUnreachable", message="rank 1 failed"), at=50
            ),
            failed(1, message=word(rank=1, reason="StorageUnreachable", message="s3://b/x: connection refused"), at=55),
            running(2),
        ],
        want_class=Reason.STORAGE_UNREACHABLE,
    ),
    Case(
        name="a rank without a sign of life is lost with its node once that is silent too",
        pods=[failed(0, message=SILENCE, at=59), running(1, is_ready=False), running(2)],
        want_class=Reason.NODE_LOST,
        **TAKEN,
    ),
    Case(
        name="the rank with an own exception beats an earlier victim",
        pods=[failed(0, message=RESET, at=50), running(2), failed(1, message="ValueError: bad", at=55)],
        want_class=Reason.USER_ERROR,
    ),
    Case(
        name="a worker without memory beats its victims",
        pods=[failed(0, message=RESET, at=50), failed(2, at=51), failed(1, reason="OOMKilled", at=55)],
        want_class=Reason.OOM_KILLED,
    ),
    Case(
        name="a deleted Pod beats those that missed it",
        pods=[failed(0, message=RESET, at=50), failed(2, message=RESET, at=50)],
        want_class=Reason.POD_DELETED,
        **TAKEN,
    ),
    Case(
        name="bad data beat a Pod that was deleted meanwhile",
        pods=[running(0, is_deleting=True), failed(1, code=2, message=word(reason="InvalidData")), running(2)],
        want_class=Reason.INVALID_DATA,
        want_reason=Reason.INVALID_DATA,
        **FINAL,
    ),
    Case(
        name="of two exceptions the earlier is blamed",
        pods=[failed(0, at=59), failed(1, at=58), running(2)],
        want_class=Reason.USER_ERROR,
    ),
    Case(
        name="victims alone, all of them ended: the first is named",
        pods=[failed(index, message=RESET, at=50 + index) for index in range(3)],
        want_class=Reason.USER_ERROR,
        want_index=0,
    ),
    Case(
        name="no failure is allowed",
        pods=[*others(1), failed(1)],
        spec=CLOSED,
        want_class=Reason.USER_ERROR,
        want_reason=Reason.RESTART_LIMIT_EXCEEDED,
        **FINAL,
    ),
    Case(
        name="no disruption is allowed",
        pods=others(1),
        spec=CLOSED,
        want_class=Reason.POD_DELETED,
        want_reason=Reason.RESTART_LIMIT_EXCEEDED,
        **FINAL,
    ),
    Case(
        name="a program that may not be started again fails at once",
        pods=[*others(1), failed(1)],
        spec=ONCE,
        want_class=Reason.USER_ERROR,
        want_reason=Reason.USER_ERROR,
        **FINAL,
    ),
    Case(
        name="a program that may not be started again ends when its Pod is deleted, too",
        pods=others(1),
        spec=ONCE,
        want_class=Reason.POD_DELETED,
        want_reason=Reason.POD_DELETED,
        **FINAL,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_follows_from_a_lost_worker(case: Case) -> None:
    """One line of the failure table: the blame, the count, the next attempt or the end."""
    job = started(make_job().workers(3).spec(**case.spec or {}))
    status = decide(job, case.pods, after(60)).status
    assert status.last_failure is not None
    assert (case.want_class, case.want_index) == (status.last_failure.class_, status.last_failure.index)
    assert (case.want_phase, case.want_reason) == (status.phase, status.reason)
    counts = {"failures": status.restarts.failures, "disruptions": status.restarts.disruptions}
    assert {"failures": 0, "disruptions": 0} | ({case.want_budget: 1} if case.want_budget else {}) == counts
    if case.want_budget:
        assert (1, after(60 + case.want_backoff).strftime("%FT%TZ")) == (status.attempt, status.attempt_time)


def fail_again(job: Job, seconds: float, **how: Any) -> Job:
    """The next attempt runs at once and then loses worker 0."""
    attempt = job.status.attempt
    size = job.spec.workers
    job = store(job, decide(job, [running(index, attempt) for index in range(size)], after(seconds)))
    pods = [failed(0, attempt, at=seconds + 1, **how), *(running(index, attempt) for index in range(1, size))]
    return store(job, decide(job, pods, after(seconds + 1)))


def test_a_second_lack_of_memory_ends_the_job_with_advice() -> None:
    """Memory does not grow from attempt to attempt, also when a disruption came between."""
    job = fail_again(started(make_job().workers(2)), 10, reason="OOMKilled", code=137)
    job = fail_again(job, 20, code=85)
    job = fail_again(job, 30, reason="OOMKilled", code=137)
    assert (job.status.phase, job.status.reason) == (Phase.FAILED, Reason.OOM_KILLED)
    assert "raise pod.resources.limits.memory" in job.status.message


def test_the_same_exception_at_the_same_step_ends_the_job() -> None:
    """A third try would end the same."""
    message = word(step=7, error="ValueError", message="bad value")
    job = fail_again(fail_again(started(make_job()), 10, message=message), 20, message=message)
    assert (job.status.phase, job.status.reason) == (Phase.FAILED, Reason.DETERMINISTIC_ERROR)


@pytest.mark.parametrize(
    "second",
    [
        word(step=8, error="ValueError", message="bad value"),
        word(step=7, error="KeyError", message="bad value"),
        word(error="ValueError", message="bad value"),
        RESET,
    ],
)
def test_another_step_or_exception_is_tried_again(second: str) -> None:
    """Only the very same end counts as deterministic."""
    first = word(step=7, error="ValueError", message="bad value")
    job = fail_again(fail_again(started(make_job()), 10, message=first), 20, message=second)
    assert (job.status.phase, job.status.restarts.failures) == (Phase.RESTARTING, 2)


def test_the_limit_of_restarts_ends_the_job() -> None:
    """`failures: 2` means three attempts; the message holds the last cause."""
    job = started(make_job().spec(restarts={"failures": 2}))
    for seconds in (10, 20, 30):
        job = fail_again(job, seconds, message=f"error at {seconds}")
    assert (
        job.status.phase,
        job.status.reason,
        job.status.restarts.failures,
    ) == (Phase.FAILED, Reason.RESTART_LIMIT_EXCEEDED, 2)
    assert "error at 30" in job.status.message


def test_backoff_doubles_up_to_its_maximum() -> None:
    """1, 2, 4, 5, 5 seconds."""
    job = started(make_job().spec(restarts={"failures": 9, "backoffMaxSeconds": 5}))
    waits = []
    for number in range(5):
        seen = 10.0 * (number + 1)
        job = fail_again(job, seen, message=f"error {number}")
        waits.append(decide(job, [], after(seen + 1)).requeue_after)
    assert waits == [1, 2, 4, 5, 5]


def test_ten_minutes_of_running_reset_the_backoff_but_not_the_count() -> None:
    """An old failure says little about a new one."""
    job = fail_again(fail_again(started(make_job()), 10, message="a"), 20, message="b")
    job = store(job, decide(job, [running(0, 2)], after(30)))
    plan = decide(job, [failed(0, 2, at=631, message="c")], after(631))
    assert (plan.status.restarts.recent, plan.status.restarts.failures) == (1, 3)
    assert plan.requeue_after == 1


def test_an_attempt_that_was_taken_away_before_it_ran_waits() -> None:
    """A node that refuses every Pod must not make the operator spin."""
    job = store(make_job().build(), decide(make_job().build(), [], NOW))
    refused = pending(0, phase="Failed", reason="OutOfcpu")
    assert decide(job, [refused], NOW).requeue_after == 1


def test_a_victim_is_not_believed_at_once() -> None:
    """The kubelet of the culprit may report a moment later."""
    job = started(make_job().workers(2))
    victim = failed(0, message=RESET, at=60)
    plan = decide(job, [victim, running(1)], after(61))
    assert (plan.status.attempt, plan.requeue_after) == (0, 2.0)
    culprit = decide(store(job, plan), [victim, failed(1, reason="OOMKilled", at=60)], after(61.5))
    assert culprit.status.last_failure.class_ == Reason.OOM_KILLED


def test_word_of_a_silent_node_is_waited_for() -> None:
    """Kubernetes needs longer than ranks to find it silent. After a minute it is the rank that hangs, and counts as a failure."""
    job = started(make_job().workers(2))
    victim = failed(0, message=SILENCE, at=60)
    plan = decide(job, [victim, running(1)], after(70))
    assert (plan.status.attempt, plan.requeue_after) == (0, 50.0)
    status = decide(store(job, plan), [victim, running(1)], after(120)).status
    assert (status.attempt, status.restarts.failures, status.last_failure.class_) == (1, 1, Reason.USER_ERROR)


def test_a_rank_that_repeats_the_refusal_of_another_gives_way_to_it() -> None:
    """Both end at once; the message is that of the rank that read the data."""
    job = started(make_job().workers(2))
    refusal = {"reason": Reason.INVALID_DATA, "error": "InvalidData", "message": "t.csv: no rows"}
    repeated = {
        "reason": Reason.INVALID_DATA,
        "error": "PeerLost",
        "message": "rank 0 failed: InvalidData: t.csv: no rows",
    }
    victim = failed(1, code=2, message=word(**repeated | {"rank": 1}), at=60)
    plan = decide(job, [running(0), victim], after(60.1))
    assert plan.status.phase is Phase.RUNNING
    plan = decide(store(job, plan), [failed(0, code=2, message=word(**refusal), at=60.2), victim], after(60.3))
    assert plan.status.message == "worker 0 on n0 refused the data (exit code 2): t.csv: no rows"
    assert decide(job, [running(0), victim], after(64)).status.reason == Reason.INVALID_DATA


def test_a_victim_is_believed_after_a_while() -> None:
    """A culprit that never reports must not hold up the job."""
    plan = decide(started(make_job().workers(2)), [failed(0, message=RESET, at=60), running(1)], after(63))
    assert (plan.status.attempt, plan.status.last_failure.class_) == (1, Reason.USER_ERROR)


def test_a_victim_on_a_node_whose_clock_is_ahead_is_believed() -> None:
    """An hour ahead is not an hour to wait."""
    plan = decide(started(make_job().workers(2)), [failed(0, message=RESET, at=3660), running(1)], after(60))
    assert plan.status.attempt == 1


def test_a_worker_that_is_done_is_never_lost() -> None:
    """Its Pod may be deleted by hand or by the garbage collector."""
    job = started(make_job().workers(2))
    job = store(job, decide(job, [succeeded(0), running(1)], after(60)))
    assert ((plan := decide(job, [running(1)], after(61))).status.attempt, plan.status.phase) == (0, Phase.RUNNING)
    done = decide(job, [succeeded(1)], after(62)).status
    assert (done.phase, done.workers.succeeded) == (Phase.SUCCEEDED, 2)


def test_the_last_failure_names_everything_that_is_known() -> None:
    """Which worker and node, how it ended, at which step, and its words."""
    message = word(rank=1, step=12, error="ValueError", message="bad\n  value")
    plan = decide(started(make_job().workers(2)), [running(0), failed(1, code=3, message=message)], after(60))
    want = {
        "index": 1,
        "node": "n1",
        "class": "UserError",
        "exitCode": 3,
        "attempt": 0,
        "message": "ValueError: bad value",
        "step": 12,
        "time": "2026-01-02T03:05:05Z",
    }
    assert want == plan.status.last_failure.to_wire()
    assert plan.status.message == "attempt 1 after UserError of worker 1 on n1: ValueError: bad value"


def test_a_restart_after_a_wordless_end_tells_the_exit_code() -> None:
    """A segmentation fault, or a SIGKILL: the number is all there is."""
    plan = decide(started(make_job()), [failed(0, code=139)], after(60))
    assert plan.status.message == "attempt 1 after UserError of worker 0 on n0 (exit code 139)"


@pytest.mark.parametrize(
    ("log", "want"),
    [
        ("Traceback (most recent call last):\n  File x\nKeyError: 'y'\n", "KeyError: 'y'"),
        (
            "[rank1]: ValueError: bad\nTraceback:\na.b.ChildFailedError:\n====\n x.py FAILED\n====\n",
            "[rank1]: ValueError: bad",
        ),
        ("loading\nsegmentation fault\n-----\n", "segmentation fault"),
        ('": "fit", "step": 6}}\n{"progress": {"phase": "fit", "step": 7}}\n', ""),
    ],
    ids=["Python", "torchrun", "no exception", "killed at work"],
)
def test_a_program_without_last_words_is_quoted_by_the_telling_line_of_its_log(log: str, want: str) -> None:
    """FallbackToLogsOnError gives the end of the log, where launchers add lines that say nothing."""
    assert decide(started(make_job()), [failed(0, message=log)], after(60)).status.last_failure.message == want


def test_a_reason_is_not_told_twice() -> None:
    """The type of the trainer's own errors is the reason, which stands beside the words."""
    message = word(rank=0, reason="InvalidData", error="InvalidData", message="x.csv: column y is missing")
    plan = decide(started(make_job()), [failed(0, code=2, message=message)], after(60))
    assert plan.status.last_failure.message == "x.csv: column y is missing"


@pytest.mark.parametrize(
    "message",
    [
        "[1, 2]",
        "null",
        '{"rank": "zero"}',
        '{"rank": 0, "step": "three", "message": 5, "error": ["x"], "reason": {}}',
        '{"rank": 0, "step": 1e400, "metrics": [1]}',
        '{"rank": 0, "step": 123456789012345678901234567890}',
    ],
)
@pytest.mark.parametrize("code", [0, 1])
def test_no_termination_message_can_stop_the_planner(message: str, code: int) -> None:
    """Any program may write anything there, and what follows must be a status that the API server takes."""
    builder = make_job()
    pod = failed(0, code=code, message=message)
    pod = replace(pod, phase="Failed" if code else "Succeeded")
    status = decide(started(builder), [pod], after(60)).status
    assert builder.status(status).build().status == status
    assert status.last_failure is None or status.last_failure.step is None


def test_figures_with_long_names_are_kept() -> None:
    """The CRD bounds a name."""
    pod = succeeded(0, word=LastWord(rank=0, metrics={"x" * 99: 1.5, "nan": float("nan")}))
    metrics = decide(started(make_job()), [pod], after(60)).status.result.metrics
    assert [(metric.name, metric.value) for metric in metrics] == [("x" * 64, "1.5"), ("nan", "nan")]


def test_words_of_any_length_fit() -> None:
    """The API server refuses a status that is too long."""
    status = decide(started(make_job()), [failed(0, message="x" * 4000, node="n" * 200)], after(60)).status
    assert len(status.message) <= 1024
    assert len(status.last_failure.message) <= 1024


def test_a_last_word_survives_its_way() -> None:
    """Every field of it."""
    said = LastWord(
        rank=1,
        step=2,
        reason="InvalidData",
        error="InvalidData",
        message="no column y",
        metrics={"r2": 0.5},
        rows=3,
        features=4,
        seconds=5.5,
        model_uri="/m",
        model_sha256="ab",
        digests={"data": "cd"},
    )
    assert LastWord.from_json(said.to_json()) == said
    assert None not in [getattr(said, name) for name in LastWord.__slots__]
