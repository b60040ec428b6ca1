"""One rank's life: rank -> comm -> data -> prepare -> fit -> evaluate -> artifact -> report."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

from scalejob.api.v1alpha1 import Prepare, Spec
from scalejob.contract import ExitCode, LastWord

from . import artifact, checkpoint, signals
from .comm import Comm
from .data.load import Dataset, load
from .errors import InvalidData
from .estimators import estimator_for
from .estimators.base import Result
from .evaluate import evaluate
from .preemption import Preemption
from .prepare.preparation import Preparation, fit_preparation, num_steps
from .progress import Teller, teller
from .rank import Rank
from .report import Report, leave, say
from .restore import params_of, to_model
from .steps import open_steps
from .task import task_from_env
from .world import world


def main(environ: Mapping[str, str], threads: int) -> NoReturn:
    """This process's part of the job. Ends the process."""
    started = time.monotonic()
    told = teller(environ)
    report, preemption = Report.from_env(environ, told), Preemption.from_env(environ)
    signals.end_on(preemption.wait, report.terminated)
    try:
        rank, spec = Rank.from_env(environ), task_from_env(environ)
    except Exception as error:
        report.failure(error)
    with joined(rank, spec, report, preemption) as comm:
        found = train(comm, spec, threads, told, preemption)
        report.is_complete = True
    if rank.is_first:
        report.success(LastWord(rank=0, seconds=round(time.monotonic() - started, 3), **found))
    elif rank.local_rank == 0:  # the processes of a worker share one file: rank 0's word must stay
        report.success(LastWord(rank=rank.rank))
    leave(ExitCode.DONE)


@contextmanager
def _within_range() -> Iterator[None]:
    """Numbers so large that no sum of them can be held are the user's to change: a retry would meet them again."""
    try:
        yield
    except FloatingPointError as error:
        raise InvalidData(
            f"the numbers are too large or too far apart to compute with ({error}): scale the features (prepare.scale:"
            " standard), or take less extreme parameters"
        ) from error


@_within_range()
def train(comm: Comm, spec: Spec, threads: int, told: Teller, preemption: Preemption) -> dict[str, Any]:
    """From data to the saved model, which rank 0 writes. Returns what the last word tells of it."""
    assert spec.output is not None
    if comm.rank == 0:
        artifact.claim(spec.output.uri)
        checkpoint.claim(spec)
    data = load(comm, spec, threads, told.phase("data"))

    num_prepared = num_steps(spec.prepare or Prepare()) + 1
    prepared = told.phase("prepare", of=num_prepared)
    preparation = fit_preparation(comm, data.train, spec.prepare or Prepare(), data.columns, prepared)
    data = data.map(preparation.apply)  # the rows as they were read are not kept: there may be no memory for both
    prepared(num_prepared)

    with preemption.possible() if spec.checkpoint else nullcontext():
        steps = open_steps(comm, spec, data.train, told, preemption)
        fitted = told.phase("fit", may_end_early=True)
        fit = estimator_for(spec.workload).fit
        result = fit(comm, data.train, params_of(spec.workload), seed=spec.seed, progress=fitted, checkpoint=steps)

    evaluated = told.phase("evaluate", of=1)
    metrics = evaluate(comm, spec.workload, result, data.held or data.train)
    evaluated(1)

    written = told.phase("save", of=1)
    about = {**_about(data), "metrics": metrics, "digests": steps.digests}
    saved = _save(spec, data, preparation, result, about) if comm.rank == 0 else {}
    steps.forget()
    written(1)
    return {"metrics": metrics, "rows": data.train.num_rows, "features": len(data.columns.features), **saved}


def _about(data: Dataset) -> dict[str, Any]:
    return {
        "features": data.columns.features,
        "featuresNamed": data.columns.are_named,
        "rows": data.train.num_rows,
        "rowsHeldBack": data.held.num_rows if data.held else 0,
        "rowsDropped": data.num_dropped,
    }


def _save(
    spec: Spec, data: Dataset, preparation: Preparation, result: Result, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes the model, on rank 0, and tells what is to be known of it."""
    assert spec.output is not None
    if warning := result.facts().get("warning"):
        say(f"scaletrain: warning: {warning}")
    model = to_model(spec, preparation.steps, result, classes=data.train.classes, about=about)
    saved = artifact.save(model, spec.output.uri)
    return {"model_uri": saved.uri, "model_sha256": saved.sha256, "digests": about["digests"]}


@contextmanager
def joined(rank: Rank, spec: Spec, report: Report, preemption: Preemption) -> Iterator[Comm]:
    """The ranks of the job. An error ends the process, and those of the others."""
    meeting = spec.rendezvous
    try:
        with world(
            rank,
            report,
            backend=meeting.backend,
            timeout_seconds=meeting.timeout_seconds,
            wished=preemption.wished,
        ) as comm:
            yield comm
    except Exception as error:
        report.failure(error)
