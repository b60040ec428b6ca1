"""`python -m tests.bench.quality [--json FILE]`: what is learned from real data, beside what scikit-learn learns.

Both get the same standardised rows, of which a fifth is held back, and the same first centres. scikit-learn runs to a tight
tolerance. `objective` is what the fit minimises, over the training rows; `metric` is taken on the held-back rows.
Objectives may be better than scikit-learn's, not worse by more than the tolerance. Exit status 1 if one is missed.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import scaletrain
from scalejob.api.v1alpha1 import Svm, Workload
from scaletrain.comm import SoloComm
from scaletrain.data.in_memory import Rows, blocks_of
from scaletrain.estimators import estimator_for
from scaletrain.sklearn.threads import one_blas_thread
from scaletrain.sklearn.training import quiet
from tests.bench.machine import facts
from tests.bench.real_data import NotAvailable, load

CLUSTERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A fit of ours, the one of scikit-learn that learns the same, and how far they may be apart."""

    ours: Callable[[np.ndarray], Any]  # from the training rows, whose first ones are the first centres
    peer: Callable[[np.ndarray], Any]
    objective: Callable[[Any, np.ndarray, np.ndarray], float] | None
    metric: str
    objective_tolerance: float = 1e-6  # relative
    metric_tolerance: float = 0.005  # absolute


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    task: str
    data: str
    target: str | None = None
    rows: int | None = None  # drawn from all; None: all
    classes: tuple[int, ...] | None = None  # only rows of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table. Differences: ours - scikit-learn's, of the objective relative to it."""

    name: str
    rows: int = 0
    features: int = 0
    objective: float | None = None
    objective_difference: float | None = None
    objective_tolerance: float | None = None
    metric: str = ""
    ours: float | None = None
    peer: float | None = None
    metric_tolerance: float | None = None
    adjusted_rand: float | None = None
    missing: str | None = None  # why there is no comparison

    @property
    def is_met(self) -> bool:
        if self.missing:
            return True
        is_near = abs(self.ours - self.peer) <= self.metric_tolerance
        return is_near and (self.objective is None or self.objective_difference <= self.objective_tolerance)

    def __str__(self) -> str:
        if self.missing:
            return f"{self.name:44s} not available: {self.missing}"
        difference = (
            "" if self.objective is None else f"{self.objective_difference:+.1e} (<= {self.objective_tolerance:.0e})"
        )
        metric = f"{self.metric:11s} {self.ours:10.6f} {self.peer:10.6f} {self.ours - self.peer:+.1e} (<= {self.metric_tolerance:.0e})"
        rand = "" if self.adjusted_rand is None else f"  Rand {self.adjusted_rand:.4f}"
        verdict = "ok" if self.is_met else "MISSED"
        return f"{self.name:44s} {self.rows:7d} x {self.features:<4d} {difference:19s}  {metric}{rand}  {verdict}"


def squares(model: BaseEstimator, X: np.ndarray, y: np.ndarray) -> float:
    return float(((y - model.predict(X)) ** 2).sum())


def softmax_loss(model: BaseEstimator, X: np.ndarray, y: np.ndarray) -> float:
    Z = X @ model.coef_.T + model.intercept_
    Z = np.column_stack([np.zeros(len(Z)), Z]) if Z.shape[1] == 1 else Z
    own = np.searchsorted(model.classes_, y)
    return float((logsumexp(Z, axis=1) - Z[np.arange(len(y)), own]).sum() + (model.coef_**2).sum() / (2 * model.C))


def squared_hinge(model: BaseEstimator, X: np.ndarray, y: np.ndarray) -> float:
    loss = (np.maximum(0, 1 - _margins(model, X, y)) ** 2).sum()
    return float(loss + ((model.coef_**2).sum() + (model.intercept_**2).sum()) / 2)


def hinge(model: BaseEstimator, X: np.ndarray, y: np.ndarray) -> float:
    return float(np.maximum(0, 1 - _margins(model, X, y)).sum() + (model.coef_**2).sum() / 2)


def _margins(model: BaseEstimator, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, K), one column for two classes."""
    positive = model.classes_ if len(model.classes_) > 2 else model.classes_[1:]
    return np.where(y[:, None] == positive, 1, -1) * (X @ model.coef_.T + model.intercept_)


def inertia(model: BaseEstimator, X: np.ndarray, y: np.ndarray | None = None) -> float:
    """In float64 for both: scikit-learn's own `score` sums in the dtype of the rows."""
    away = X - model.cluster_centers_[model.predict(X)].astype(np.float64)
    return float((away**2).sum())


class Rbf:
    """The workload `svm` with `kernel: rbf`, for which scikit-learn has no estimator of its own kind."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Rbf":
        workload = Workload(svm=Svm(kernel="rbf", loss="hinge", tolerance=1e-4))
        self.classes_, number = np.unique(y, return_inverse=True)
        blocks = blocks_of(SoloComm(), Rows(X_ND=X, y_N=number), classes=self.classes_)
        with one_blas_thread():
            result = estimator_for(workload).fit(SoloComm(), blocks, workload.svm, seed=0, progress=quiet)
        self._model = result.to_sklearn(workload.svm, self.classes_)
        return self

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        return float(self._model.score(X, y))


TASKS = {
    "regression": Task(
        ours=lambda X: scaletrain.LinearRegression(),
        peer=lambda X: LinearRegression(),
        objective=squares,
        metric="r2",
        metric_tolerance=1e-6,
    ),
    "logistic": Task(
        ours=lambda X: scaletrain.LogisticRegression(),
        peer=lambda X: LogisticRegression(solver="newton-cholesky", tol=1e-9, max_iter=1000),
        objective=softmax_loss,
        metric="accuracy",
    ),
    "multinomial": Task(
        ours=lambda X: scaletrain.LogisticRegression(max_iter=5000),
        peer=lambda X: LogisticRegression(tol=1e-7, max_iter=5000),
        objective=softmax_loss,
        metric="accuracy",
    ),
    "multinomial, C=0.01": Task(  # of many features; with C=1 neither converges within minutes
        ours=lambda X: scaletrain.LogisticRegression(C=0.01, max_iter=5000),
        peer=lambda X: LogisticRegression(C=0.01, tol=1e-7, max_iter=5000),
        objective=softmax_loss,
        metric="accuracy",
    ),
    "svm, squared hinge": Task(
        ours=lambda X: scaletrain.LinearSVC(),
        peer=lambda X: LinearSVC(dual=False, tol=1e-8, max_iter=20_000),
        objective=squared_hinge,
        metric="accuracy",
    ),
    "svm, hinge": Task(
        ours=lambda X: scaletrain.LinearSVC(loss="hinge", tol=1e-5),
        peer=lambda X: SVC(kernel="linear", tol=1e-5),
        objective=hinge,
        metric="accuracy",
        objective_tolerance=1e-4,
    ),
    "svm, rbf": Task(ours=lambda X: Rbf(), peer=lambda X: SVC(), objective=None, metric="accuracy"),
    "kmeans": Task(
        ours=lambda X: scaletrain.KMeans(CLUSTERS, init=X[:CLUSTERS]),
        peer=lambda X: KMeans(CLUSTERS, init=X[:CLUSTERS]),
        objective=inertia,
        metric="spread left",  # of all squares about 0, the part about the nearest centres
        metric_tolerance=1e-6,
    ),
}
CASES = (
    Case(task="regression", data="flights", target="arr_delay"),
    Case(task="logistic", data="flights", target="late"),
    Case(task="svm, squared hinge", data="flights", target="late"),
    Case(task="svm, hinge", data="flights", target="late", rows=10_000),
    Case(task="kmeans", data="flights"),
    Case(task="regression", data="diamonds", target="log price"),
    Case(task="logistic", data="diamonds", target="ideal"),
    Case(task="svm, squared hinge", data="diamonds", target="ideal"),
    Case(task="kmeans", data="diamonds"),
    Case(task="logistic", data="breast cancer", target="benign"),
    Case(task="svm, squared hinge", data="breast cancer", target="benign"),
    Case(task="svm, hinge", data="breast cancer", target="benign"),
    Case(task="multinomial", data="digits", target="digit"),
    Case(task="svm, squared hinge", data="digits", target="digit"),
    Case(task="svm, hinge", data="digits", target="odd"),
    Case(task="svm, rbf", data="digits", target="digit"),
    Case(task="kmeans", data="digits"),
    Case(task="multinomial, C=0.01", data="fashion-mnist", target="class", rows=10_000),
    Case(task="logistic", data="fashion-mnist", target="class", classes=(0, 6)),
    Case(task="svm, squared hinge", data="fashion-mnist", target="class", classes=(0, 6)),
    Case(task="kmeans", data="fashion-mnist", rows=20_000),
)


def compare(case: Case) -> Line:
    """Fits both, and measures both in the same way."""
    name, task = f"{case.task}: {case.data}{f' ({case.target})' if case.target else ''}", TASKS[case.task]
    try:
        X, X_held, y, y_held = _rows(case)
    except NotAvailable as error:
        return Line(name=name, missing=str(error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [make(X).fit(X, y) for make in (task.ours, task.peer)]
    ours, peer = (_held_back(model, X_held, y_held) for model in models)
    objectives = [task.objective(model, X, y) for model in models] if task.objective else []
    return Line(
        name=name,
        rows=len(X),
        features=X.shape[1],
        objective=objectives[0] if objectives else None,
        objective_difference=objectives[0] / objectives[1] - 1 if objectives else None,
        objective_tolerance=task.objective_tolerance if objectives else None,
        metric=task.metric,
        ours=ours,
        peer=peer,
        metric_tolerance=task.metric_tolerance,
        adjusted_rand=adjusted_rand_score(*(model.labels_ for model in models)) if y is None else None,
    )


def _rows(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Standardised rows and their targets: X, X held back, y, y held back."""
    data = load(case.data)
    X, y = data.X.astype(np.float64), data.targets.get(case.target)  # float32 would end scikit-learn's descent early
    if case.classes:
        some = np.isin(y, case.classes)
        X, y = X[some], y[some]
    order = np.random.default_rng(0).permutation(len(X))[: case.rows]
    parts = train_test_split(X[order], *([] if y is None else [y[order]]), test_size=0.2, random_state=0)
    scaler = StandardScaler().fit(parts[0])
    return *(scaler.transform(part) for part in parts[:2]), *(parts[2:] or (None, None))


def _held_back(model: Any, X: np.ndarray, y: np.ndarray | None) -> float:
    """The task's metric."""
    return float(model.score(X, y)) if y is not None else inertia(model, X) / float((X.astype(np.float64) ** 2).sum())


def compare_all(only: str = "") -> Iterator[Line]:
    return (compare(case) for case in CASES if only in f"{case.task}: {case.data}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="a file for the lines of the table")
    parser.add_argument("--only", default="", help="cases whose name, such as 'kmeans: digits', contains this")
    arguments = parser.parse_args()
    lines = []
    for line in compare_all(arguments.only):
        print(line, flush=True)
        lines.append(line)
    if arguments.json:
        found = {"machine": facts(), "lines": [asdict(line) | {"is_met": line.is_met} for line in lines]}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(not all(line.is_met for line in lines))


if __name__ == "__main__":
    sys.exit(main())
