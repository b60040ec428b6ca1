"""What a run looks like while it lasts: bars on a terminal, plain lines elsewhere. All of it on standard error."""

import time
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Phase, ProgressLine

LINE_SECONDS = 5.0  # at most one plain line of the same phase in this time


class Display(Protocol):
    """A `scalejob.local.runner.Observer` that is open while a job runs."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def on_status(self, status: Status) -> None: ...

    def on_progress(self, line: ProgressLine) -> None: ...

    def on_line(self, index: int, line: str) -> None: ...


def open_display(name: str) -> Display:
    """The display that suits where standard error goes."""
    console = Console(stderr=True)
    return Bars(name, console) if console.is_terminal else Lines(name)


def figure(line: ProgressLine) -> str:
    """The metric that is followed, and the estimated time: `inertia=1.2e+05, 40 s left`."""
    metric = f"{line.metric}={line.value:.6g}" if line.metric and line.value is not None else ""
    left = f"{line.eta_seconds} s left" if line.eta_seconds else ""
    return ", ".join(filter(None, (metric, left)))


class Lines:
    """One line of text for each thing worth telling."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._phase = ""
        self._next = 0.0
        self._attempt = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def on_status(self, status: Status) -> None:
        if status.attempt != self._attempt and not status.phase.is_finished:
            self._say(f"{status.phase}: {status.message}")
            self._phase = ""
        self._attempt = status.attempt

    def on_progress(self, line: ProgressLine) -> None:
        now = time.monotonic()
        if line.phase != self._phase or now >= self._next:
            self._say(" ".join(filter(None, (f"{line.phase:8}", _steps(line), figure(line)))))
            self._phase, self._next = line.phase, now + LINE_SECONDS

    def on_line(self, index: int, line: str) -> None:
        click.echo(f"[{index}] {line}", err=True)

    def _say(self, text: str) -> None:
        click.echo(f"{self._name}: {text.rstrip()}", err=True)


def _steps(line: ProgressLine) -> str:
    """A phase that has only begun has none to tell."""
    return f"{line.step}/{line.of}" if line.of else str(line.step or "")


class Bars:
    """One bar for each phase; what workers print scrolls above."""

    def __init__(self, name: str, console: Console) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description:9}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figure]}", markup=False),
            console=console,
        )
        self._name = name
        self._phase = ""
        self._task: TaskID | None = None
        self._line: ProgressLine | None = None  # the last one of the phase
        self._attempt = 0

    def __enter__(self) -> Self:
        self._progress.start()
        self._progress.console.print(Text(self._name, style="bold"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._complete()
        self._progress.stop()

    def on_status(self, status: Status) -> None:
        if status.attempt != self._attempt and not status.phase.is_finished:
            self._progress.console.print(Text(f"{status.phase}: {status.message}", style="yellow"))
            self._task = None
            for task in self._progress.task_ids:
                self._progress.remove_task(task)
        self._attempt = status.attempt
        if self._task is None and status.phase is not Phase.RESTARTING:
            self._begin("workers")
        if self._phase == "workers" and self._task is not None:
            ready, total = status.workers.ready + status.workers.succeeded, status.workers.desired
            self._progress.update(self._task, completed=ready, total=total)

    def on_progress(self, line: ProgressLine) -> None:
        if line.phase != self._phase:
            self._begin(line.phase)
        assert self._task is not None, "begun above"
        self._line = line
        self._progress.update(self._task, completed=line.step, total=line.of, figure=figure(line))

    def on_line(self, index: int, line: str) -> None:
        self._progress.console.print(Text.assemble((f"[{index}] ", "dim"), line))

    def _begin(self, phase: str) -> None:
        self._complete()
        self._phase, self._line = phase, None
        self._task = self._progress.add_task(phase, total=None, figure="")

    def _complete(self) -> None:
        """A phase that is over has a full bar, though it may have needed fewer steps than it was allowed."""
        if self._task is None:
            return
        task = next(task for task in self._progress.tasks if task.id == self._task)
        steps = task.completed or task.total or 1
        end = figure(replace(self._line, eta_seconds=None)) if self._line else ""
        self._progress.update(self._task, completed=steps, total=steps, figure=end)
        self._progress.stop_task(self._task)
