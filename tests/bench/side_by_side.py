"""Fits beside those of a peer: one harness for all cases.

Each fit runs in a process of its own with one thread; both sides take turns, so that a busy machine hurts both. Its seconds are
CPU seconds of the process: on a shared machine wall time measures the neighbours.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.bench.case import Case
from tests.bench.figure import Absent, Figure, Line, spread

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")} | {"MKL_CBWR": "AUTO"}
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
    pythons = {"ours": sys.executable, "peer": peer_python}
    turns = [
        {side: _in_own_process(python, side, case.name, scale) for side, python in pythons.items()}
        for _ in range(repeats)
    ]
    ours, peer = ([turn[side]["seconds"] for turn in turns] for side in ("ours", "peer"))
    first = turns[0]
    has_quality = None not in (first["ours"]["quality"], first["peer"]["quality"])
    return Figure(
        name=case.name,
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        spread=spread(ours),
        peer_spread=spread(peer),
        bound=1 / case.times,
        quality=(first["ours"]["quality"], first["peer"]["quality"]) if has_quality else None,
        tolerance=case.tolerance,
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


def _in_own_process(python: str, side: str, name: str, scale: float) -> Mapping[str, float]:
    command = [python, "-m", "tests.bench.side_by_side", "--side", side, "--case", name, "--scale", str(scale)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}, {side}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: Case, side: str, scale: float) -> dict[str, float | None]:
    """CPU seconds of one fit, after a small one, and its objective."""
    prepare = {"ours": case.ours, "peer": case.peer}[side]
    prepare(case.data(min(scale, case.warm_up)))[0]()
    fit, judge = prepare(case.data(scale))
    started = time.process_time()
    model = fit()
    seconds = time.process_time() - started
    return {"seconds": seconds, "quality": None if judge is None else judge(model)}


def main() -> None:
    from tests.bench.cases import CASES  # noqa: PLC0415 - they import this module's neighbours

    parser = argparse.ArgumentParser(description="One fit in this process; used by the benchmarks.")
    parser.add_argument("--side", choices=["ours", "peer"], required=True)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    args = parser.parse_args()
    print(json.dumps(measure(CASES[args.case], args.side, args.scale)))


if __name__ == "__main__":
    main()
