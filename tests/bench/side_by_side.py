"""Fits beside those of a peer: one harness for all cases.

Each side is a process of its own with one thread; they take turns, fit by fit, so that a busy machine hurts both. Seconds are CPU
seconds of the process: on a shared machine wall time measures the neighbours.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from tests.bench.case import Case, Data
from tests.bench.figure import Absent, Figure, Line, spread
from tests.bench.turns import answer, asked, started

ENVIRONMENTS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "scalejob", "bench")
INSTALL_SECONDS = 600


def compare(case: Case, scale: float, repeats: int) -> Line:
    """`scale`: share of the full size of the data."""
    peer_python = sys.executable
    if case.packages:
        found = environment(case.packages)
        if found is None:
            return Absent(name=case.name, reason=f"{' '.join(case.packages)} cannot be installed")
        peer_python = str(found)
    command = ["-m", "tests.bench.side_by_side", "--case", case.name, "--scale", str(scale), "--repeats", str(repeats)]
    with (
        started([sys.executable, *command, "--side", "ours"]) as ours,
        started([peer_python, *command, "--side", "peer"]) as peer,
    ):
        ready = answer(ours), answer(peer)
        seconds = [(answer(ours)["seconds"], answer(peer)["seconds"]) for _ in range(repeats)]
        judged = answer(ours), answer(peer)
    return _figure(case, seconds, [one["quality"] for one in judged], ready[1]["note"])


def _figure(case: Case, seconds: Sequence[tuple[float, float]], quality: Sequence[float | None], note: str) -> Figure:
    ours, peer = zip(*seconds, strict=True)
    return Figure(
        name=case.name,
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        spread=spread(ours),
        peer_spread=spread(peer),
        bound=1 / case.times,
        quality=None if None in quality else tuple(quality),
        tolerance=case.tolerance,
        note=note,
    )


@cache
def environment(packages: Sequence[str]) -> Path | None:
    """The Python of a virtual environment of its own with these packages, kept for the next time; None if it cannot be made."""
    folder = ENVIRONMENTS / "-".join(packages)
    python = folder / "bin" / "python"
    if not (folder / ".complete").exists():
        made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, check=False)
        install = [python, "-m", "pip", "install", "--quiet", *packages]
        if (
            made.returncode
            or subprocess.run(install, capture_output=True, timeout=INSTALL_SECONDS, check=False).returncode
        ):
            return None
        (folder / ".complete").touch()
    return python


def side(case: Case, name: str, scale: float, repeats: int) -> None:
    """One side: CPU seconds of a fit each time it is asked, after a small fit, and then the objective."""
    prepare = {"ours": case.ours, "peer": case.peer}[name]
    prepare(case.data(min(scale, case.warm_up)))[0]()
    data, note = case.data(scale), ""
    if name == "peer" and case.tols:
        tol = loosest(case, data)
        prepare, note = partial(prepare, tol=tol), f"the peer's tol={tol:g}, the loosest of {case.tols} that is enough"
    fit, judge = prepare(data)
    with asked() as facts:  # both are ready before one begins
        facts["note"] = note
    for _ in range(repeats):
        with asked() as facts:
            began = time.process_time()
            model = fit()
            facts["seconds"] = time.process_time() - began
    with asked() as facts:
        facts["quality"] = None if judge is None else judge(model)


def loosest(case: Case, data: Data) -> float:
    """The largest `tol` with which the peer's objective is within the tolerance of that with the smallest."""

    def objective(tol: float) -> float:
        fit, judge = case.peer(data, tol=tol)
        assert judge is not None
        return judge(fit())

    enough = objective(case.tols[-1]) * (1 + case.tolerance)
    return next((tol for tol in case.tols[:-1] if objective(tol) <= enough), case.tols[-1])


def main() -> None:
    from tests.bench.cases import CASES  # noqa: PLC0415 - they import this module's neighbours

    parser = argparse.ArgumentParser(description="One fit in this process; used by the benchmarks.")
    parser.add_argument("--side", choices=["ours", "peer"], required=True)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    side(CASES[args.case], args.side, args.scale, args.repeats)


if __name__ == "__main__":
    main()
