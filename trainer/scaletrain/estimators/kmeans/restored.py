"""scikit-learn's estimators where a restored model needs more than they do. Imports scikit-learn: import it late."""

from typing import Any

from sklearn import cluster


class KMeans(cluster.KMeans):
    """A KMeans that takes rows of either precision.

    scikit-learn's own compares rows with centres of the same dtype only: fitted on float32 it refuses float64, and the other way
    round ("Buffer dtype mismatch"). Whoever loads a model need not know which it was trained on.
    """

    def _check_test_data(self, X: Any) -> Any:
        return super()._check_test_data(X).astype(self.cluster_centers_.dtype, copy=False)
