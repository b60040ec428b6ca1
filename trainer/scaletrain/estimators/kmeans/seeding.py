"""First centres for K-Means.

k-means|| (Bahmani et al. 2012): from one row drawn at random, five rounds in which each row is taken with probability
2 K w d^2 / sum w d^2, where d is its distance to what was taken so far; the candidates, weighted with the rows they are nearest
to, are then clustered on rank 0.

Legend: N rows of a block, D features, K clusters, A candidates, F new ones.
"""

import torch
from torch import Tensor

from scaletrain.data.blocks import Block
from scaletrain.estimators.draws import Key, Purpose, draw_rows, gather_rows, uniform
from scaletrain.estimators.linalg import totals_by_group
from scaletrain.estimators.moments import row_weights
from scaletrain.exact import sum_blocks

from .assign import nearest
from .nearest import Points, RowState, square_bound, squared_distances
from .recluster import recluster

OVERSAMPLING = 2
ROUNDS = 5
MAX_ROUNDS = 50  # while there are fewer candidates than clusters


def random_centers(data: Points, K: int, seed: int, restart: int) -> Tensor:
    """K rows drawn without replacement in proportion to their weights: (K, D), shifted, in the dtype of the points."""
    row_K = draw_rows(data.comm, data.blocks, K, Key(seed, Purpose.FIRST_CENTERS, restart))
    return _rows(data, row_K)


def parallel_centers(data: Points, K: int, seed: int, restart: int) -> Tensor:
    """k-means||: (K, D), shifted, in the dtype of the points. Repeats rows if fewer than K are distinct."""
    candidates = _Candidates(data)
    candidates.add(random_centers(data, 1, seed, restart))
    for round_ in range(MAX_ROUNDS):
        if candidates.square == 0 or (round_ >= ROUNDS and len(candidates) >= K):
            break
        key = Key(seed, Purpose.CANDIDATES, restart, round_)
        row_F = candidates.draw(OVERSAMPLING * K, key)
        if len(row_F):
            candidates.add(_rows(data, row_F))
    weight_A = candidates.weights()
    if data.comm.rank == 0:
        C_KD = recluster(candidates.C_AD, weight_A, K, Key(seed, Purpose.RECLUSTER, restart))
    else:
        C_KD = torch.empty(K, data.blocks.num_features, dtype=data.dtype)
    return data.comm.broadcast(C_KD)


class _Candidates:
    """The rows taken so far, and for each row of the data its distance to them."""

    def __init__(self, data: Points) -> None:
        self._data = data
        self._square = RowState(data.blocks, float("inf"), torch.float64)
        self._owner = RowState(data.blocks, 0, torch.int64)
        self.C_AD = torch.empty(0, data.blocks.num_features, dtype=data.dtype)
        self.square = float("inf")  # sum of weight * squared distance

    def __len__(self) -> int:
        return len(self.C_AD)

    def add(self, C_FD: Tensor) -> None:
        """Takes new candidates, in one pass."""
        first = len(self.C_AD)
        self.C_AD = torch.cat([self.C_AD, C_FD])
        there_FD = C_FD.to(self._data.comm.device)

        def partial(block: Block) -> list[Tensor]:
            X_ND, square_N = self._data.of(block), self._square.of(block)
            label_N = nearest(X_ND, there_FD)
            new_N = squared_distances(X_ND, there_FD, label_N)
            closer_N = new_N < square_N
            self._owner.of(block)[closer_N] = first + label_N[closer_N]
            torch.minimum(square_N, new_N, out=square_N)
            return [row_weights(block) @ square_N]

        bound = square_bound(self._data, self.C_AD)
        (square,) = sum_blocks(self._data.comm, self._data.blocks, partial, [bound])
        self.square = float(square)

    def draw(self, expected: float, key: Key) -> Tensor:
        """Numbers of rows, ascending, each drawn by itself in proportion to weight * squared distance."""

        def drawn(block: Block) -> Tensor:
            share_N = row_weights(block) * self._square.of(block) / self.square
            row_N = block.row_N.cpu()
            return row_N[uniform(key, row_N) < expected * share_N.cpu()]

        rows = [torch.empty(0, dtype=torch.int64), *self._data.blocks.featureless.map(drawn)]
        return torch.cat(self._data.comm.all_gather(torch.cat(rows))).sort().values

    def weights(self) -> Tensor:
        """Sums of the weights of the rows nearest to each candidate, float64 (A,)."""
        count = len(self)

        def partial(block: Block) -> list[Tensor]:
            return [totals_by_group(self._owner.of(block), row_weights(block), count)]

        bound = torch.full((count,), self._data.blocks.num_rows * self._data.max_weight, dtype=torch.float64)
        return sum_blocks(self._data.comm, self._data.blocks.featureless, partial, [bound])[0]


def _rows(data: Points, row_K: Tensor) -> Tensor:
    return (gather_rows(data.comm, data.blocks, row_K) - data.shift_D).to(data.dtype)
