"""Least squares and logistic regression beside scikit-learn's."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench.case import Case, Data, Fit, Judge
from tests.bench.ours import blocks_of, fit_of
from tests.bench.svm_cases import classes

ROWS, FEATURES = 200_000, 100
L2 = 1.0
# Of the largest component of the mean gradient, as the `tol` of lbfgs. Enough for all data here.
LOGISTIC_TOLERANCE = 3e-5


def regression(scale: float) -> Data:
    import numpy as np  # noqa: PLC0415 - after the number of threads is set, here and below

    rng, rows = np.random.default_rng(0), max(1_000, int(ROWS * scale))
    X = rng.standard_normal((rows, FEATURES)).astype("float32")
    return X, X @ rng.standard_normal(FEATURES) + 0.3 + rng.standard_normal(rows)


def squares(data: Data, l2: float, w: Any, b: float) -> float:
    import numpy as np  # noqa: PLC0415

    X, y = data
    left = y - X.astype(np.float64) @ np.ravel(w) - b
    return float(left @ left) + l2 * float(np.ravel(w) @ np.ravel(w))


def log_loss(data: Data, w: Any, b: float) -> float:
    """The sum of the losses, with C = 1 as in LogisticRegression."""
    import numpy as np  # noqa: PLC0415

    X, y = data
    z = np.where(y > 0, 1, -1) * (X.astype(np.float64) @ np.ravel(w) + b)
    return float(np.logaddexp(0, -z).sum()) + 0.5 * float(np.ravel(w) @ np.ravel(w))


def our_squares(data: Data, *, l2: float) -> tuple[Fit, Judge]:
    fit = fit_of("linear", {"task": "regression", "l2": l2}, blocks_of(data))
    return fit, lambda model: squares(data, l2, model.coef_D, float(model.intercept))


def our_logistic(data: Data) -> tuple[Fit, Judge]:
    fit = fit_of("linear", {"task": "classification", "tolerance": LOGISTIC_TOLERANCE}, blocks_of(data))
    return fit, lambda model: log_loss(data, model.coef_KD, float(model.intercept_K[0]))


def _fitted(data: Data, model: Any, judge: Any) -> tuple[Fit, Judge]:
    return lambda: model.fit(*data), lambda model: judge(model.coef_, float(model.intercept_.item()))


def linear_regression(data: Data) -> tuple[Fit, Judge]:
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    return _fitted(data, LinearRegression(), partial(squares, data, 0.0))


def ridge(data: Data) -> tuple[Fit, Judge]:
    from sklearn.linear_model import Ridge  # noqa: PLC0415

    return _fitted(data, Ridge(L2), partial(squares, data, L2))


def lbfgs(data: Data, tol: float = 1e-4) -> tuple[Fit, Judge]:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    return _fitted(data, LogisticRegression(tol=tol, max_iter=1_000), partial(log_loss, data))


def factors(scale: float, *, rows: int, dtype: str) -> Data:
    """Columns that follow 20 factors, with noise; labels as in `classes`."""
    import numpy as np  # noqa: PLC0415

    rng, rows = np.random.default_rng(0), max(500, int(rows * scale))
    mix, noise = rng.standard_normal((20, FEATURES)) / 20**0.5, 0.5 * rng.standard_normal((rows, FEATURES))
    X = (rng.standard_normal((rows, 20)) @ mix + noise).astype(dtype)
    score = X @ rng.standard_normal(FEATURES) / FEATURES**0.5 + 0.3
    return X, (score + 0.5 * rng.standard_normal(rows) > 0).astype("int64")


def _logistic(kind: str, data: Callable[..., Data]) -> Case:
    return Case(
        name=f"logistic {ROWS:,} x {FEATURES}{kind} (lbfgs)",
        times=3,
        data=partial(data, rows=ROWS, dtype="float32"),
        ours=our_logistic,
        peer=lbfgs,
        tolerance=1e-6,
        tols=(1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7),
    )


CASES = (
    Case(
        name=f"linear regression {ROWS:,} x {FEATURES}",
        times=8,
        data=regression,
        ours=partial(our_squares, l2=0.0),
        peer=linear_regression,
        tolerance=1e-6,
    ),
    Case(
        name=f"ridge {ROWS:,} x {FEATURES}",
        times=1,
        data=regression,
        ours=partial(our_squares, l2=L2),
        peer=ridge,
        tolerance=1e-6,
    ),
    _logistic("", classes),
    _logistic(", equal spreads", partial(classes, equal=True)),
    _logistic(", correlated", factors),
)
