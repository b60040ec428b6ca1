"""Blocks from arrays that are in memory already, each rank's its own, as a program calls an estimator.

The rows of rank r follow those of rank r - 1. Blocks are cut by the global row number, so a rank hands the rows before its first
border to the rank on which their block begins. Legend: N rows, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm

from .blocks import Block, Blocks, rows_per_block


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one rank. All ranks have the same fields and dtypes."""

    X_ND: np.ndarray  # float32 or float64
    y_N: np.ndarray | None = None  # float64 targets, or int64 numbers of classes
    weight_N: np.ndarray | None = None  # float64, not negative

    def __len__(self) -> int:
        return len(self.X_ND)


def blocks_of(comm: Comm, rows: Rows, *, classes: np.ndarray | None = None, threads: int = 1) -> Blocks:
    """The blocks of this rank. Two collectives and one for each field; what moves is less than one block from each rank."""
    num_features = rows.X_ND.shape[1]
    length = rows_per_block(num_features)
    counts = [int(count) for count in comm.all_gather(torch.tensor([len(rows)], device=comm.device))]
    first = sum(counts[: comm.rank])
    head = min(len(rows), -first % length)
    whole = _whole_blocks(comm, rows, head, -sum(counts[: comm.rank + 1]) % length)
    num_rows = sum(counts)
    return Blocks(
        blocks=list(cut(whole, length, first_row=first + head, device=comm.device)),
        num_rows=num_rows,
        num_features=num_features,
        num_blocks=-(-num_rows // length),
        classes=classes,
        threads=threads,
    )


def cut(rows: Rows, length: int, *, first_row: int = 0, device: torch.device | None = None) -> Iterator[Block]:
    """Blocks of `length` rows, the last one of what is left. On the CPU they share the memory of the arrays if that can be written."""
    for start in range(0, len(rows), length):
        part = slice(start, min(start + length, len(rows)))
        yield Block(
            row_N=torch.arange(first_row + part.start, first_row + part.stop, device=device),
            X_ND=_tensor(rows.X_ND[part]).to(device),
            y_N=None if rows.y_N is None else _tensor(rows.y_N[part]).to(device),
            weight_N=None if rows.weight_N is None else _tensor(rows.weight_N[part]).to(device),
        )


def _whole_blocks(comm: Comm, rows: Rows, head: int, missing: int) -> Rows:
    """The rows of the blocks that begin on this rank: without the first `head`, and with the next `missing` of the ranks after it."""
    begins = len(rows) > head

    def complete(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        heads = comm.all_gather(_tensor(values[:head]).to(comm.device))
        following = torch.cat([part.cpu() for part in heads[comm.rank + 1 :]] or [_tensor(values[:0])])
        return np.concatenate([values[head:], following[: missing if begins else 0].numpy()])

    if comm.size == 1:
        return rows
    return Rows(X_ND=complete(rows.X_ND), y_N=complete(rows.y_N), weight_N=complete(rows.weight_N))


def _tensor(values: np.ndarray) -> Tensor:
    """torch takes no array that cannot be written, such as a file that is mapped to memory."""
    return torch.from_numpy(np.require(values, requirements="CW"))
