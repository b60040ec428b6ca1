"""The trainer: one rank of one job by `python -m scaletrain`, and `scaletrain.load` for the models it writes.

Importing the package imports nothing else: `__main__` has to set the number of threads before numpy and torch are loaded.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from sklearn.base import BaseEstimator

__all__ = ["load"]


def load(uri: "str | os.PathLike[str]") -> "BaseEstimator":
    """The model in the folder `uri` as a fitted scikit-learn estimator: a Pipeline if the job prepared its features.

    Verifies the SHA-256 of the numbers and unpickles nothing. scaletrain.errors.InvalidData if the model is not whole.
    """
    from .restore import load as load_model  # noqa: PLC0415 - see above

    return load_model(uri)
