"""Linear regressions by mini-batches and by coordinate descent. Legend: D features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import Linear
from scaletrain.estimators.base import Facts

if TYPE_CHECKING:
    from sklearn.linear_model import ElasticNet, LinearRegression, Ridge

CERTIFICATES = {"sgd": "gradient", "cd": "gap"}
WARNINGS = {
    "sgd": "the tolerance was not reached: take more epochs, or raise l2",
    "cd": "the coefficients did not come to rest: scale the features, or raise l1 or l2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IteratedRegression:
    """Coefficients and what they are worth."""

    coef_D: np.ndarray  # float64
    intercept: float
    n_iter: int
    objective: float
    certificate: float  # see CERTIFICATES
    solver: str
    converged: bool
    weight: float  # sum of the weights of the rows

    def arrays(self) -> dict[str, np.ndarray]:
        return {"coef": self.coef_D, "intercept": np.array([self.intercept])}

    def facts(self) -> Facts:
        names = ("solver", "n_iter", "objective", "converged", "weight")
        facts: Facts = {name: getattr(self, name) for name in names}
        facts[CERTIFICATES[self.solver]] = self.certificate
        if not self.converged:
            facts["warning"] = WARNINGS[self.solver]
        return facts

    def decision(self, X_ND: Tensor) -> Tensor:
        """Predicted targets, float64, shape (N,)."""
        return X_ND.to(torch.float64) @ torch.from_numpy(self.coef_D).to(X_ND.device) + self.intercept

    def to_sklearn(self, params: Linear, classes: np.ndarray | None = None) -> "LinearRegression | Ridge | ElasticNet":
        """LinearRegression; Ridge if there is an l2 only; ElasticNet if there is an l1."""
        from sklearn.linear_model import ElasticNet, LinearRegression, Ridge  # noqa: PLC0415 - takes a second

        l1, l2 = (params.l1 or 0.0) / 2, params.l2 or 0.0
        if l1:
            model = ElasticNet(
                alpha=(l1 + l2) / self.weight, l1_ratio=l1 / (l1 + l2), fit_intercept=params.fit_intercept
            )
            model.n_iter_, model.dual_gap_ = self.n_iter, self.certificate * self.objective / (2 * self.weight)
        elif l2:
            model = Ridge(alpha=l2, fit_intercept=params.fit_intercept)
        else:
            model = LinearRegression(fit_intercept=params.fit_intercept)
        model.coef_, model.intercept_, model.n_features_in_ = self.coef_D.copy(), self.intercept, len(self.coef_D)
        return model


def restore(params: Linear, arrays: Mapping[str, np.ndarray], facts: Facts) -> IteratedRegression:
    return IteratedRegression(
        coef_D=arrays["coef"],
        intercept=float(arrays["intercept"][0]),
        certificate=facts[CERTIFICATES[facts["solver"]]],
        **{name: facts[name] for name in ("solver", "n_iter", "objective", "converged", "weight")},
    )
