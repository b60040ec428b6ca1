"""What a rank tells while it runs and when it ends."""

import io
import json
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from scalejob.contract import TERMINATION_LIMIT, LastWord, ProgressLine
from scaletrain.errors import InvalidData, InvalidSpec, PeerLost
from scaletrain.progress import Teller, serve, teller
from scaletrain.report import Report
from scaletrain.task import task_from_env
from tests.dist.world import free_port


class Clock:
    """Time that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Closed(io.StringIO):
    """A stream that nobody reads."""

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.fixture
def clock() -> Clock:
    return Clock()


def report_of(place: Path | None, step: int = 0) -> Report:
    told = Teller(write=lambda line: None, every=0)
    told.phase("fit")(step)
    return Report(rank=3, place=place, told=told)


def test_lines_are_at_least_a_second_apart_but_each_phase_is_told(clock: Clock) -> None:
    """A fit of a million steps prints as many lines as it takes seconds."""
    lines: list[str] = []
    told = Teller(write=lines.append, every=1.0, clock=clock)
    step = told.phase("fit")
    for number in range(1, 13):
        clock.now += 0.25
        step(number, of=40)
    told.phase("save")
    seen = [ProgressLine.from_json(line) for line in lines]
    told_steps = [(line.phase, line.step) for line in seen if line]
    assert told_steps == [("fit", 0), ("fit", 4), ("fit", 8), ("fit", 12), ("save", 0)]


def test_the_end_is_estimated_from_the_steps_so_far(clock: Clock) -> None:
    """Ten steps in five seconds leave fifteen seconds for thirty more."""
    told = Teller(write=lambda line: None, every=1.0, clock=clock)
    step = told.phase("fit")
    clock.now += 5
    step(10, of=40, metric="inertia", value=2.5)
    assert told.latest == ProgressLine(phase="fit", step=10, of=40, metric="inertia", value=2.5, eta_seconds=15)


def test_a_bound_of_steps_gives_no_estimate(clock: Clock) -> None:
    """A K-Means that may take 300 steps and needs 20 is not about to last for minutes."""
    told = Teller(write=lambda line: None, every=1.0, clock=clock)
    step = told.phase("fit", may_end_early=True)
    clock.now += 5
    step(1, of=300)
    assert told.latest == ProgressLine(phase="fit", step=1, of=300)


def test_a_phase_of_known_length_says_so_from_its_start(clock: Clock) -> None:
    """So that a bar has an end before the first step is done."""
    told = Teller(write=lambda line: None, every=1.0, clock=clock)
    step = told.phase("evaluate", of=2)
    assert told.latest == ProgressLine(phase="evaluate", step=0, of=2)
    clock.now += 3
    step(1)
    assert told.latest == ProgressLine(phase="evaluate", step=1, of=2, eta_seconds=3)


def test_a_closed_stdout_does_not_fail_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have piped the output into `head`."""
    monkeypatch.setattr(sys, "stdout", Closed())
    told = teller({"RANK": "0"})
    told.phase("fit")(1)
    assert told.latest.step == 1


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """One voice for a job."""
    teller({"RANK": "1"}).phase("fit")(1)
    assert capsys.readouterr().out == ""


def test_the_latest_line_is_served() -> None:
    """As the operator reads it, and for Prometheus; a second server on the port does no harm."""
    told = Teller(write=lambda line: None, every=0)
    told.phase("fit")(4, of=9, metric="inertia", value=1.5)
    port = free_port()
    serve(told, port)
    serve(told, port)

    def get(path: str, host: str = "127.0.0.1") -> str:
        with urllib.request.urlopen(f"http://{host}:{port}{path}") as answer:
            return answer.read().decode()

    assert ProgressLine.from_json(get("/progress")) == told.latest
    if socket.has_dualstack_ipv6():
        assert ProgressLine.from_json(get("/progress", host="[::1]")) == told.latest
    assert 'scalejob_metric{name="inertia"} 1.5\n' in get("/metrics")


def test_a_users_fault_is_told_with_reason_and_step(tmp_path: Path) -> None:
    """The message as it is."""
    cause = report_of(tmp_path / "word", step=7).cause_of(InvalidData("f.csv: column a"))
    want = LastWord(rank=3, step=7, reason="InvalidData", error="InvalidData", message="f.csv: column a")
    assert (cause.word, cause.exit_code) == (want, 2)


def test_an_error_that_nobody_foresaw_is_told_with_its_place() -> None:
    """The last line of the traceback; it may be retried."""
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 // 0
    cause = report_of(None).cause_of(caught.value)
    assert cause.exit_code == 1
    assert "test_telling.py:" in (cause.word.message or "")


def test_a_lost_peer_gives_no_reason() -> None:
    """The reason is the other's to give."""
    assert report_of(None).cause_of(PeerLost("lost")).word.reason is None


def test_a_word_fits_what_the_kubelet_keeps(tmp_path: Path) -> None:
    """However long the message is."""
    report = report_of(tmp_path / "word")
    report.success(report.cause_of(InvalidData("é" * 10_000)).word)
    text = (tmp_path / "word").read_bytes()
    assert len(text) <= TERMINATION_LIMIT
    assert LastWord.from_json(text.decode()) is not None


def test_everything_wrong_with_a_task_is_told_at_once() -> None:
    """With the fields' paths."""
    spec = {"workload": {"svm": {"C": 0}}, "data": {"files": {"uri": "x"}}, "outputs": {}}
    with pytest.raises(InvalidSpec) as caught:
        task_from_env({"SCALEJOB_SPEC": json.dumps(spec)})
    for part in ("spec.workload.svm.C: must be greater than 0", "spec.outputs: unknown field; did you mean output?"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "want"),
    [
        ({}, "SCALEJOB_SPEC is not set"),
        ({"SCALEJOB_SPEC": "{"}, "SCALEJOB_SPEC is not JSON"),
        ({"SCALEJOB_SPEC": '{"workload": {"command": {"argv": ["x"]}}}'}, "is a program of its own"),
    ],
)
def test_what_is_no_task_is_refused(environ: dict[str, str], want: str) -> None:
    """Before anything is read."""
    with pytest.raises(InvalidSpec, match=want):
        task_from_env(environ)
