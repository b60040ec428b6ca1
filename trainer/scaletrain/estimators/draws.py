"""Random draws keyed by the global row number: the same for any number of ranks and any assignment of blocks.

Numbers are drawn on the CPU, and rows that are gathered come to it.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks

from .moments import row_weights


class Purpose(IntEnum):
    """What a draw is for. Numbers are part of every model's bytes: never change one, only add."""

    FIRST_CENTERS = 101
    CANDIDATES = 102
    RECLUSTER = 103
    SAMPLE = 104
    LANDMARKS = 105
    BATCHES = 106
    BATCH_ROWS = 107
    DIRECTION = 108


class Key(NamedTuple):
    """What a draw depends on, besides the row."""

    seed: int
    purpose: Purpose
    restart: int = 0
    round: int = 0

    def words(self, count: int) -> np.ndarray:
        """Well mixed uint64."""
        return np.random.SeedSequence(tuple(map(int, self))).generate_state(count, np.uint64)


def uniform(key: Key, row_N: Tensor) -> Tensor:
    """One number in (0, 1) for each row (int64, ascending, on the CPU), float64: Philox with the row as its counter."""
    if not len(row_N):
        return torch.empty(0, dtype=torch.float64)
    first = int(row_N[0])
    philox = np.random.Philox(key=key.words(2), counter=first)
    words = philox.random_raw(4 * (int(row_N[-1]) - first + 1))[::4]  # one step of the counter gives four words
    values = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # 52 bits and a half: never 0, never 1
    return torch.from_numpy(values)[row_N - first]


def draw_rows(comm: Comm, blocks: Blocks, count: int, key: Key) -> Tensor:
    """Numbers of up to `count` rows, drawn without replacement in proportion to their weights, in the order drawn.

    Efraimidis and Spirakis (2006): the smallest -log(u) / weight win. Rows of weight 0 are never drawn.
    """
    best = torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
    for key_N, row_N in blocks.featureless.map(lambda block: _smallest(*_weighted_keys(block, key), count)):
        best = _smallest(torch.cat([best[0], key_N]), torch.cat([best[1], row_N]), count)
    key_N, row_N = best
    return _smallest(torch.cat(comm.all_gather(key_N)), torch.cat(comm.all_gather(row_N)), count)[1]


def gather_rows(comm: Comm, blocks: Blocks, row_K: Tensor) -> Tensor:
    """The features of the given rows, in their order, on all ranks: float64, shape (K, D)."""
    rows = [torch.empty(0, dtype=torch.int64)]
    values = [torch.empty(0, blocks.num_features, dtype=torch.float64)]
    there_K = row_K.to(comm.device)
    for block in blocks.holding(row_K.cpu()).blocks:
        wanted_N = torch.isin(block.row_N, there_K)
        rows.append(block.row_N[wanted_N].cpu())
        values.append(block.X_ND[wanted_N].cpu().to(torch.float64))
    row_F = torch.cat(comm.all_gather(torch.cat(rows)))
    X_FD = torch.cat(comm.all_gather(torch.cat(values)))
    order_F = torch.argsort(row_F)
    return X_FD[order_F[torch.searchsorted(row_F[order_F], row_K)]]


def smallest_first(key_N: Tensor, row_N: Tensor) -> Tensor:
    """The order of rows by key, then by row number."""
    return torch.from_numpy(np.lexsort((row_N.numpy(), key_N.numpy())))


def _weighted_keys(block: Block, key: Key) -> tuple[Tensor, Tensor]:
    row_N, weight_N = block.row_N.cpu(), row_weights(block).cpu()
    some_N = weight_N > 0
    return (-uniform(key, row_N).log() / weight_N)[some_N], row_N[some_N]


def _smallest(key_N: Tensor, row_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order_K = smallest_first(key_N, row_N)[:count]
    return key_N[order_K], row_N[order_K]
