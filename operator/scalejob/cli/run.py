"""`scalejob run`: a cluster's job on this machine."""

import importlib.util
import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scalejob.api.v1alpha1 import ScaleJob, Status
from scalejob.contract import ExitCode, Phase, Reason
from scalejob.local.container import Unresolvable
from scalejob.local.runner import Interrupted, run_job

from .display import open_display
from .files import JobFile, job_file_options, load, with_workers
from .main import missing_extra

UNFOLDED_WIDTH = 500  # of the table where no terminal gives one


@click.command("run")
@job_file_options
@click.option("--timeout", type=click.IntRange(min=1), metavar="SECONDS", help="End each job after this time.")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How results are printed.",
)
def run_command(file: Path, workers: int | None, overrides: tuple[str, ...], timeout: int | None, output: str) -> None:
    """Run the ScaleJobs of a file on this machine, one after the other; workers are local processes.

    \b
    Examples:
      scalejob run scalejob.yaml
      scalejob run scalejob.yaml --workers 4 --set spec.seed=7
      scalejob run scalejob.yaml --timeout 600
      scalejob run scalejob.yaml --output json | jq .status.result

    Everything is decided as the operator would: restarts, back-off, deadlines. A path under one of the job's volume
    mounts lies below .scalejob in the current folder: /models/a is .scalejob/models/a. All other paths are used as
    they are. Ctrl-C ends all workers, a second Ctrl-C at once. The first job that fails ends the run.

    Results go to standard output, everything else to standard error. With --output json each job is one line.

    \b
    Exit codes:
      0    all jobs succeeded
      1    a job failed
      2    the file or the data must be corrected first: a retry cannot help
      130  Ctrl-C (128 + number of the signal)
    """
    given = with_workers(overrides, workers) + ([f"spec.deadlines.activeSeconds={timeout}"] if timeout else [])
    jobs = load(file, given)
    require_trainer(jobs)
    for job in jobs.jobs:
        status = watch(job, jobs)
        sys.stdout.write(json_line(job, status)) if output == "json" else print_table(job, status)
        if status.phase is not Phase.SUCCEEDED:
            click.secho(f"{job.metadata.name} failed: {status.reason}: {status.message}", fg="red", err=True)
            raise SystemExit(exit_code(status))
        if status.result is None:
            click.echo(f"{job.metadata.name}: {status.message}", err=True)


def require_trainer(jobs: JobFile) -> None:
    """A command brings what it needs; every other workload needs the trainer."""
    is_needed = any(job.spec.workload.command is None for job in jobs.jobs)
    if is_needed and importlib.util.find_spec("torch") is None:
        raise missing_extra("scalejob run", "trainer")


def watch(job: ScaleJob, jobs: JobFile) -> Status:
    """The last status of a job that has run to its end. Exits if it could not."""
    try:
        with open_display(job.metadata.name) as display:
            return run_job(job, jobs.documents, display)
    except Unresolvable as error:
        click.secho(f"{job.metadata.name}: {error}", fg="red", err=True)
        raise SystemExit(ExitCode.INVALID) from error
    except Interrupted as error:
        click.echo(f"{job.metadata.name}: {error}; no worker is left", err=True)
        raise SystemExit(error.exit_code) from error


def exit_code(status: Status) -> int:
    """2 by the reason, or by the program's own exit code: a launcher such as torchrun turns every failure into 1."""
    failed_with = status.last_failure.exit_code if status.last_failure else None
    is_users_fault = status.reason in (Reason.INVALID_SPEC, Reason.INVALID_DATA) or failed_with == ExitCode.INVALID
    return ExitCode.INVALID if is_users_fault else 1


def json_line(job: ScaleJob, status: Status) -> str:
    """One line: name, spec and status as a cluster would show them."""
    return json.dumps({"name": job.metadata.name, "spec": job.spec.to_wire(), "status": status.to_wire()}) + "\n"


def print_table(job: ScaleJob, status: Status) -> None:
    """What came out. Nothing for a program that leaves no result."""
    rows = result_rows(status)
    if not rows:
        return
    console = Console()
    if not console.is_terminal:
        console.width = UNFOLDED_WIDTH
    workers = f"{job.spec.workers} worker{'s' if job.spec.workers > 1 else ''}"
    # No frame: the SHA-256 fits a terminal of 80 columns in one piece.
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(Text(f"{job.metadata.name}: {job.spec.workload.name} on {workers}", style="bold"), table, sep="\n")


def result_rows(status: Status) -> list[tuple[str, str]]:
    """Name and value of every line of the table."""
    result = status.result
    if result is None:
        return []
    rows = [(metric.name, metric.value) for metric in result.metrics]
    seconds = float(result.seconds or 0)
    if result.rows is not None:
        rows += [("rows", f"{result.rows:,}"), ("features", str(result.features or ""))]
    if seconds:
        rows += [("seconds", f"{seconds:.1f}"), ("rows/second", f"{(result.rows or 0) / seconds:,.0f}")]
    if result.model:
        rows += [("model", result.model.uri), ("SHA-256", result.model.sha256)]
    return rows
