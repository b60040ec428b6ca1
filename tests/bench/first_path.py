"""How fast the first path is: fits beside scikit-learn's, start-up beside the import of torch, Pods beside the limit of requests.

    python -m tests.bench.first_path [--rows 500000] [--repeats 5] [--only SECTION]

Each fit runs on one core, in a process of its own with one thread; ours and scikit-learn's take turns, so that a busy machine hurts both.
Its seconds are CPU seconds of the process: on a shared machine wall time measures the neighbours. Both fit float32 rows to at
least the accuracy that the tests demand. Exit status 1 if a bound is missed.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.bench.figure import Figure
from tests.bench.startup import startup

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
FEATURES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fit of ours and the one of scikit-learn that learns the same."""

    bound: float
    data: str  # a function of this module: rows -> (X, y)
    workload: dict[str, Any]
    peer: str  # source of a scikit-learn estimator; X and y are known


KMEANS = "KMeans({k}, init=X[:{k}], n_init=1, max_iter=20, tol=0, algorithm='lloyd')"
GIVEN = {"init": "centers", "maxIterations": 20, "tolerance": 0}
CASES = {
    "linear regression": Case(
        bound=1.0, data="regression", workload={"linear": {"task": "regression"}}, peer="LinearRegression()"
    ),
    "logistic regression": Case(
        bound=1.0,
        data="classes",
        workload={"linear": {"task": "classification"}},
        # The same stopping rule as ours: largest component of the mean gradient.
        peer="LogisticRegression(tol=1e-6)",
    ),
    "svm, squared hinge": Case(bound=1.0, data="classes", workload={"svm": {}}, peer="LinearSVC()"),
    "svm, hinge (peer: squared hinge)": Case(
        bound=3.0, data="classes", workload={"svm": {"loss": "hinge", "tolerance": 1e-4}}, peer="LinearSVC()"
    ),
    "kmeans, 10 clusters": Case(
        bound=1.3, data="blobs", workload={"kmeans": {"clusters": 10, **GIVEN}}, peer=KMEANS.format(k=10)
    ),
    "kmeans, 100 clusters": Case(
        bound=1.3, data="blobs", workload={"kmeans": {"clusters": 100, **GIVEN}}, peer=KMEANS.format(k=100)
    ),
    "kmeans||, 100 clusters, 1 iteration": Case(
        bound=1.3,
        data="blobs",
        workload={"kmeans": {"clusters": 100, "maxIterations": 1}},
        peer="KMeans(100, n_init=1, max_iter=1, tol=0, random_state=0)",
    ),
}


def regression(rows: int) -> tuple[Any, Any]:
    X, score, rng = _features(rows)
    return X, score + rng.standard_normal(rows)


def classes(rows: int) -> tuple[Any, Any]:
    X, score, rng = _features(rows)
    return X, (score + 0.5 * rng.standard_normal(rows) > 0).astype("int64")


def blobs(rows: int) -> tuple[Any, Any]:
    import numpy as np  # noqa: PLC0415 - after the number of threads is set

    rng = np.random.default_rng(0)
    centers = rng.standard_normal((20, FEATURES))
    return (centers[rng.integers(0, 20, rows)] + rng.standard_normal((rows, FEATURES))).astype("float32"), None


def _features(rows: int) -> tuple[Any, Any, Any]:
    import numpy as np  # noqa: PLC0415

    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, FEATURES)).astype("float32")
    return X, X @ rng.standard_normal(FEATURES) / FEATURES**0.5 + 0.3, rng


def fits(rows: int, repeats: int) -> list[Figure]:
    """The section of fits."""
    return [_compare(name, case, rows, repeats) for name, case in CASES.items()]


def _compare(name: str, case: Case, rows: int, repeats: int) -> Figure:
    ours, peer = [], []
    for _ in range(repeats):
        ours.append(_in_own_process("ours", name, rows))
        peer.append(_in_own_process("peer", name, rows))
    middle = statistics.median(ours)
    return Figure(
        name=name,
        ours=middle,
        peer=statistics.median(peer),
        spread=(max(ours) - min(ours)) / middle,
        bound=case.bound,
    )


def _in_own_process(side: str, name: str, rows: int) -> float:
    command = [sys.executable, "-m", "tests.bench.first_path", "--rows", str(rows), "--side", side, "--case", name]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def _measure(side: str, case: Case, rows: int) -> float:
    """CPU seconds of one fit, after a small one that loads the libraries."""
    import time  # noqa: PLC0415

    run: Callable[[Any, Any], Any] = {"ours": _our_fit, "peer": _peer_fit}[side](case)
    make = globals()[case.data]
    run(*make(2_000))()
    work = run(*make(rows))
    started = time.process_time()
    work()
    return time.process_time() - started


def _our_fit(case: Case) -> Callable[[Any, Any], Any]:
    import tempfile  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from scalejob.api.v1alpha1 import Workload  # noqa: PLC0415
    from scaletrain.comm import SoloComm  # noqa: PLC0415
    from scaletrain.data.blocks import rows_per_block  # noqa: PLC0415
    from scaletrain.estimators import estimator_for  # noqa: PLC0415
    from tests.unit.estimators.builders import make_blocks, quiet  # noqa: PLC0415

    torch.set_num_threads(1)

    def prepared(X: Any, y: Any) -> Callable[[], Any]:
        spec = {kind: dict(fields) for kind, fields in case.workload.items()}
        if "init" in spec.get("kmeans", {}):
            spec["kmeans"]["centersUri"] = str(Path(tempfile.mkdtemp(), "centers.npy"))
            np.save(spec["kmeans"]["centersUri"], X[: spec["kmeans"]["clusters"]])
        workload = Workload.model_validate(spec)
        blocks = make_blocks(X, y, rows=rows_per_block(FEATURES))
        params = getattr(workload, workload.name)
        return lambda: estimator_for(workload).fit(SoloComm(), blocks, params, seed=0, progress=quiet)

    return prepared


def _peer_fit(case: Case) -> Callable[[Any, Any], Any]:
    import warnings  # noqa: PLC0415

    from sklearn.cluster import KMeans  # noqa: PLC0415
    from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: PLC0415
    from sklearn.svm import LinearSVC  # noqa: PLC0415

    warnings.simplefilter("ignore")
    known = {model.__name__: model for model in (KMeans, LinearRegression, LogisticRegression, LinearSVC)}

    def prepared(X: Any, y: Any) -> Callable[[], Any]:
        model = eval(case.peer, known | {"X": X})  # noqa: S307 - a constant of this file
        return lambda: model.fit(X, y)

    return prepared


def pods(_rows: int, _repeats: int) -> list[Figure]:
    """The section of the operator: Pods of one job, beside the rate that its own limit of requests allows."""
    from tests.bench.pods_per_second import pods_per_second  # noqa: PLC0415 - needs a control plane

    qps = 200.0
    rate = pods_per_second(500, qps)
    return [
        Figure(
            name=f"500 Pods at --qps 200: {rate.pods_per_second:.0f} Pods/s",
            ours=rate.seconds,
            peer=rate.pods / qps,
            spread=0.0,
            bound=1.5,
        ),
        Figure(
            name="CPU of the operator per Pod",
            ours=rate.cpu_ms_per_pod,
            peer=1.5,
            spread=0.0,
            bound=1.0,
            unit="ms",
        ),
    ]


SECTIONS: dict[str, Callable[[int, int], list[Figure]]] = {
    "fits": fits,
    "startup": lambda _rows, repeats: startup(repeats),
    "pods": pods,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--side", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(_measure(args.side, CASES[args.case], args.rows))
        return 0
    print(f"{args.rows} x {FEATURES} float32 rows, 1 thread, median of {args.repeats}; load {os.getloadavg()[0]:.1f}")
    missed = False
    for name in [args.only] if args.only else SECTIONS:
        for figure in SECTIONS[name](args.rows, args.repeats):
            print(figure, flush=True)
            missed |= not figure.is_met
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
