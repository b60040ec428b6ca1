"""What linear classifiers have in common once they are fitted. Legend: N rows, D features, K rows of coefficients."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC


def decision_values(X_ND: Tensor, coef_KD: np.ndarray, intercept_K: np.ndarray) -> Tensor:
    """float64, on the device of X: (N,) for two classes, which have one row of coefficients, else (N, K)."""
    coef, intercept = (torch.from_numpy(values).to(X_ND.device) for values in (coef_KD, intercept_K))
    values_NK = X_ND.to(torch.float64) @ coef.T + intercept
    return values_NK[:, 0] if len(coef_KD) == 1 else values_NK


def set_fitted(
    model: "LogisticRegression | LinearSVC", coef_KD: np.ndarray, intercept_K: np.ndarray, classes: np.ndarray | None
) -> None:
    """The attributes that scikit-learn's own fit would leave, but `n_iter_`. Without names, classes are their numbers."""
    model.coef_, model.intercept_ = coef_KD.copy(), intercept_K.copy()
    model.classes_ = np.arange(max(2, len(coef_KD))) if classes is None else np.asarray(classes)
    model.n_features_in_ = coef_KD.shape[1]
