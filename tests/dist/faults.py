"""`python -m tests.dist.faults --runs 200 --seed 0`: jobs disturbed at random moments.

Each run starts a job on 2 to 4 ranks, strikes at a random moment, sees that all ranks end within ten seconds with the right
codes and words (or, of what a job survives, that it goes on), and starts the next attempt on another number of ranks. In the
end there must be a model with the SHA-256 of the undisturbed job. Printed is a table by kind of fault.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import click

from tests.bench import machine
from tests.dist.attempts import Attempt
from tests.dist.fault_jobs import JOBS, Spec
from tests.dist.fault_kinds import ALL_JOBS, KINDS, Kind, Scene, on_tmpfs

END_SECONDS = 10.0  # after a fault all ranks have ended
JOB_SECONDS = 120.0  # the longest job, on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of one run."""

    number: int
    kind: str
    job: str
    workers: int
    workers_after: int | None = None  # None: there was no need of another attempt
    phase: str = ""  # where the fault struck
    step: int = 0
    is_resumed: bool = False
    seconds: float | None = None  # from the fault to the end of the last rank; None: survived, or it was over
    hangs: int = 0  # ranks that had to be killed
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    sha256: str
    seconds: float
    fit_seconds: float  # after its first step


@cache
def undisturbed(job: str) -> Undisturbed:
    """The job on one rank, without a checkpoint."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        spec = ALL_JOBS[job](Path(folder, "data"))
        del spec["checkpoint"]
        began = time.monotonic()
        attempt = Attempt.start(spec | {"output": {"uri": f"{folder}/model"}}, 1, Path(folder, "attempt"))
        attempt.wait_for("fit", 1)
        fit_began = time.monotonic()
        attempt.wait_for("evaluate", 0)
        fit_seconds = time.monotonic() - fit_began
        return Undisturbed(sha256=finish(attempt), seconds=time.monotonic() - began, fit_seconds=fit_seconds)


def finish(attempt: Attempt) -> str:
    """The SHA-256 of its model. AssertionError if it fails or hangs."""
    try:
        assert attempt.wait(JOB_SECONDS), f"no end after {JOB_SECONDS} s: {attempt.text(0)[-2000:]}"
        assert set(attempt.codes.values()) == {0}, f"{attempt.codes}: {attempt.messages()}"
        word = attempt.word(0)
        assert word is not None
        assert word.model_sha256 is not None
        return word.model_sha256
    finally:
        attempt.end()


def run(kind: Kind, number: int, seed: int, jobs: Sequence[str] = tuple(JOBS)) -> Run:
    """One run, the same one for the same numbers but for the speed of the machine."""
    rng = Random(f"{seed} {number} {kind.name}")  # noqa: S311 - faults need no secrets
    job = rng.choice(kind.jobs or jobs)
    workers = rng.choice((2, 3, 4))
    found = Run(number=number, kind=kind.name, job=job, workers=workers)
    want = undisturbed(job)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, small(kind, Path(folder)):
        spec = with_places(ALL_JOBS[job](Path(folder, "data")), Path(folder))
        scene = Scene(spec=spec, folder=Path(folder), rng=rng, workers=workers, victim=rng.randrange(workers))
        kind.before(scene)
        longest = want.fit_seconds if kind.only_in_fit else 1.2 * want.seconds
        found = disturb(kind, scene, found, rng.uniform(0, 1) * longest)
        if scene.has_succeeded:
            word = scene.attempt.word(0)
            wrong = [] if word and word.model_sha256 == want.sha256 else ["another SHA-256"]
        else:
            kind.repair(scene)
            found, wrong = go_on(scene, found, want.sha256)
        return replace(found, wrong=(*found.wrong, *wrong, *left_behind(scene)))


def disturb(kind: Kind, scene: Scene, found: Run, delay: float) -> Run:
    """The first attempt, struck `delay` seconds after its ranks have met."""
    scene.attempt = Attempt.start(scene.spec, scene.workers, scene.folder / "first")
    try:
        if scene.attempt.wait_for(*(("fit", 1) if kind.only_in_fit else ("data", 0))):
            scene.attempt.wait(delay)
        line = (scene.attempt.progress() or [None])[-1]
        scene.phase, scene.step = (line.phase, line.step) if line else ("start", 0)
        struck = time.monotonic()
        kind.strike(scene)
        spared = scene.victim if kind.spares_victim else None
        has_ended = scene.attempt.wait(JOB_SECONDS if kind.survives else limit(kind, scene), but=spared)
        seconds = time.monotonic() - struck
        late = [] if has_ended else set(range(scene.workers)) - {spared, *scene.attempt.codes}
        wrong = judged(kind, scene)
    finally:
        scene.attempt.end()
    is_timed = not (kind.survives or scene.has_succeeded)
    return replace(
        found,
        phase=scene.phase,
        step=scene.step,
        seconds=round(seconds, 2) if is_timed else None,
        hangs=len(late),
        wrong=tuple(wrong),
    )


def limit(kind: Kind, scene: Scene) -> float:
    """A disk that is full is met when something is written to it: the model, at the end."""
    return JOB_SECONDS if kind.small or kind.before is not kind.repair else END_SECONDS


def judged(kind: Kind, scene: Scene) -> list[str]:
    if scene.is_written:
        return []
    if kind.survives:
        return [f"it did not survive: {scene.attempt.codes}, {scene.attempt.messages()}"]
    return kind.wrong(scene)


def go_on(scene: Scene, found: Run, want: str) -> tuple[Run, list[str]]:
    """The next attempt, on another number of ranks, and what is wrong with it."""
    workers = scene.rng.choice([n for n in (1, 2, 3, 4) if n != scene.workers])
    attempt = Attempt.start(scene.spec, workers, scene.folder / "second")
    try:
        sha256 = finish(attempt)
        wrong = [] if sha256 == want else [f"another SHA-256 on {workers} ranks: {sha256}"]
    except AssertionError as error:
        wrong = [str(error)]
    is_resumed = "the fit goes on after step" in attempt.text(0)
    return replace(found, workers_after=workers, is_resumed=is_resumed), wrong


def left_behind(scene: Scene) -> list[str]:
    """Files of rows that outlive their ranks."""
    return [f"{path.name} is left in the cache" for path in scene.cache.iterdir()] if scene.cache else []


def with_places(spec: Spec, folder: Path) -> Spec:
    checkpoint = spec["checkpoint"] | {"uri": str(folder / "checkpoint")}
    return spec | {"output": {"uri": str(folder / "output")}, "checkpoint": checkpoint}


@contextmanager
def small(kind: Kind, folder: Path) -> Iterator[None]:
    with on_tmpfs(folder / kind.small) if kind.small else nullcontext():
        yield


def run_all(kinds: Sequence[Kind], runs: int, seed: int) -> Iterator[Run]:
    """The kinds in turn."""
    for number in range(runs):
        kind = kinds[number % len(kinds)]
        try:
            yield run(kind, number, seed)
        except AssertionError as error:
            yield Run(number=number, kind=kind.name, job=" or ".join(kind.jobs), workers=0, wrong=(str(error),))


def summary(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row for each kind of fault."""
    rows = []
    for name in dict.fromkeys(run.kind for run in runs):
        own = [run for run in runs if run.kind == name]
        seconds = [run.seconds for run in own if run.seconds is not None]
        rows.append(
            {
                "fault": name,
                "runs": len(own),
                "ended": len(seconds),
                "mean s": round(sum(seconds) / len(seconds), 1) if seconds else None,
                "max s": round(max(seconds), 1) if seconds else None,
                "resumed": sum(run.is_resumed for run in own),
                "hangs": sum(run.hangs > 0 for run in own),
                "wrong": sum(bool(run.wrong) for run in own),
            }
        )
    return rows


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns as wide as their widest entry."""
    names = list(rows[0])
    cells = [names, *([("-" if row[name] is None else str(row[name])) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


@click.command()
@click.option("--runs", default=200, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True)
@click.option("--kind", multiple=True, help="Only faults whose name holds this.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write all runs there.")
def main(runs: int, seed: int, kind: tuple[str, ...], path: Path | None) -> None:
    kinds = [one for one in KINDS if not kind or any(part in one.name for part in kind)]
    found: list[Run] = []
    measured_on = machine.facts()
    for one in run_all(kinds, runs, seed):
        found.append(one)
        if one.wrong or one.hangs:
            click.echo(f"run {one.number}: {one}", err=True)
        if path:  # after each run: hundreds take an hour
            facts = {
                "machine": measured_on,
                "seed": seed,
                "table": summary(found),
                "runs": [asdict(run) for run in found],
            }
            path.write_text(json.dumps(facts, indent=1) + "\n")
    click.echo(as_table(summary(found)))
    raise SystemExit(any(one.wrong or one.hangs for one in found))


if __name__ == "__main__":
    main()
