"""Exact medians of columns over the blocks of all ranks, in memory that does not grow with the rows.

float64 numbers are mapped to integers of the same order, and the integer at the wanted place is found digit by digit from the top:
a pass counts, for each column, the values that share the digits found so far by their next digit (radix selection). Counts are
added over the ranks. With B bits in a digit: 64 / B passes, one more if the two middle values may differ, and D * 2^B integers in
each all-reduce. NaN counts as missing.

Legend: N rows of a block, D columns, G values of a digit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm, Op
from scaletrain.data.blocks import Block, Blocks

View = Callable[[Block], Tensor]  # a block's features as float64, NaN where missing
MOST_COUNTS = 1 << 18  # of one pass: 2 MiB
FEWEST_BITS, MOST_BITS = 8, 16
LOWEST, HIGHEST = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is known of the lower of the two middle values of each column, all int64 (D,)."""

    key_D: Tensor  # its digits so far, zeros below
    place_D: Tensor  # how many of the values that share these digits come before it
    equal_D: Tensor  # how many values share them


def medians(comm: Comm, blocks: Blocks, view: View) -> Tensor:
    """Median of the values of each column, float64 (D,): NaN where there is none."""
    found, count_D = _lower_middle(comm, blocks, view)
    low_D = found.key_D
    is_last_D = (count_D % 2 == 0) & (found.place_D + 1 == found.equal_D)
    high_D = torch.where(is_last_D, _next_above(comm, blocks, view, low_D), low_D) if is_last_D.any() else low_D
    middle_D = (_value(low_D) + _value(high_D)) / 2
    return torch.where(count_D > 0, middle_D, torch.nan)


def _lower_middle(comm: Comm, blocks: Blocks, view: View) -> tuple[_Found, Tensor]:
    """The values at place (count - 1) // 2, from 0, and the counts."""
    bits = (MOST_COUNTS // max(1, blocks.num_features)).bit_length() - 1
    bits = max(FEWEST_BITS, min(MOST_BITS, bits))
    zero_D = torch.zeros(blocks.num_features, dtype=torch.int64, device=comm.device)
    found, count_D, known = _Found(key_D=zero_D + LOWEST, place_D=zero_D, equal_D=zero_D), None, 0
    while known < 64:
        more = min(bits, 64 - known)
        count_DG = _count(comm, blocks, view, found.key_D, (known, more))
        if count_D is None:
            count_D = count_DG.sum(1)
            found = _Found(key_D=found.key_D, place_D=((count_D - 1) // 2).clamp(min=0), equal_D=count_D)
        known += more
        found = _narrowed(found, count_DG, below=64 - known)
    assert count_D is not None
    return found, count_D


def _count(comm: Comm, blocks: Blocks, view: View, key_D: Tensor, digit: tuple[int, int]) -> Tensor:
    """How many values share the first `known` bits of the key and have each digit of `more` bits after them, int64 (D, G)."""
    known, more = digit
    num_columns, num_digits = len(key_D), 1 << more
    column_D = torch.arange(num_columns, device=key_D.device) * num_digits

    def counted(block: Block) -> Tensor:
        X_ND = view(block)
        key_ND = _ordered(X_ND)
        digit_ND = (key_ND ^ LOWEST) >> (64 - known - more) & (num_digits - 1)
        shares_ND = ~X_ND.isnan()
        if known:
            shares_ND &= key_ND >> (64 - known) == key_D >> (64 - known)
        return torch.bincount((digit_ND + column_D)[shares_ND], minlength=num_columns * num_digits)

    total = torch.zeros(num_columns * num_digits, dtype=torch.int64, device=key_D.device)
    for count in blocks.map(counted):
        total += count
    return comm.all_reduce(total).reshape(num_columns, num_digits)


def _narrowed(found: _Found, count_DG: Tensor, below: int) -> _Found:
    """One digit further; `below`: the bits below it."""
    upto_DG = count_DG.cumsum(1)
    digit_D = (upto_DG <= found.place_D[:, None]).sum(1).clamp(max=count_DG.shape[1] - 1)
    equal_D = count_DG.gather(1, digit_D[:, None])[:, 0]
    before_D = upto_DG.gather(1, digit_D[:, None])[:, 0] - equal_D
    return _Found(key_D=found.key_D ^ (digit_D << below), place_D=found.place_D - before_D, equal_D=equal_D)


def _next_above(comm: Comm, blocks: Blocks, view: View, key_D: Tensor) -> Tensor:
    """The smallest key above `key_D`, int64 (D,); HIGHEST where there is none."""

    def smallest(block: Block) -> Tensor:
        X_ND = view(block)
        key_ND = _ordered(X_ND)
        return torch.cat([torch.where((key_ND > key_D) & ~X_ND.isnan(), key_ND, HIGHEST), none_1D]).amin(0)

    none_1D = torch.full((1, len(key_D)), HIGHEST, device=key_D.device)
    least_D = none_1D[0]
    for value_D in blocks.map(smallest):
        least_D = torch.minimum(least_D, value_D)
    return comm.all_reduce(least_D, Op.MIN)


def _ordered(value: Tensor) -> Tensor:
    """float64 -> int64 with the same order; the two zeros are one."""
    bits = (value + 0.0).contiguous().view(torch.int64)
    return bits ^ ((bits >> 63) & HIGHEST)


def _value(key: Tensor) -> Tensor:
    """The inverse of `_ordered`: flipping the same bits again."""
    return (key ^ ((key >> 63) & HIGHEST)).view(torch.float64)
