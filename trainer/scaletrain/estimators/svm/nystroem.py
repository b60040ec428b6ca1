"""The features of Nystroem: in them, a linear machine is a kernel machine.

    k(x, z) = exp(-gamma |x - z|^2)      phi(x) = K(x, L) V S^(-1/2)      K(L, L) = V S V'

phi(x) phi(z)' = K(x, L) K(L, L)^-1 K(L, z) is k(x, z) if x or z is one of the landmarks L, and close to it otherwise (Williams
and Seeger 2001). The landmarks are centres of k-means on a sample of the rows, which represent the rest better than rows drawn
at random do where there are few (Zhang, Tsang and Kwok 2008; digits: 0.8 points of accuracy with 100 landmarks, none with 500);
all rows if there are no more.

Rank 0 clusters the sample (2 S M D flops an iteration) and decomposes K(L, L) (about 10 M^3). Then each rank maps its rows, for
2 (D + R) M flops a row. The features are kept, 4 R bytes a row: a pass of a solver takes R^2 flops a row at most, so that to map
anew in each pass would make it several times slower.

Legend: N rows of a block, D features, S sampled rows, M landmarks, R kept directions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm, SoloComm
from scaletrain.data.blocks import Block, Blocks, rows_per_block
from scaletrain.estimators.draws import Key, Purpose, draw_rows, gather_rows
from scaletrain.estimators.kmeans.lloyd import Limits, lloyd
from scaletrain.estimators.kmeans.nearest import points
from scaletrain.estimators.moments import moments

SAMPLED = 20  # rows for each landmark, and at most this many values:
SAMPLED_VALUES = 1 << 25
ITERATIONS = 10  # of k-means; more do not make the machine better
# Directions of K(L, L) below this share of the largest are rounding.
RANK_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Nystroem:
    """phi. Equal on all ranks."""

    landmarks_MD: np.ndarray  # float64
    normalization_RM: np.ndarray  # float64: S^(-1/2) V'
    gamma: float

    def arrays(self) -> dict[str, np.ndarray]:
        return {"components": self.landmarks_MD, "normalization": self.normalization_RM}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], gamma: float) -> "Nystroem":
        return cls(landmarks_MD=arrays["components"], normalization_RM=arrays["normalization"], gamma=gamma)

    def of(self, X_ND: Tensor) -> Tensor:
        """The features of rows, float64 (N, R), on their device."""
        landmarks_MD, normalization_RM = (
            torch.from_numpy(values).to(X_ND.device) for values in (self.landmarks_MD, self.normalization_RM)
        )
        return kernel(X_ND.to(torch.float64), landmarks_MD, self.gamma) @ normalization_RM.T

    def of_blocks(self, comm: Comm, blocks: Blocks) -> Blocks:
        """The blocks with features of float32 in place of their own, cut to the size that suits so many features."""
        num_features = len(self.normalization_RM)
        length = rows_per_block(num_features)

        def mapped(block: Block) -> list[Block]:
            return [replace(piece, X_ND=self.of(piece.X_ND).to(torch.float32)) for piece in _cut(block, length)]

        store = blocks.room.new_store()
        for pieces in blocks.map(mapped):
            for piece in pieces:
                store.append(piece)
        (num_blocks,) = comm.all_reduce(torch.tensor([len(store)], device=comm.device)).tolist()
        return replace(blocks, blocks=store, num_features=num_features, num_blocks=num_blocks)


def fit_nystroem(comm: Comm, blocks: Blocks, gamma: float | None, count: int, seed: int) -> Nystroem:
    """`count` landmarks, or all rows of positive weight if there are fewer. gamma None: as scikit-learn's gamma="scale"."""
    gamma = scale_gamma(comm, blocks) if gamma is None else gamma
    landmarks_MD = _landmarks(comm, blocks, count, seed)
    root_MM = (
        _root(landmarks_MD, gamma) if comm.rank == 0 else torch.empty(2 * (len(landmarks_MD),), dtype=torch.float64)
    )
    root_MM = comm.broadcast(root_MM)
    kept_M = (root_MM != 0).any(1)
    return Nystroem(landmarks_MD=landmarks_MD.numpy(), normalization_RM=root_MM[kept_M].numpy(), gamma=gamma)


def kernel(X_ND: Tensor, Z_MD: Tensor, gamma: float) -> Tensor:
    """exp(-gamma |x - z|^2), float64 (N, M). About the mean of z, because the expanded square loses the digits of an offset."""
    shift_D = Z_MD.mean(0)
    X_ND, Z_MD = X_ND - shift_D, Z_MD - shift_D
    square_NM = (X_ND @ Z_MD.T).mul_(-2).add_((X_ND * X_ND).sum(1)[:, None]).add_((Z_MD * Z_MD).sum(1))
    return square_NM.clamp_(min=0).mul_(-gamma).exp_()


def scale_gamma(comm: Comm, blocks: Blocks) -> float:
    """1 / (features * variance of all values); 1 if all are equal."""
    x = moments(comm, blocks, weighted=False)
    variance = float((x.square_D / x.weight + (x.mean_D - x.mean_D.mean()) ** 2).mean())
    return 1 / (blocks.num_features * variance) if variance else 1.0


def _landmarks(comm: Comm, blocks: Blocks, count: int, seed: int) -> Tensor:
    sampled = max(count, min(SAMPLED * count, SAMPLED_VALUES // blocks.num_features))
    X_SD = gather_rows(comm, blocks, draw_rows(comm, blocks, sampled, Key(seed, Purpose.LANDMARKS)))
    if len(X_SD) <= count:
        return X_SD
    return comm.broadcast(_centers(X_SD, count) if comm.rank == 0 else torch.empty_like(X_SD[:count]))


def _centers(X_SD: Tensor, count: int) -> Tensor:
    """By k-means from the first rows, which are drawn at random as all are."""
    block = Block(row_N=torch.arange(len(X_SD)), X_ND=X_SD)
    data = points(SoloComm(), Blocks(blocks=[block], num_rows=len(X_SD), num_features=X_SD.shape[1], num_blocks=1))
    limits = Limits(tolerance=0.0, max_iterations=ITERATIONS)
    found = lloyd(data, lambda: data.of(block)[:count], limits, lambda *_: None)
    return found.C_KD + data.shift_D


def _root(landmarks_MD: Tensor, gamma: float) -> Tensor:
    """S^(-1/2) V', float64 (M, M), with rows of zeros for directions that are not kept."""
    values_M, vectors_MM = torch.linalg.eigh(kernel(landmarks_MD, landmarks_MD, gamma))
    kept_M = values_M > RANK_TOLERANCE * values_M[-1]
    return (vectors_MM / values_M.sqrt()).T.masked_fill(~kept_M[:, None], 0.0).contiguous()


def _cut(block: Block, length: int) -> list[Block]:
    """The rows by multiples of `length`."""
    sizes = torch.unique_consecutive(block.row_N // length, return_counts=True)[1].tolist()
    edges = accumulate(sizes, initial=0)
    return [block.take(slice(start, stop)) for start, stop in pairwise(edges)]
