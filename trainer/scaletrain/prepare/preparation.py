"""The preparation of the features: fitted on the training rows, applied to all, saved with the model.

Statistics are float64; what comes out is rounded once, to float32 where nothing that matters is lost (see `Preparation`).

Legend: N rows of a block, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import Missing, Prepare, Scale
from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.data.table import Columns
from scaletrain.errors import InvalidData, InvalidSpec
from scaletrain.estimators.base import Progress
from scaletrain.estimators.moments import moments

from .medians import medians
from .statistics import Products, fast_products, largest, means, products
from .steps import Imputer, Projection, Standardizer, Step

MAX_PCA_FEATURES = 5_000
MAX_SPREAD = 100.0  # of kept variances, of which sums of products in float32 still have six digits
LARGEST_SINGLE = 1e12  # sums of products of such values are far from the end of float32, which is 3e38


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Fitted steps in their order.

    Blocks are float32 if the columns were (float32, booleans, integers of at most 16 bits, synthetic data) or if the features
    are standardised: of about unit size, they lose less than 1e-7 by rounding. Else they are float64, so that float64
    data of any size and offset never lose precision silently, and float32 data of any size can be squared.
    """

    steps: tuple[Step, ...]
    dtype: torch.dtype

    def view(self, block: Block) -> Tensor:
        """The block's features after the steps, float64 (N, D)."""
        X_ND = block.X_ND.to(torch.float64)
        for step in self.steps:
            X_ND = step.apply(X_ND)
        return X_ND

    def features(self, block: Block) -> Tensor:
        """As `view`, but in their own dtype where no step changes them."""
        return self.view(block) if self.steps else block.X_ND

    def apply(self, blocks: Blocks) -> Blocks:
        """The prepared blocks. The given ones if there is nothing to do."""
        if not self.steps and all(head.dtype == self.dtype for head in blocks.heads):
            return blocks

        def prepared(block: Block) -> Block:
            return replace(block, X_ND=self.view(block).to(self.dtype).contiguous())

        return blocks.stored(prepared, self.num_features(blocks.num_features))

    def num_features(self, num_before: int) -> int:
        projections = [len(step.components_CD) for step in self.steps if isinstance(step, Projection)]
        return projections[0] if projections else num_before

    def _then(self, step: Step) -> "Preparation":
        return replace(self, steps=(*self.steps, step))


def num_steps(spec: Prepare) -> int:
    """How many steps there are to fit."""
    return sum((spec.missing in CENTRE, spec.scale is Scale.STANDARD, spec.pca is not None))


def fit_preparation(comm: Comm, train: Blocks, spec: Prepare, columns: Columns, progress: Progress) -> Preparation:
    """Learns each step on the training rows as the steps before it leave them. Equal on all ranks.

    InvalidData names the columns without a value.
    """
    fast = fast_products(comm, train) if columns.is_single and spec.pca and num_steps(spec) == 1 else None
    is_single = _fits_single(comm, train, spec, columns, fast)
    preparation = Preparation(steps=(), dtype=torch.float32 if is_single else torch.float64)
    if spec.missing in CENTRE:
        preparation = preparation._then(_fit_imputer(comm, train, spec.missing, columns.features))
        progress(len(preparation.steps))
    if spec.scale is Scale.STANDARD:
        preparation = preparation._then(_fit_standardizer(comm, train, preparation))
        progress(len(preparation.steps))
    if spec.pca:
        preparation = preparation._then(_fit_projection(comm, train, preparation, spec.pca.components, fast))
        progress(len(preparation.steps))
    return preparation


def _fits_single(comm: Comm, train: Blocks, spec: Prepare, columns: Columns, fast: Products | None) -> bool:
    """Whether the prepared features are float32. One pass, if neither the spec nor `fast` can tell."""
    if spec.scale is Scale.STANDARD:
        return True
    if not columns.is_single:
        return False
    return (fast is not None and fast.peak <= LARGEST_SINGLE) or largest(comm, train) <= LARGEST_SINGLE


CENTRE: dict[Missing, Callable[[Comm, Blocks, Callable[[Block], Tensor]], Tensor]] = {
    Missing.MEAN: lambda comm, blocks, view: means(comm, blocks, view)[0],
    Missing.MEDIAN: medians,
}


def _fit_imputer(comm: Comm, train: Blocks, missing: Missing, features: tuple[str, ...]) -> Imputer:
    centre_D = CENTRE[missing](comm, train, lambda block: block.X_ND.to(torch.float64)).cpu().numpy()
    empty = [name for name, centre in zip(features, centre_D, strict=True) if np.isnan(centre)]
    if empty:
        raise InvalidData(f"no {missing} of columns without a value in the training rows: {', '.join(empty)}")
    return Imputer(strategy=str(missing), statistics_D=centre_D)


def _fit_standardizer(comm: Comm, train: Blocks, before: Preparation) -> Standardizer:
    x = moments(comm, train, weighted=False, view=before.features)
    mean_D, var_D = x.mean_D.numpy(), (x.square_D / x.weight).numpy()
    scale_D = np.where(_is_constant(mean_D, var_D, train.num_rows), 1.0, np.sqrt(var_D))
    return Standardizer(mean_D=mean_D, var_D=var_D, scale_D=scale_D, num_rows=train.num_rows)


def _is_constant(mean_D: np.ndarray, var_D: np.ndarray, num_rows: int) -> np.ndarray:
    """Whether the variance is nothing but rounding: the rule of scikit-learn's StandardScaler."""
    epsilon = np.finfo(np.float64).eps
    return var_D <= num_rows * epsilon * var_D + (num_rows * mean_D * epsilon) ** 2


def _fit_projection(comm: Comm, train: Blocks, before: Preparation, count: int, fast: Products | None) -> Projection:
    """`fast`: if no step comes before."""
    _check_components(count, before.num_features(train.num_features), train.num_rows)
    if fast:
        projection = _projection(comm, fast, count, train.num_rows)
        if projection.variance_D[0] <= MAX_SPREAD * projection.variance_D[count - 1]:
            return projection
    return _projection(comm, products(comm, train, before.features), count, train.num_rows)


def _projection(comm: Comm, found: Products, count: int, num_rows: int) -> Projection:
    variance_D, components_DD = _principal(comm, found.product_DD / max(1, num_rows - 1))
    return Projection(
        mean_D=found.mean_D.numpy(),
        components_CD=components_DD[:count].cpu().numpy(),
        variance_D=variance_D.cpu().numpy(),
        num_rows=num_rows,
    )


def _check_components(count: int, num_features: int, num_rows: int) -> None:
    most = min(num_features, num_rows)
    if count > most:
        raise InvalidSpec(
            f"prepare.pca.components is {count}: at most {most} with {num_features} features and {num_rows} training rows"
        )
    if num_features > MAX_PCA_FEATURES:
        raise InvalidSpec(f"prepare.pca takes at most {MAX_PCA_FEATURES} features; there are {num_features}")


def _principal(comm: Comm, covariance_DD: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (D,), falling, and components (D, D). Rank 0 computes: another CPU could give other bits.

    Signs as svd_flip(u_based_decision=False) in scikit-learn: the largest entry of each component is positive.
    """
    if comm.rank == 0:
        variance_D, vector_DD = torch.linalg.eigh(covariance_DD)
        components_DD = vector_DD.T.flip(0)
        largest_D = components_DD.gather(1, components_DD.abs().argmax(1, keepdim=True))
        both = torch.cat([variance_D.flip(0).clamp(min=0)[None], components_DD * largest_D.sign()])
    else:
        both = covariance_DD.new_empty((len(covariance_DD) + 1, len(covariance_DD)))
    both = comm.broadcast(both)
    return both[0], both[1:]
