"""What a run looks like."""

import io

import pytest
from rich.console import Console

from scalejob.api.v1alpha1 import Status, Workers
from scalejob.cli.display import Bars, Lines, figure
from scalejob.contract import Phase, ProgressLine

DATA = ProgressLine(phase="data", step=3, of=4)
FIT = ProgressLine(phase="fit", step=12, of=300, metric="inertia", value=118.25, eta_seconds=40)
RESTARTING = Status(phase=Phase.RESTARTING, attempt=1, message="attempt 1 after UserError of worker 1: boom")


def test_a_figure_has_the_metric_and_the_time_that_is_left() -> None:
    """As far as they are known."""
    assert figure(FIT) == "inertia=118.25, 40 s left"
    assert figure(DATA) == ""


def test_lines_tell_each_phase_once_in_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    """A log is no place for a line per step."""
    with Lines("job") as display:
        for line in (ProgressLine(phase="data", step=0), DATA, FIT, FIT):
            display.on_progress(line)
    assert capsys.readouterr().err == "job: data\njob: fit      12/300 inertia=118.25, 40 s left\n"


def test_lines_tell_a_restart_and_what_workers_print(capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason, and with the index of the worker."""
    with Lines("job") as display:
        display.on_line(2, "hello")
        display.on_status(RESTARTING)
    assert capsys.readouterr().err == f"[2] hello\njob: Restarting: {RESTARTING.message}\n"


def shown(terminal: io.StringIO) -> str:
    """The last frame, without the blanks at the ends of its lines."""
    return "\n".join(line.rstrip() for line in terminal.getvalue().splitlines())


@pytest.fixture
def terminal() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def bars(terminal: io.StringIO) -> Bars:
    return Bars("job", Console(file=terminal, force_terminal=True, color_system=None, width=100))


def test_bars_show_one_phase_below_the_other(bars: Bars, terminal: io.StringIO) -> None:
    """A phase that is over is full, though it needed fewer steps than it was allowed."""
    with bars:
        bars.on_status(Status(phase=Phase.RUNNING, workers=Workers(desired=4, ready=4)))
        bars.on_progress(DATA)
        bars.on_progress(FIT)
    last = shown(terminal)[-600:]
    assert [word for word in ("workers", "data", "fit") if word in last] == ["workers", "data", "fit"]
    assert "4/4" in last
    assert "3/3" in last
    assert "12/12" in last
    assert "inertia=118.25" in last
    assert "40 s left" not in last.splitlines()[-1]


def test_bars_begin_anew_with_an_attempt(bars: Bars, terminal: io.StringIO) -> None:
    """The reason stays above."""
    with bars:
        bars.on_progress(FIT)
        bars.on_status(RESTARTING)
        bars.on_status(Status(phase=Phase.STARTING, attempt=1, workers=Workers(desired=4)))
        bars.on_progress(DATA)
    last = shown(terminal)
    assert RESTARTING.message in last
    assert "fit" not in last[-250:]


def test_what_workers_print_is_not_taken_for_markup(bars: Bars, terminal: io.StringIO) -> None:
    """[red] in a log is a word."""
    with bars:
        bars.on_line(0, "[red]x[/red]")
    assert "[0] [red]x[/red]" in shown(terminal)
