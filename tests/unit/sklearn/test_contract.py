"""scikit-learn's own checks of estimators, all of them."""

from collections.abc import Callable

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import scaletrain

EQUIVALENCE = "check_sample_weight_equivalence_on_dense_data"
LOGISTIC = scaletrain.LogisticRegression(n_jobs=1)
ESTIMATORS = [
    scaletrain.LinearRegression(n_jobs=1),
    scaletrain.LinearRegression(alpha=0.5, fit_intercept=False, n_jobs=1),
    LOGISTIC,
    scaletrain.LogisticRegression(n_jobs=1, tol=1e-10, class_weight="balanced"),
    scaletrain.LinearSVC(n_jobs=1),
    scaletrain.LinearSVC(n_jobs=2, loss="hinge", tol=1e-4),
    scaletrain.KMeans(n_clusters=3, n_jobs=1),
    scaletrain.KMeans(n_clusters=3, init="random", n_init=2, n_jobs=2),
]


def expected_failures(estimator: BaseEstimator) -> dict[str, str]:
    """Checks that fail, and why that is right."""
    if isinstance(estimator, scaletrain.KMeans):
        return {
            EQUIVALENCE: "first centres are drawn by the numbers of rows, to be the same on any number of ranks: two equal rows "
            "are two draws, one row of weight 2 is one (scikit-learn's KMeans fails too)"
        }
    if estimator is LOGISTIC:
        return {
            EQUIVALENCE: "rows of weight 2 and pairs of equal rows end at two points within tol; passes with tol=1e-10"
        }
    return {}


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::sklearn.exceptions.SkipTestWarning"
)
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learns_check(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    """Whatever scikit-learn demands of an estimator."""
    check(estimator)
