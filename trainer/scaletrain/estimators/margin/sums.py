"""Exact sums over the rows of a problem, by bounds that are known, guessed, or found to be too far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.moments import ROUNDED
from scaletrain.exact import sum_blocks, sum_blocks_within

STEP = 2.0**-61  # of a sum in fixed point, by its bound, at most
BLURRED = 1e-11  # relative error of a sum that is worth another pass


class Misled(Exception):
    """On all ranks: a sum over a block was larger than what had been guessed of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSums:
    """Sums what `partial` returns of each block, in one collective."""

    comm: Comm
    blocks: Blocks
    are_guessed: bool  # bounds are for one block each, and only guessed: a sum may raise Misled

    def __call__(self, partial: Callable[[Block], list[Tensor]], bounds: Sequence[Tensor]) -> list[Tensor]:
        if not self.are_guessed:
            return sum_blocks(self.comm, self.blocks, partial, bounds)

        def unwarned(block: Block) -> list[Tensor]:
            # Infinite values are found by the sums, and told of by those who look for them.
            with np.errstate(all="ignore"):
                return partial(block)

        found = sum_blocks_within(self.comm, self.blocks, unwarned, bounds)
        if found is None:
            raise Misled
        return found

    def closer(self, sums_K: Tensor, bounds_K: Tensor, *, beside: Tensor | float) -> Tensor | None:
        """Bounds (K,) by what was found with those given, for sums of what is never negative.

        None if no sum has lost digits that show once a number (or (K,) of them) `beside` is added: their size is then known
        well enough. A block adds an error of half a step at most, of which most cancel.
        """
        num_blocks = max(1, self.blocks.num_blocks)
        step_K = STEP * bounds_K * (num_blocks if self.are_guessed else 1)
        if bool((num_blocks**0.5 * step_K <= BLURRED * (sums_K + beside)).all()):
            return None
        return torch.minimum(bounds_K, ROUNDED * (sums_K + num_blocks * step_K))
