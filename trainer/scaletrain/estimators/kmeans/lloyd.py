"""Lloyd's algorithm over all blocks, with the rules of scikit-learn's KMeans(algorithm="lloyd").

A pass leaves out the rows whose label cannot have changed, and adds to and takes from the sums only those whose label has: after
the first iterations both are few. An iteration is two collectives, the second of one number, and two more if a cluster is empty.

Legend: N rows of a block, O of them open, M changed their cluster, D features, K clusters, E empty ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scaletrain.data.blocks import Block
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, State
from scaletrain.estimators.draws import gather_rows, smallest_first
from scaletrain.estimators.linalg import add_by_group, cached_rows
from scaletrain.estimators.moments import SLACK, row_weights
from scaletrain.exact import sum_blocks

from .inertia import inertia, inertia_of_means
from .nearest import Points, RowState, squared_distances
from .rows import Moved, Rows
from .sums import Sums, point_bound, total_bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """Where Lloyd's algorithm ended. Equal on all ranks."""

    C_KD: Tensor  # centres in the dtype of the points, shifted as they are
    inertia: float
    n_iter: int
    converged: bool  # no label changed, or the centres moved by at most the tolerance
    num_distinct: int  # clusters that have rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop: the squared shift of all centres, in squared units of the data; iterations."""

    tolerance: float
    max_iterations: int


def lloyd(
    data: Points,
    first: Callable[[], Tensor],
    limits: Limits,
    report: Callable[[int, float], None],
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> Clustering:
    """From first centres (K, D) in the dtype of the points, which are not asked for if an earlier attempt came further.

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
        report(at.n_iter, inertia_of_means(data, sums))
    sums = at.sums if at.is_strict else at.sums.plus(*_changes(data, at, rows)[0])
    return Clustering(
        C_KD=at.C_KD,
        inertia=inertia(data, at.C_KD, sums, rows.label, at.n_iter + 1),
        n_iter=at.n_iter,
        converged=at.is_done,
        num_distinct=_num_distinct(data, sums, rows.label),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Iterate:
    """Where the algorithm is between two iterations. All but the labels, which are those of the nearest centres before."""

    C_KD: Tensor
    before_KD: Tensor
    sums: Sums  # of the rows by their labels
    n_iter: int
    is_strict: bool  # no label has changed
    is_close: bool  # the centres have moved by at most the tolerance

    @property
    def is_done(self) -> bool:
        return self.is_strict or self.is_close

    @classmethod
    def started(cls, C_KD: Tensor) -> "_Iterate":
        return cls(C_KD=C_KD, before_KD=C_KD, sums=Sums.zeros(C_KD), n_iter=0, is_strict=False, is_close=False)

    @classmethod
    def restored(cls, saved: State) -> "_Iterate":
        n_iter, is_strict, is_close = saved["loop"].tolist()
        return cls(
            C_KD=saved["centers"],
            before_KD=saved["before"],
            sums=Sums(
                point_KD=saved["points"], weight_K=saved["weights"], count_K=saved["counts"], square=saved["square"]
            ),
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
            "square": self.sums.square,
            "loop": torch.tensor([self.n_iter, self.is_strict, self.is_close]),
        }


def _changes(data: Points, at: _Iterate, rows: Rows) -> tuple[list[Tensor], int]:
    """Assigns all rows anew. Returns the changes of the sums, and how many rows moved."""
    K, D = at.C_KD.shape
    rows.travel(at.before_KD, at.C_KD)
    assign = rows.step(at.C_KD)

    def partial(block: Block) -> list[Tensor] | None:
        moved = assign(block)
        if not moved.row_M.numel():
            return None
        change = torch.zeros(K * (D + 2) + 2, dtype=torch.float64, device=block.device)
        parts, slice_rows = _parts(change, K), cached_rows(D)
        X_MD = data.of(block, None if moved.row_M.numel() == len(block) else moved.row_M)
        for X_RD, some in zip(X_MD.split(slice_rows), moved.split(slice_rows), strict=True):
            _move(parts, X_RD, block, some)
        return [change]

    rows_bound = torch.tensor([data.blocks.num_rows], dtype=torch.float64)
    tail_2 = 2 * SLACK * torch.tensor([data.weight, data.blocks.num_rows], dtype=torch.float64)
    bounds = [point_bound(data).repeat(K), tail_2.repeat(K), total_bound(data)[None], rows_bound]
    (change,) = sum_blocks(data.comm, data.blocks, partial, [torch.cat(bounds)])
    point_KD, tail_K2, square, moved = _parts(change, K)
    return [point_KD, tail_K2[:, 0], tail_K2[:, 1], square[0]], int(moved)


def _parts(change: Tensor, K: int) -> tuple[Tensor, ...]:
    """Of one tensor, which takes less time to add up than four: (K, D), (K, 2), (1,) and (1,)."""
    point, tail, square, count = change.split([len(change) - 2 * K - 2, 2 * K, 1, 1])
    return point.view(K, -1), tail.view(K, 2), square, count


def _move(change: tuple[Tensor, ...], X_MD: Tensor, block: Block, moved: Moved) -> None:
    """Adds the rows to what changes for their new clusters and takes them from that for the old ones, in place: sums of
    weight * point; of the weight beside 1 if it is above 0; of weight * point^2, which no move changes; of rows."""
    point_KD, tail_K2, square, count = change
    had_cluster = bool(moved.old_M[0] >= 0)  # all rows have one, or none
    X_MD = X_MD.to(torch.float64)
    if block.weight_N is None:
        count_K = torch.bincount(moved.new_M, minlength=len(tail_K2))
        tail_K2 += (count_K - torch.bincount(moved.old_M, minlength=len(tail_K2)) if had_cluster else count_K)[:, None]
        terms = [(point_KD, X_MD)]
    else:
        weight_M = block.weight_N.index_select(0, moved.row_M)
        tail_M2 = torch.stack([weight_M, (weight_M > 0).to(torch.float64)], dim=1)
        terms = [(point_KD, X_MD * weight_M[:, None]), (tail_K2, tail_M2)]
    for sum_K, term_M in terms:
        add_by_group(sum_K, moved.new_M, term_M)
        if had_cluster:
            add_by_group(sum_K, moved.old_M, term_M, alpha=-1)
    if not had_cluster:
        square += torch.dot(X_MD.flatten(), terms[0][1].flatten())
    count += moved.row_M.numel()


def _relocate(data: Points, C_KD: Tensor, sums: Sums, label: RowState) -> Sums:
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
    return replace(sums, point_KD=point_KD, weight_K=weight_K)


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


def _num_distinct(data: Points, sums: Sums, label: RowState) -> int:
    """Clusters that have rows, be it of weight 0, as scikit-learn counts them."""
    has_rows_K = sums.count_K > 0
    if data.num_weighted < data.blocks.num_rows and not bool(has_rows_K.all()):
        K = len(has_rows_K)
        found_K = torch.zeros(K, dtype=torch.int64)
        for count_K in data.blocks.featureless.map(lambda block: torch.bincount(label.of(block), minlength=K).cpu()):
            found_K += count_K
        has_rows_K = data.comm.all_reduce(found_K) > 0
    return int(has_rows_K.sum())


def _agree(data: Points, verdict: bool) -> bool:
    """Rank 0's verdict: a sum of floats may differ in the last bit between types of CPU."""
    return bool(data.comm.broadcast(torch.tensor([verdict], dtype=torch.int64))[0])
