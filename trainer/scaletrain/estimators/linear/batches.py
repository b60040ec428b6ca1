"""Mini-batches of rows, the same on any number of ranks.

The blocks of the data set, in their order, are divided into A strata of neighbours. In each epoch each stratum is shuffled, group g
is the g-th block of each stratum, the rows of each block are shuffled and cut into J slices, and step (g, j) takes the j-th slice
of each block of group g. So an epoch uses each row once, a batch has rows from A places that are spread over the data set, and so
over the ranks, and a block that is stored elsewhere is read once an epoch.

Shuffles are Philox permutations keyed by seed, epoch, and the number of the stratum or the first row of the block.

Legend: N rows of a block, B blocks of all ranks, A strata, G groups.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator, Philox

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.draws import Key, Purpose

LEAST_SLICE = 1024  # rows of a block in a step: with fewer, the time goes to the calls, not to the rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which blocks and slices make a step. Equal on all ranks."""

    first_B: np.ndarray  # int64, ascending: the first rows of all blocks that have rows
    num_strata: int
    num_slices: int
    seed: int

    @classmethod
    def of(cls, comm: Comm, blocks: Blocks, rows: int, seed: int) -> "Plan":
        """Batches of about `rows` rows. One collective."""
        heads = [(head.first_row, head.num_rows) for head in blocks.heads if head.num_rows]
        own = torch.tensor(heads, dtype=torch.int64, device=comm.device).reshape(-1, 2)
        first_B, num_B = torch.cat(comm.all_gather(own)).cpu().numpy().T
        num_strata = max(1, min(len(first_B), -(-rows // LEAST_SLICE)))
        largest = int(num_B.max(initial=1))
        return cls(
            first_B=np.sort(first_B),
            num_strata=num_strata,
            num_slices=min(largest, -(-largest * num_strata // rows)),
            seed=seed,
        )

    @property
    def num_groups(self) -> int:
        return -(-len(self.first_B) // self.num_strata)

    @property
    def num_steps(self) -> int:
        """Of an epoch."""
        return self.num_groups * self.num_slices

    def strata(self, epoch: int) -> np.ndarray:
        """First rows by stratum and group, (A, G), shuffled; -1 where a stratum has a block less than others."""
        first_AG = np.full((self.num_strata, self.num_groups), -1)
        for number, stratum in enumerate(np.array_split(self.first_B, self.num_strata)):
            first_AG[number, : len(stratum)] = stratum
            self._rng(Purpose.BATCHES, epoch, number).shuffle(first_AG[number])
        return first_AG

    def shuffled(self, epoch: int, block: Block) -> Block:
        """The rows of a block in the order of the epoch."""
        order_N = torch.from_numpy(self._rng(Purpose.BATCH_ROWS, epoch, int(block.row_N[0])).permutation(len(block)))
        return block.take(order_N.to(block.device))

    def _rng(self, purpose: Purpose, epoch: int, number: int) -> Generator:
        return Generator(Philox(key=Key(self.seed, purpose, epoch, number).words(2)))


class Batches:
    """This rank's rows of each step."""

    def __init__(self, blocks: Blocks, plan: Plan) -> None:
        self._blocks, self._plan = blocks, plan
        self._epoch, self._number = -1, -1  # of the group that is held in memory
        self._first_AG = np.empty((0, 0), dtype=np.int64)
        self._held: list[Block] = []

    def of(self, epoch: int, step: int) -> Blocks:
        """The rows of a step as one slice of each block. Counts stay those of the data set."""
        number, part = divmod(step, self._plan.num_slices)
        if epoch != self._epoch:
            self._epoch, self._number, self._first_AG = epoch, -1, self._plan.strata(epoch)
        if number != self._number:
            first_A = self._first_AG[:, number]
            found = self._blocks.holding(torch.from_numpy(first_A[first_A >= 0]))
            self._held = list(found.map(lambda block: self._plan.shuffled(epoch, block)))
            self._number = number
        return replace(self._blocks, blocks=[self._slice(block, part) for block in self._held])

    def _slice(self, block: Block, part: int) -> Block:
        N, J = len(block), self._plan.num_slices
        return block.take(slice(part * N // J, (part + 1) * N // J))
