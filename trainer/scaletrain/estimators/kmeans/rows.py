"""The labels of this rank's rows in Lloyd's algorithm, and which of them can have changed.

Each row has two deadlines on the way that centres go. Its label was decided with a slack (see `assign`), and stays while the own
centre and any other one have together gone less than that. The way of cluster k is the sum over iterations of

    |shift of k| + max over j != k of |shift of j|

and a row of cluster k is open once that sum has reached the row's deadline: slack + the sum when it was decided. One of the
deadlines is for the j of k's group of centres, the other one for all other j; at first all centres are one group. Nothing in here
has an influence on the labels: they are those of a pass over all rows.

Legend: N rows of a block, O of them open, M changed their cluster, D features, K clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.data.blocks import Block
from scaletrain.estimators.linalg import is_on_cpu

from .assign import Centers, argmax_of_few, assign, has_slack, norms, places
from .groups import GroupedCenters, Groups, assign_in_groups, sorted_by_group
from .nearest import Points, RowState, name_of

GROUPED_AFTER = 2  # passes: first centres are single rows, which tell little of what will be near
MANY_OPEN = 0.7  # share of a block: beyond, all rows are assigned, because that costs less than to pick the open ones
MANY_INSIDE = 0.2  # share of a block that need not be compared with other groups: below, to sort by groups does not pay
ROUND_UP = 1 + 1e-9
# Deadlines and ways in float32: far more than a few roundings, and than what is too small for it; and what is not too large.
PART, NOTHING, LATEST = 1e-6, 1e-30, 3e38


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The rows of a block that changed their cluster: ascending places in the block, and labels (-1: none)."""

    row_M: Tensor
    old_M: Tensor
    new_M: Tensor

    def split(self, count: int) -> "list[Moved]":
        """In slices of up to so many rows."""
        if len(self.row_M) <= count:
            return [self]
        slices = zip(*(values_M.split(count) for values_M in (self.row_M, self.old_M, self.new_M)), strict=True)
        return [Moved(row_M=row_R, old_M=old_R, new_M=new_R) for row_R, old_R, new_R in slices]


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Of the rows of a block, changed in place."""

    label_N: Tensor  # int64
    near_N: Tensor  # float32: deadlines
    far_N: Tensor
    norm_N: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How far centres have gone, float32. Rounded so that a row is open too early, but never too late."""

    low_K: Tensor
    high_K: Tensor

    @classmethod
    def of(cls, way_K: Tensor) -> "_Way":
        low_K = (way_K * (1 - 2 * PART) - NOTHING).clamp_(max=LATEST)
        return cls(low_K=low_K.to(torch.float32), high_K=(way_K * (1 + PART) + NOTHING).to(torch.float32))

    def is_over(self, deadline_N: Tensor, label_N: Tensor) -> Tensor:
        """Whether the rows of these clusters are open; also where the deadline is NaN."""
        return (deadline_N > self.high_K.index_select(0, label_N)).logical_not_()

    def left(self, deadline_N: Tensor, label_N: Tensor) -> Tensor:
        return deadline_N - self.high_K.index_select(0, label_N)

    def deadline(self, slack_O: Tensor, label_O: Tensor) -> Tensor:
        """For a slack above 0 it is not later than in exact arithmetic, for any other it is over."""
        slack_O = slack_O.to(torch.float32)
        return torch.add(self.low_K.index_select(0, label_O), slack_O, alpha=1 - 2 * PART).clamp_(max=LATEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """What all blocks need to know."""

    centers: Centers
    near: _Way
    far: _Way
    grouped: GroupedCenters | None
    is_first_grouped: bool


class Rows:
    """20 bytes for each row of float32 features, 24 for float64."""

    def __init__(self, data: Points, num_clusters: int) -> None:
        self._data = data
        self.label = RowState(data.blocks, -1, torch.int64)
        self._near, self._far = (RowState(data.blocks, -torch.inf, torch.float32) for _ in range(2))
        self._norm = RowState(data.blocks, 0, data.dtype)
        self._near_way_K = torch.zeros(num_clusters, dtype=torch.float64)
        self._far_way_K = self._near_way_K
        self._groups: Groups | None = None
        self._num_passes = 0

    def travel(self, old_KD: Tensor, new_KD: Tensor) -> None:
        """The centres have moved since the last pass."""
        shift_K = (new_KD.to(torch.float64) - old_KD.to(torch.float64)).square().sum(1).sqrt() * ROUND_UP
        if self._groups is None:
            self._near_way_K = self._near_way_K + shift_K + _largest_other(shift_K)
            return
        self._near_way_K = self._near_way_K + shift_K + _largest_inside(shift_K, self._groups)
        self._far_way_K = self._far_way_K + shift_K + _largest_outside(shift_K, self._groups)

    def assign_all(self, C_KD: Tensor) -> None:
        """Decides the labels of all rows, in one pass without a collective."""
        step = self.step(C_KD)
        for _ in self._data.blocks.map(step):
            pass

    def step(self, C_KD: Tensor) -> Callable[[Block], Moved]:
        """What decides the labels of a block's open rows; for each block once, on any thread."""
        centers = Centers.of(C_KD.to(self._data.comm.device))
        if not has_slack(centers):
            return lambda block: self._assign_plainly(block, centers)
        is_first_grouped = self._num_passes == GROUPED_AFTER and is_on_cpu(centers.C_KD) and self._group(C_KD)
        self._num_passes += 1
        now = _Pass(
            centers=centers,
            near=_Way.of(self._near_way_K.to(self._data.comm.device)),
            far=_Way.of(self._far_way_K.to(self._data.comm.device)),
            grouped=None if self._groups is None else GroupedCenters.of(centers, self._groups),
            is_first_grouped=is_first_grouped,
        )
        return lambda block: self._assign(block, now)

    def _group(self, C_KD: Tensor) -> bool:
        """Whether there are two deadlines from now on; both are what the one has been."""
        self._groups, self._far_way_K = Groups.where_apart(C_KD), self._near_way_K
        return self._groups is not None

    def _assign_plainly(self, block: Block, centers: Centers) -> Moved:
        """Of few centres: all rows, without bounds."""
        label_N, found_N = self.label.of(block), argmax_of_few(self._data.of(block), centers)
        row_M = places(found_N != label_N)
        moved = Moved(row_M=row_M, old_M=label_N.index_select(0, row_M), new_M=found_N.index_select(0, row_M))
        label_N.copy_(found_N)
        return moved

    def _assign(self, block: Block, now: _Pass) -> Moved:
        """Of many centres: the open rows."""
        name = name_of(block)
        label_N, near_N, far_N, norm_N = (rows.named(name) for rows in (self.label, self._near, self._far, self._norm))
        state = _State(label_N=label_N, near_N=near_N, far_N=far_N, norm_N=norm_N)
        if label_N.numel() and int(label_N[0]) < 0:
            return self._assign_new(block, state, now)
        if now.is_first_grouped:
            far_N.copy_(near_N)
        is_open_N = now.near.is_over(near_N, label_N)
        if now.grouped is None:
            return self._compare_with_all(block, state, now, places(is_open_N))
        is_far_N = now.far.is_over(far_N, label_N)
        row_O = places(is_open_N.logical_or_(is_far_N))
        num_inside = row_O.numel() - int(is_far_N.sum())
        if now.is_first_grouped or num_inside > MANY_INSIDE * label_N.numel():
            return self._compare_by_groups(block, state, now, row_O)
        return self._compare_with_all(block, state, now, row_O)

    def _assign_new(self, block: Block, state: _State, now: _Pass) -> Moved:
        """All rows, none of which has a label."""
        X_ND = self._data.of(block)
        state.norm_N.copy_(norms(X_ND))
        found = assign(X_ND, state.norm_N, now.centers)
        return _update(state, None, found.label_N, (found.slack_N, found.slack_N), now)

    def _compare_with_all(self, block: Block, state: _State, now: _Pass, row_O: Tensor) -> Moved:
        some_O = row_O if row_O.numel() <= MANY_OPEN * state.label_N.numel() else None
        old_O, norm_O = _take(state.label_N, some_O), _take(state.norm_N, some_O)
        found = assign(self._data.of(block, some_O), norm_O, now.centers, old_O)
        return _update(state, some_O, found.label_N, (found.slack_N, found.slack_N), now)

    def _compare_by_groups(self, block: Block, state: _State, now: _Pass, row_O: Tensor) -> Moved:
        assert now.grouped is not None
        row_O = row_O.index_select(0, sorted_by_group(state.label_N.index_select(0, row_O), now.grouped.groups))
        old_O, norm_O, far_O = (_take(values_N, row_O) for values_N in (state.label_N, state.norm_N, state.far_N))
        left_O = now.far.left(far_O, old_O)
        if now.is_first_grouped:
            left_O = torch.zeros_like(left_O)
        found = assign_in_groups(self._data.of(block, row_O), norm_O, old_O, left_O, now.grouped)
        return _update(state, row_O, found.label_N, (found.near_N, found.far_N), now)


def _update(state: _State, row_O: Tensor | None, new_O: Tensor, slacks: tuple[Tensor, Tensor], now: _Pass) -> Moved:
    """Writes the labels and deadlines of rows in any order; None: of all."""
    near_O, far_O = slacks
    old_O = _take(state.label_N, row_O)
    changed_M = places(new_O != old_O)
    row_M = changed_M if row_O is None else row_O.index_select(0, changed_M)
    if now.grouped is not None and row_O is not None:
        row_M, order_M = row_M.sort()
        changed_M = changed_M.index_select(0, order_M)
    moved = Moved(row_M=row_M, old_M=old_O.index_select(0, changed_M), new_M=new_O.index_select(0, changed_M))
    state.label_N.index_copy_(0, row_M, moved.new_M)
    _put(state.near_N, row_O, now.near.deadline(near_O, new_O))
    if now.grouped is not None:
        _put(state.far_N, row_O, now.far.deadline(far_O, new_O))
    return moved


def _take(value_N: Tensor, row_O: Tensor | None) -> Tensor:
    return value_N if row_O is None else value_N.index_select(0, row_O)


def _put(value_N: Tensor, row_O: Tensor | None, value_O: Tensor) -> None:
    if row_O is None:
        value_N.copy_(value_O)
    else:
        value_N.index_copy_(0, row_O, value_O)


def _largest_other(shift_K: Tensor) -> Tensor:
    """For each cluster the largest shift of another one."""
    if len(shift_K) == 1:
        return torch.zeros_like(shift_K)
    (largest, second), (owner, _) = shift_K.topk(2)
    other_K = largest.expand(len(shift_K)).clone()
    other_K[owner] = second
    return other_K


def _largest_inside(shift_K: Tensor, groups: Groups) -> Tensor:
    """For each cluster the largest shift of another one of its group."""
    other_K = torch.empty_like(shift_K)
    for member_P in groups.members:
        other_K[member_P] = _largest_other(shift_K[member_P])
    return other_K


def _largest_outside(shift_K: Tensor, groups: Groups) -> Tensor:
    """For each cluster the largest shift of one that is not of its group."""
    largest_G = torch.stack([shift_K[member_P].max() for member_P in groups.members])
    return _largest_other(largest_G).index_select(0, groups.group_K)
