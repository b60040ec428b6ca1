"""The trainer: one rank of one job by `python -m scaletrain`, `scaletrain.load` for the models it writes, and its fits as estimators
for scikit-learn: `scaletrain.KMeans`, `LinearRegression`, `LinearSVC`, `LogisticRegression`.

Importing the package imports nothing else: `__main__` has to set the number of threads before numpy and torch are loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from sklearn.base import BaseEstimator

    from .program import ranks
    from .sklearn.classifiers import LinearSVC, LogisticRegression
    from .sklearn.kmeans import KMeans
    from .sklearn.regression import LinearRegression

__all__ = ["KMeans", "LinearRegression", "LinearSVC", "LogisticRegression", "load", "ranks"]

_MODULES = {
    "KMeans": "scaletrain.sklearn.kmeans",
    "LinearRegression": "scaletrain.sklearn.regression",
    "LinearSVC": "scaletrain.sklearn.classifiers",
    "LogisticRegression": "scaletrain.sklearn.classifiers",
    "ranks": "scaletrain.program",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(uri: "str | os.PathLike[str]") -> "BaseEstimator":
    """The model in the folder `uri` as a fitted scikit-learn estimator: a Pipeline if the job prepared its features.

    Verifies the SHA-256 of the numbers and unpickles nothing. scaletrain.errors.InvalidData if the model is not whole.
    """
    from .restore import load as load_model  # noqa: PLC0415 - see above

    return load_model(uri)
