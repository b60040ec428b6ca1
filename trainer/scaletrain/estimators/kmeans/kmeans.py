"""The workload `kmeans`: scikit-learn's KMeans(algorithm="lloyd") over all blocks.

Legend: K clusters, D features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import KMeans
from scalejob.api.v1alpha1.workload import KMeansInit
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks
from scaletrain.errors import InvalidSpec
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Part, Progress, State

from .assign import nearest
from .given import given_centers
from .lloyd import Clustering, Limits, lloyd
from .nearest import Points, points, squared_distances
from .seeding import parallel_centers, random_centers

if TYPE_CHECKING:
    from sklearn.cluster import KMeans as SklearnKMeans


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeansResult:
    """The centres, and what they are worth on the training rows."""

    centers_KD: np.ndarray  # in the dtype of the points: see `Points`
    inertia: float  # sum of weight * squared distance to the nearest centre
    n_iter: int
    converged: bool
    num_distinct: int  # clusters that have rows
    restart: int  # the number of the run that won

    def arrays(self) -> dict[str, np.ndarray]:
        return {"cluster_centers": self.centers_KD}

    def facts(self) -> Facts:
        names = ("inertia", "n_iter", "converged", "num_distinct", "restart")
        facts: Facts = {name: getattr(self, name) for name in names}
        if self.num_distinct < len(self.centers_KD):
            facts["warning"] = (
                f"only {self.num_distinct} of {len(self.centers_KD)} clusters have rows: the data may hold fewer distinct rows"
            )
        elif not self.converged:
            facts["warning"] = "the centres were still moving: raise maxIterations"
        return facts

    def labels(self, X_ND: Tensor) -> Tensor:
        """Numbers of the nearest centres, int64."""
        return nearest(*self._alike(X_ND))

    def squared_distances(self, X_ND: Tensor) -> Tensor:
        """Of each row to its nearest centre, float64."""
        X_ND, C_KD = self._alike(X_ND)
        return squared_distances(X_ND, C_KD, nearest(X_ND, C_KD))

    def _alike(self, X_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and centres in the wider of their dtypes, on the device of the rows."""
        C_KD = torch.from_numpy(self.centers_KD).to(X_ND.device)
        dtype = torch.promote_types(X_ND.dtype, C_KD.dtype)
        return X_ND.to(dtype), C_KD.to(dtype)

    def to_sklearn(self, params: KMeans, classes: np.ndarray | None = None) -> "SklearnKMeans":
        """A fitted KMeans without `labels_`: there is one for each training row, on the rank that had it."""
        from .restored import KMeans as RestoredKMeans  # noqa: PLC0415 - scikit-learn takes a second to import

        model = RestoredKMeans(
            len(self.centers_KD), n_init=params.restarts, max_iter=params.max_iterations, tol=params.tolerance
        )
        model.cluster_centers_ = self.centers_KD.astype(np.float64)
        model.inertia_, model.n_iter_ = self.inertia, self.n_iter
        model.n_features_in_, model._n_threads = self.centers_KD.shape[1], torch.get_num_threads()
        return model


def restore(params: KMeans, arrays: Mapping[str, np.ndarray], facts: Facts) -> KMeansResult:
    names = ("inertia", "n_iter", "converged", "num_distinct", "restart")
    return KMeansResult(centers_KD=arrays["cluster_centers"], **{name: facts[name] for name in names})


FirstCenters = Callable[
    [Points, int], Tensor
]  # of the run with that number: (K, D), about the points' shift, in their dtype


def fit(
    comm: Comm,
    blocks: Blocks,
    params: KMeans,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> KMeansResult:
    """InvalidSpec if there are more clusters than rows of positive weight, or if given centres do not fit the data."""
    return fit_from(partial(first_centers, params, seed), points(comm, blocks), params, progress, checkpoint)


def fit_from(
    find: FirstCenters, data: Points, params: KMeans, progress: Progress, checkpoint: Checkpoint = NO_CHECKPOINT
) -> KMeansResult:
    """From the first centres that `find` gives, whatever `params.init` says."""
    if params.clusters > data.num_weighted:
        raise InvalidSpec(
            f"workload.kmeans.clusters is {params.clusters}, but there are only {data.num_weighted} rows to cluster "
            "(rows of weight 0 do not count)"
        )
    runs = _Runs.restored(checkpoint.resume())
    while runs.count < params.restarts:
        first = partial(find, data, runs.count)
        part = Part(whole=checkpoint, name=f"run-{runs.count}", around=runs.state, steps=runs.steps)
        runs = runs.plus(lloyd(data, first, _limits(data, params), _reporter(params, runs.steps, progress), part))
    best = runs.best
    assert best is not None, "there is at least one run"
    return KMeansResult(
        centers_KD=(best.C_KD + data.shift_D).to(data.dtype).numpy(),
        inertia=best.inertia,
        n_iter=best.n_iter,
        converged=best.converged,
        num_distinct=best.num_distinct,
        restart=runs.restart,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """The runs that have ended, of which only the best one is kept."""

    count: int = 0
    steps: int = 0  # of all together
    restart: int = 0  # the number of the best one
    best: Clustering | None = None

    def plus(self, run: Clustering) -> "_Runs":
        is_better = self.best is None or run.inertia < self.best.inertia
        return _Runs(
            count=self.count + 1,
            steps=self.steps + run.n_iter,
            restart=self.count if is_better else self.restart,
            best=run if is_better else self.best,
        )

    def state(self) -> State:
        if self.best is None:
            return {}
        facts = [self.count, self.steps, self.restart, self.best.n_iter, self.best.converged, self.best.num_distinct]
        return {
            "runs": torch.tensor(facts),
            "inertia": torch.tensor(self.best.inertia, dtype=torch.float64),
            "best": self.best.C_KD,
        }

    @classmethod
    def restored(cls, saved: State | None) -> "_Runs":
        """From a state that is that of a later run as well."""
        if not saved or "runs" not in saved:
            return cls()
        count, steps, restart, n_iter, converged, num_distinct = saved["runs"].tolist()
        best = Clustering(
            C_KD=saved["best"],
            inertia=float(saved["inertia"]),
            n_iter=n_iter,
            converged=bool(converged),
            num_distinct=num_distinct,
        )
        return cls(count=count, steps=steps, restart=restart, best=best)


def about_shift(C_KD: Tensor, data: Points) -> Tensor:
    """Centres (float64, as in the data) as `FirstCenters` gives them."""
    return (C_KD - data.shift_D).to(data.dtype)


def first_centers(params: KMeans, seed: int, data: Points, restart: int) -> Tensor:
    """As `params.init` says."""
    if params.init is KMeansInit.CENTERS:
        return about_shift(given_centers(data.comm, params, data.blocks.num_features), data)
    find = random_centers if params.init is KMeansInit.RANDOM else parallel_centers
    return find(data, params.clusters, seed, restart)


def _limits(data: Points, params: KMeans) -> Limits:
    variance = float((data.x.square_D / data.x.weight).mean())
    return Limits(tolerance=params.tolerance * variance, max_iterations=params.max_iterations)


def _reporter(params: KMeans, steps: int, progress: Progress) -> Callable[[int, float], None]:
    """Tells of the iterations of one run after `steps` of earlier ones."""
    of = params.max_iterations if params.restarts == 1 else None

    def report(n_iter: int, inertia: float) -> None:
        progress(steps + n_iter, of=of, metric="inertia", value=inertia)

    return report
