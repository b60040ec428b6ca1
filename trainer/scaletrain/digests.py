"""SHA-256 of what must be equal for any number of ranks: the prepared rows, and what a fit has learned after each step."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .comm import Comm
from .data.blocks import Block, Blocks
from .data.sparse import SparseRows


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Of tensors by their names, dtypes, shapes and bytes; hexadecimal."""
    whole = hashlib.sha256()
    for name, value in sorted(state.items()):
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        whole.update(_bytes(value))
    return whole.hexdigest()


def chained(before: str, digest: str) -> str:
    """A digest that depends on all those before."""
    return hashlib.sha256(f"{before}{digest}".encode()).hexdigest()


def digest_of_rows(comm: Comm, blocks: Blocks) -> str:
    """Of the rows of all ranks: numbers, features, labels and weights; hexadecimal.

    One pass of SHA-256, a block on each thread. The digests of blocks are added, word by word as integers that wrap around,
    so that neither their order nor the ranks matter; each of them depends on the row numbers of its block.
    """
    total = torch.zeros(4, dtype=torch.int64)
    for words in blocks.map(_words):
        total += words
    known = None if blocks.classes is None else blocks.classes.tolist()
    facts = [comm.all_reduce(total).tolist(), blocks.num_rows, blocks.num_features, known]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _words(block: Block) -> Tensor:
    """The SHA-256 of a block, as four int64; zeros for no rows: a rank may have blocks that are empty, or none."""
    if not len(block):
        return torch.zeros(4, dtype=torch.int64)
    features = block.X_ND.tensors() if isinstance(block.X_ND, SparseRows) else {"X": block.X_ND}
    parts = {"row": block.row_N, **features, "y": block.y_N, "weight": block.weight_N}
    digest = digest_of({name: part for name, part in parts.items() if part is not None})
    return torch.from_numpy(np.frombuffer(bytes.fromhex(digest), dtype=np.int64).copy())


def _bytes(value: Tensor) -> memoryview:
    """Without a copy where the tensor is contiguous and on the CPU."""
    return memoryview(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
