"""Support vector machines: equal objectives beside LinearSVC, SVC(kernel="linear") and scikit-learn-intelex's."""

from functools import partial
from importlib import import_module
from typing import Any

from tests.bench.case import Case, Data, Fit, Judge
from tests.bench.ours import blocks_of, fit_of


def classes(scale: float, *, rows: int, dtype: str, features: int = 100, equal: bool = False) -> Data:
    """Two classes that overlap: no margin without rows inside.

    equal: all columns have one spread and none depends on another, which is what first-order solvers are best at. Otherwise spreads
    differ from 0.3 to 1.7, as where nobody has standardised the columns.
    """
    import numpy as np  # noqa: PLC0415 - after the number of threads is set, here and below

    rng, rows = np.random.default_rng(0), max(500, int(rows * scale))
    X = rng.standard_normal((rows, features))
    X = (X if equal else X * rng.uniform(0.3, 1.7, features)).astype(dtype)
    score = X @ rng.standard_normal(features) / features**0.5 + 0.3
    return X, (score + 0.5 * rng.standard_normal(rows) > 0).astype("int64")


def objective(data: Data, loss: str, w: Any, b: float) -> float:
    """With C = 1. LinearSVC shrinks the intercept as well, SVC does not."""
    import numpy as np  # noqa: PLC0415

    X, y = data
    short = np.maximum(0, 1 - np.where(y > 0, 1, -1) * (X.astype(np.float64) @ np.ravel(w) + b))
    square = float(np.ravel(w) @ np.ravel(w))
    return (
        0.5 * (square + b * b) + float(short @ short) if loss == "squaredHinge" else 0.5 * square + float(short.sum())
    )


def ours(data: Data, *, loss: str, tolerance: float) -> tuple[Fit, Judge]:
    fit = fit_of("svm", {"loss": loss, "tolerance": tolerance}, blocks_of(data))
    return fit, lambda model: objective(data, loss, model.coef_KD, float(model.intercept_K[0]))


def linear_svc(data: Data) -> tuple[Fit, Judge]:
    from sklearn.svm import LinearSVC  # noqa: PLC0415

    model = LinearSVC(dual="auto", tol=1e-4, max_iter=10_000)
    return lambda: model.fit(*data), lambda model: objective(
        data, "squaredHinge", model.coef_, float(model.intercept_[0])
    )


def svc(data: Data, *, package: str = "sklearn") -> tuple[Fit, Judge]:
    model = import_module(f"{package}.svm").SVC(kernel="linear", cache_size=1000)
    return lambda: model.fit(*data), lambda model: objective(data, "hinge", model.coef_, float(model.intercept_[0]))


SQUARED = partial(ours, loss="squaredHinge", tolerance=1e-4)
HINGE = partial(ours, loss="hinge", tolerance=1e-4)


def _squared(name: str, times: float, **data: Any) -> Case:
    return Case(
        name=name,
        times=times,
        data=partial(classes, rows=100_000, **data),
        ours=SQUARED,
        peer=linear_svc,
        tolerance=1e-6,
    )


def _hinge(name: str, times: float, package: str, *packages: str, equal: bool = False) -> Case:
    return Case(
        name=name,
        times=times,
        data=partial(classes, rows=10_000, dtype="float64", equal=equal),
        ours=HINGE,
        peer=partial(svc, package=package),
        tolerance=1e-4,
        packages=packages,
        warm_up=0.1,
    )


CASES = (
    _squared("svm squared hinge 100,000 x 100 float32", 8, dtype="float32"),
    _squared("svm squared hinge 100,000 x 100 float32, equal spreads", 8, dtype="float32", equal=True),
    _squared("svm squared hinge 100,000 x 100 float64", 3, dtype="float64"),
    _squared("svm squared hinge 100,000 x 100 float64, equal spreads", 3, dtype="float64", equal=True),
    _hinge("svm hinge 10,000 x 100", 100, "sklearn"),
    _hinge("svm hinge 10,000 x 100, equal spreads", 100, "sklearn", equal=True),
    _hinge("svm hinge 10,000 x 100 (intelex)", 40, "sklearnex", "scikit-learn-intelex"),
    _hinge("svm hinge 10,000 x 100, equal spreads (intelex)", 40, "sklearnex", "scikit-learn-intelex", equal=True),
)
