"""`python -m tests.bench.sha_matrix`: one SHA-256 for each workload, whatever the number of ranks and whatever happened.

Each workload runs undisturbed on 1, 2, 3, 4 and 8 ranks, and once more on as many that get a SIGTERM in the middle of the fit,
save the state and are followed by an attempt on the next number of ranks.
"""

import json
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import click

from scalejob.contract import ExitCode
from tests.bench.machine import facts
from tests.dist.attempts import Attempt
from tests.dist.fault_jobs import JOBS
from tests.dist.faults import as_table, finish, with_places

SIZES = (1, 2, 3, 4, 8)
NEXT = dict(pairwise((*SIZES, SIZES[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model."""

    job: str
    workers: int
    workers_after: int | None  # None: undisturbed
    saved_at: str  # the phase and step of the SIGTERM
    sha256: str


def undisturbed(job: str, workers: int) -> Cell:
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        spec = with_places(JOBS[job](Path(folder, "data")), Path(folder))
        sha256 = finish(Attempt.start(spec, workers, Path(folder, "attempt")))
    return Cell(job=job, workers=workers, workers_after=None, saved_at="", sha256=sha256)


def resumed(job: str, workers: int) -> Cell:
    """AssertionError if the state is not saved, or the next attempt does not go on from it."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        spec = with_places(JOBS[job](Path(folder, "data")), Path(folder))
        first = Attempt.start(spec, workers, Path(folder, "first"))
        assert first.wait_for("fit", 0), first.text(0)
        first.send(0, signal.SIGTERM)
        assert first.wait(30)
        assert set(first.codes.values()) == {ExitCode.PREEMPTED}, f"{job}: {first.codes} {first.messages()}"
        second = Attempt.start(spec, NEXT[workers], Path(folder, "second"))
        sha256 = finish(second)
        assert "the fit goes on after step" in second.text(0), second.text(0)
        step = first.messages()[0].partition("at step ")[2].partition(":")[0]
    return Cell(job=job, workers=workers, workers_after=NEXT[workers], saved_at=f"step {step}", sha256=sha256)


def cells(jobs: tuple[str, ...]) -> Iterator[Cell]:
    for job in jobs:
        for workers in SIZES:
            yield undisturbed(job, workers)
            yield resumed(job, workers)


def rows_of(found: list[Cell]) -> list[dict[str, str]]:
    """A line for each workload: the first digits of the SHA-256 by ranks, then by ranks before and after."""
    rows = []
    for job in dict.fromkeys(cell.job for cell in found):
        own = [cell for cell in found if cell.job == job]
        row = {"workload": job}
        for is_resumed in (False, True):
            for cell in own:
                if (cell.workers_after is not None) is is_resumed:
                    name = f"{cell.workers}>{cell.workers_after}" if is_resumed else str(cell.workers)
                    row[name] = cell.sha256[:8]
        rows.append(row | {"equal": "yes" if len({cell.sha256 for cell in own}) == 1 else "NO"})
    return rows


@click.command()
@click.option("--job", multiple=True, type=click.Choice(list(JOBS)), help="Only these.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write all digests there.")
def main(job: tuple[str, ...], path: Path | None) -> None:
    found = list(cells(job or tuple(JOBS)))
    rows = rows_of(found)
    click.echo(as_table(rows))
    if path:
        matrix = {"machine": facts(), "table": rows, "cells": [asdict(cell) for cell in found]}
        path.write_text(json.dumps(matrix, indent=1) + "\n")
    raise SystemExit(any(row["equal"] == "NO" for row in rows))


if __name__ == "__main__":
    main()
