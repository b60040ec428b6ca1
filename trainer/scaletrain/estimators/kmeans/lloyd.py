"""Lloyd's algorithm over all blocks, with the rules of scikit-learn's KMeans(algorithm="lloyd").

A pass leaves out the rows whose label cannot have changed, and adds to and takes from the sums only those whose label has: after
the first iterations both are few. An iteration is two collectives, the second of one number, and two more if a cluster is empty.

Legend: N rows of a block, O of them open, M changed their cluster, D features, K clusters, E empty ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.data.blocks import Block
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, State
from scaletrain.estimators.draws import gather_rows, smallest_first
from scaletrain.estimators.linalg import add_by_group
from scaletrain.estimators.moments import SLACK, row_weights
from scaletrain.exact import sum_blocks

from .nearest import Points, RowState, square_bound, squared_distances
from .rows import Moved, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """Where Lloyd's algorithm ended. Equal on all ranks."""

    C_KD: Tensor  # centres in the dtype of the features, shifted as the points
    inertia: float
    n_iter: int
    converged: bool  # no label changed, or the centres moved by at most the tolerance
    num_distinct: int  # clusters that have rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop: the squared shift of all centres, in squared units of the data; iterations."""

    tolerance: float
    max_iterations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Of the rows of each cluster, float64."""

    point_KD: Tensor  # weight * point
    weight_K: Tensor
    count_K: Tensor  # rows with a weight above 0

    @classmethod
    def zeros(cls, C_KD: Tensor) -> "_Sums":
        zero_K = torch.zeros(len(C_KD), dtype=torch.float64)
        return cls(point_KD=torch.zeros(C_KD.shape, dtype=torch.float64), weight_K=zero_K, count_K=zero_K)

    def plus(self, point_KD: Tensor, weight_K: Tensor, count_K: Tensor) -> "_Sums":
        """Clusters without rows become exactly 0, whatever rounding left."""
        count_K = self.count_K + count_K
        some_K = count_K > 0
        return _Sums(
            point_KD=(self.point_KD + point_KD) * some_K[:, None],
            weight_K=(self.weight_K + weight_K) * some_K,
            count_K=count_K,
        )

    def means(self) -> Tensor:
        """Means by cluster; a cluster without weight gets that of the heaviest one, as in scikit-learn."""
        has_weight_K = self.weight_K > 0
        mean_KD = self.point_KD / torch.where(has_weight_K, self.weight_K, 1.0)[:, None]
        return torch.where(has_weight_K[:, None], mean_KD, mean_KD[self.weight_K.argmax()])


def lloyd(
    data: Points,
    first: Callable[[], Tensor],
    limits: Limits,
    report: Callable[[int, float], None],
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> Clustering:
    """From first centres (K, D) in the dtype of the features, which are not asked for if an earlier attempt came further.

    `report(n_iter, inertia of the new centres)` after each iteration.
    """
    saved = checkpoint.resume()
    at = _Iterate.restored(saved) if saved else _Iterate.started(first())
    rows = Rows(data, len(at.C_KD))
    if saved:
        rows.assign_all(at.before_KD)
    while at.n_iter < limits.max_iterations and not at.is_done:
        changes, moved = _changes(data, at, rows)
        sums = at.sums.plus(*changes)
        filled = _relocate(data, at.C_KD, sums, rows.label) if bool((sums.count_K == 0).any()) else sums
        C_KD = filled.means().to(data.dtype)
        shift = float(((C_KD - at.C_KD).to(torch.float64) ** 2).sum())
        at = _Iterate(
            C_KD=C_KD,
            before_KD=at.C_KD,
            sums=sums,
            n_iter=at.n_iter + 1,
            is_strict=moved == 0,
            is_close=_agree(data, shift <= limits.tolerance),
        )
        checkpoint.offer(at.n_iter, at.model(), at.rest)
        report(at.n_iter, _inertia_of_means(data, sums))
    if not at.is_strict:
        rows.travel(at.before_KD, at.C_KD)
        rows.assign_all(at.C_KD)
    inertia, count_K = _assess(data, at.C_KD, rows.label)
    return Clustering(
        C_KD=at.C_KD,
        inertia=inertia,
        n_iter=at.n_iter,
        converged=at.is_done,
        num_distinct=int((count_K > 0).sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Iterate:
    """Where the algorithm is between two iterations. All but the labels, which are those of the nearest centres before."""

    C_KD: Tensor
    before_KD: Tensor
    sums: _Sums  # of the rows by their labels
    n_iter: int
    is_strict: bool  # no label has changed
    is_close: bool  # the centres have moved by at most the tolerance

    @property
    def is_done(self) -> bool:
        return self.is_strict or self.is_close

    @classmethod
    def started(cls, C_KD: Tensor) -> "_Iterate":
        return cls(C_KD=C_KD, before_KD=C_KD, sums=_Sums.zeros(C_KD), n_iter=0, is_strict=False, is_close=False)

    @classmethod
    def restored(cls, saved: State) -> "_Iterate":
        n_iter, is_strict, is_close = saved["loop"].tolist()
        return cls(
            C_KD=saved["centers"],
            before_KD=saved["before"],
            sums=_Sums(point_KD=saved["points"], weight_K=saved["weights"], count_K=saved["counts"]),
            n_iter=n_iter,
            is_strict=bool(is_strict),
            is_close=bool(is_close),
        )

    def model(self) -> State:
        return {"centers": self.C_KD}

    def rest(self) -> State:
        return {
            "before": self.before_KD,
            "points": self.sums.point_KD,
            "weights": self.sums.weight_K,
            "counts": self.sums.count_K,
            "loop": torch.tensor([self.n_iter, self.is_strict, self.is_close]),
        }


def _changes(data: Points, at: _Iterate, rows: Rows) -> tuple[list[Tensor], int]:
    """Assigns all rows anew. Returns the changes of the sums by cluster (points, weights, counts), and how many rows moved."""
    shape_KD = at.C_KD.shape
    rows.travel(at.before_KD, at.C_KD)
    assign = rows.step(at.C_KD)

    def partial(block: Block) -> list[Tensor]:
        moved = assign(block)
        changes = [
            torch.zeros(shape, dtype=torch.float64, device=block.device) for shape in (shape_KD, (len(at.C_KD), 2))
        ]
        if len(moved.row_M):
            row_M = None if len(moved.row_M) == len(block) else moved.row_M
            _move(changes, _terms(data.of(block, row_M), block.weight_N, moved.row_M), moved)
        return [*changes, torch.tensor(float(len(moved.row_M)), dtype=torch.float64).to(block.device)]

    n = torch.tensor(float(data.blocks.num_rows), dtype=torch.float64)
    point_D = 2 * SLACK * (data.weight * data.square_D).sqrt()  # bounds sums of weight * point, by Cauchy and Schwarz
    tail_2 = 2 * SLACK * torch.tensor([data.weight, float(n)], dtype=torch.float64)
    bounds = [point_D.expand(shape_KD), tail_2.expand(len(at.C_KD), 2), n]
    point_KD, tail_K2, moved = sum_blocks(data.comm, data.blocks, partial, bounds)
    return [point_KD, tail_K2[:, 0], tail_K2[:, 1]], int(moved)


def _terms(X_MD: Tensor, weight_N: Tensor | None, row_M: Tensor) -> list[Tensor]:
    """What rows add to the sums of their cluster, float64: weight * point, and the weight beside 1 if it is above 0."""
    X_MD = X_MD.to(torch.float64)
    if weight_N is None:
        return [X_MD, torch.ones(len(row_M), 2, dtype=torch.float64, device=X_MD.device)]
    weight_M = weight_N.index_select(0, row_M)
    return [X_MD * weight_M[:, None], torch.stack([weight_M, (weight_M > 0).to(torch.float64)], dim=1)]


def _move(sums: list[Tensor], terms: list[Tensor], moved: Moved) -> None:
    """Adds terms to the sums of the new clusters and takes them from those of the old ones, in place."""
    had_cluster = bool(moved.old_M[0] >= 0)  # all rows have one, or none
    for sum_K, term_M in zip(sums, terms, strict=True):
        add_by_group(sum_K, moved.new_M, term_M)
        if had_cluster:
            add_by_group(sum_K, moved.old_M, term_M, alpha=-1)


def _relocate(data: Points, C_KD: Tensor, sums: _Sums, label: RowState) -> _Sums:
    """Gives each empty cluster one of the rows farthest from their centres, as scikit-learn does.

    Nothing changes if no row is away from its centre: there are fewer distinct rows than clusters.
    """
    empty_E = torch.nonzero(sums.count_K == 0)[:, 0]
    square_E, row_E, label_E, weight_E = _farthest(data, C_KD, label, len(empty_E))
    if not len(square_E) or float(square_E[0]) == 0:
        return sums
    empty_E = empty_E[: len(row_E)]
    X_ED = gather_rows(data.comm, data.blocks, row_E) - data.shift_D
    point_KD, weight_K = sums.point_KD.clone(), sums.weight_K.clone()
    for empty, owner, x_D, weight in zip(empty_E, label_E, X_ED, weight_E, strict=True):
        point_KD[owner] -= x_D * weight
        weight_K[owner] -= weight
        point_KD[empty], weight_K[empty] = x_D * weight, weight
    return _Sums(point_KD=point_KD, weight_K=weight_K, count_K=sums.count_K)


def _farthest(data: Points, C_KD: Tensor, label: RowState, count: int) -> list[Tensor]:
    """Squared distance, row number, label and weight of the rows farthest from their centres; ties: the lowest row first."""

    there_KD = C_KD.to(data.comm.device)

    def candidates(block: Block) -> list[Tensor]:
        weight_N, label_N = row_weights(block), label.of(block)
        square_N = squared_distances(data.of(block), there_KD, label_N)
        some_N = weight_N > 0
        return _first([values_N[some_N].cpu() for values_N in (square_N, block.row_N, label_N, weight_N)], count)

    mine = [torch.empty(0, dtype=dtype) for dtype in (torch.float64, torch.int64, torch.int64, torch.float64)]
    # Kept to the end, those of each block would part the memory that the next block needs.
    for found in data.blocks.map(candidates):
        mine = _first([torch.cat(parts) for parts in zip(mine, found, strict=True)], count)
    return _first([torch.cat(data.comm.all_gather(values)) for values in mine], count)


def _first(columns: list[Tensor], count: int) -> list[Tensor]:
    order = smallest_first(-columns[0], columns[1])[:count]
    return [column[order] for column in columns]


def _assess(data: Points, C_KD: Tensor, label: RowState) -> tuple[float, Tensor]:
    """The exact inertia and the rows of each cluster."""

    there_KD = C_KD.to(data.comm.device)

    def partial(block: Block) -> list[Tensor]:
        label_N = label.of(block)
        inertia = row_weights(block) @ squared_distances(data.of(block), there_KD, label_N)
        return [inertia, torch.bincount(label_N, minlength=len(C_KD)).to(torch.float64)]

    count = torch.full((len(C_KD),), float(data.blocks.num_rows), dtype=torch.float64)
    inertia, count_K = sum_blocks(data.comm, data.blocks, partial, [square_bound(data, C_KD), count])
    return float(inertia), count_K


def _inertia_of_means(data: Points, sums: _Sums) -> float:
    """For progress, without a pass: sum w |x|^2 - sum_k |sum_k w x|^2 / W_k. Loses digits if clusters are tight."""
    weight_K = torch.where(sums.weight_K > 0, sums.weight_K, 1.0)
    return max(0.0, float(data.square_D.sum() - ((sums.point_KD**2).sum(1) / weight_K).sum()))


def _agree(data: Points, verdict: bool) -> bool:
    """Rank 0's verdict: a sum of floats may differ in the last bit between types of CPU."""
    return bool(data.comm.broadcast(torch.tensor([verdict], dtype=torch.int64))[0])
