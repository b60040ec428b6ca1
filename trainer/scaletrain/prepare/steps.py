"""The steps of a preparation as fitted values: numbers, what they do to rows, and the scikit-learn transformer that does the same.

Legend: N rows, D features before the step, C components.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from sklearn.base import TransformerMixin


class Step(Protocol):
    """A fitted step. Arrays are float64 on the CPU."""

    kind: str

    def apply(self, X_ND: Tensor) -> Tensor:
        """float64 -> float64, row by row."""

    def arrays(self) -> dict[str, np.ndarray]: ...

    def facts(self) -> dict[str, Any]: ...

    def to_sklearn(self) -> "TransformerMixin": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Imputer:
    """Puts the column's mean or median in place of NaN."""

    strategy: str  # mean or median
    statistics_D: np.ndarray
    kind: str = "impute"

    def apply(self, X_ND: Tensor) -> Tensor:
        return torch.where(torch.isnan(X_ND), torch.from_numpy(self.statistics_D).to(X_ND.device), X_ND)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"statistics": self.statistics_D}

    def facts(self) -> dict[str, Any]:
        return {"strategy": self.strategy}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> "Imputer":
        return cls(strategy=facts["strategy"], statistics_D=arrays["statistics"])

    def to_sklearn(self) -> "TransformerMixin":
        from sklearn.impute import SimpleImputer  # noqa: PLC0415

        # Fitted on its own statistics, for which each strategy gives just these: scikit-learn then sets what it wants set.
        imputer = SimpleImputer(strategy=self.strategy)
        return imputer.fit(self.statistics_D[np.newaxis])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardizer:
    """Subtracts the mean and divides by the standard deviation; constant features are divided by 1."""

    mean_D: np.ndarray
    var_D: np.ndarray  # of the population
    scale_D: np.ndarray
    num_rows: int
    kind: str = "standard"

    def apply(self, X_ND: Tensor) -> Tensor:
        mean_D, scale_D = (torch.from_numpy(v).to(X_ND.device) for v in (self.mean_D, self.scale_D))
        return (X_ND - mean_D) / scale_D

    def arrays(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean_D, "var": self.var_D, "scale": self.scale_D}

    def facts(self) -> dict[str, Any]:
        return {"rows": self.num_rows}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> "Standardizer":
        return cls(mean_D=arrays["mean"], var_D=arrays["var"], scale_D=arrays["scale"], num_rows=facts["rows"])

    def to_sklearn(self) -> "TransformerMixin":
        from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

        scaler = StandardScaler()
        scaler.mean_, scaler.var_, scaler.scale_ = self.mean_D, self.var_D, self.scale_D
        scaler.n_features_in_ = len(self.mean_D)
        scaler.n_samples_seen_ = self.num_rows
        return scaler


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Principal components, by falling variance."""

    mean_D: np.ndarray
    components_CD: np.ndarray
    variance_D: np.ndarray  # along all components, also those that are left out
    num_rows: int
    kind: str = "pca"

    def apply(self, X_ND: Tensor) -> Tensor:
        mean_D, components_CD = (torch.from_numpy(v).to(X_ND.device) for v in (self.mean_D, self.components_CD))
        return (X_ND - mean_D) @ components_CD.T

    def arrays(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean_D, "components": self.components_CD, "variance": self.variance_D}

    def facts(self) -> dict[str, Any]:
        return {"rows": self.num_rows}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> "Projection":
        return cls(
            mean_D=arrays["mean"],
            components_CD=arrays["components"],
            variance_D=arrays["variance"],
            num_rows=facts["rows"],
        )

    def to_sklearn(self) -> "TransformerMixin":
        from sklearn.decomposition import PCA  # noqa: PLC0415

        count, num_features = self.components_CD.shape
        kept, left_out = self.variance_D[:count], self.variance_D[count : min(num_features, self.num_rows)]
        pca = PCA(n_components=count)
        pca.mean_, pca.components_, pca.explained_variance_ = self.mean_D, self.components_CD, kept
        pca.explained_variance_ratio_ = kept / max(self.variance_D.sum(), np.finfo(float).tiny)
        pca.singular_values_ = np.sqrt(kept * (self.num_rows - 1))
        pca.noise_variance_ = float(left_out.mean()) if len(left_out) else 0.0
        pca.n_components_, pca.n_features_in_, pca.n_samples_ = count, num_features, self.num_rows
        return pca


STEPS: dict[str, type[Imputer] | type[Standardizer] | type[Projection]] = {
    "impute": Imputer,
    "standard": Standardizer,
    "pca": Projection,
}
