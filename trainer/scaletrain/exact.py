"""Sums over blocks and ranks that do not depend on the order, and so not on the number of ranks.

A block's partial sums are float64, computed by one thread in a fixed order. Across blocks they are added as integers:

    q = round(x * 2^s),   s = 62 - ceil(log2(bound)),   bound >= |sum of any subset of the partials|

Integer addition is associative: any order, any tree, any number of ranks gives the same bits. The error of one partial is at
most 2^-(s+1), that is bound * 2^-62: below float64's own for all but sums that cancel to a billionth of their bound.
The bound is per element, so quantities of different size do not cost each other precision.

Where no bound is known, one may be guessed and checked on the way: if no block's sum exceeds a limit, no sum exceeds the limit times
the number of blocks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .comm import Comm, Op
from .data.blocks import Block, Blocks


def sum_blocks(
    comm: Comm, blocks: Blocks, partial: Callable[[Block], Sequence[Tensor] | None], bounds: Sequence[Tensor]
) -> list[Tensor]:
    """The exact sums of `partial(block)` over all blocks of all ranks, in one collective.

    partial: tensors of float64 on the block's device, one shape each for all blocks, or None for zeros. bounds: for each of them a
    float64 tensor of that very shape or one that broadcasts to it, equal on all ranks; no partial sum exceeds it in magnitude. Bounds of zero are fine.
    Returns float64 tensors of the bounds' broadcast shape, on the bounds' device; ranks without blocks take part with zeros, so `bounds` must have
    the full shape of the partials. Raises FloatingPointError on a partial that is not finite or exceeds its bound.
    """
    scale = scale_for(_joined(bounds).to(comm.device))
    total = torch.zeros(scale.shape, dtype=torch.int64, device=scale.device)

    def fixed(block: Block) -> Tensor | None:
        values = partial(block)
        return None if values is None else to_fixed(_joined(values), scale)

    for value in blocks.map(fixed):
        if value is not None:
            total += value
    return _parted(from_fixed(comm.all_reduce(total), scale), bounds)


def sum_blocks_within(
    comm: Comm, blocks: Blocks, partial: Callable[[Block], Sequence[Tensor]], limits: Sequence[Tensor]
) -> list[Tensor] | None:
    """As `sum_blocks`, with a guess of what no block's partial sums exceed, above 0.

    None, on all ranks, if one is not finite or exceeds its limit by more than a factor of 2 to 4: within it, some do.
    """
    scale = scale_for(_joined(limits).to(comm.device) * blocks.num_blocks)
    most = 2.0**62 / max(1, blocks.num_blocks)
    total = torch.zeros(
        len(scale) + 1, dtype=torch.int64, device=scale.device
    )  # and how many ranks found one too large
    try:
        for value in blocks.map(lambda block: to_fixed(_joined(partial(block)), scale, most)):
            total[:-1] += value
    except FloatingPointError:
        total.zero_()[-1] = 1
    total = comm.all_reduce(total)
    return None if total[-1] else _parted(from_fixed(total[:-1], scale), limits)


def _joined(values: Sequence[Tensor]) -> Tensor:
    return values[0].reshape(-1) if len(values) == 1 else torch.cat([value.reshape(-1) for value in values])


def _parted(value: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `_joined`, on the device of the first."""
    parts = value.to(like[0].device).split([one.numel() for one in like])
    return [part.reshape(one.shape) for part, one in zip(parts, like, strict=True)]


def scale_for(bound: Tensor) -> Tensor:
    """The factors 2^s for sums that stay within `bound` (float64, finite, not negative), element by element."""
    _, exponent = torch.frexp(bound)  # bound = mantissa * 2^exponent, mantissa in [0.5, 1)
    s = torch.where(bound > 0, 62 - exponent, torch.zeros_like(exponent)).clamp(-1000, 1000)
    # Exactly, by writing the exponent's bits: torch.ldexp goes through float32.
    return ((s.to(torch.int64) + 1023) << 52).view(torch.float64)


def to_fixed(value: Tensor, scale: Tensor, most: float = 2.0**62) -> Tensor:
    """float64 -> int64 fixed point. FloatingPointError if a value is not finite or, times its scale, beyond `most`."""
    scaled = value * scale
    low, high = torch.aminmax(scaled)  # both NaN if a value is
    if not bool((low >= -most) & (high <= most)):
        raise FloatingPointError("a partial sum is not finite, or exceeds the bound given for it")
    return scaled.round_().to(torch.int64)


def from_fixed(value: Tensor, scale: Tensor) -> Tensor:
    """int64 fixed point -> float64."""
    return value.to(torch.float64) / scale


def max_over_blocks(comm: Comm, blocks: Blocks, fn: Callable[[Block], Tensor], start: Tensor) -> Tensor:
    """The elementwise maximum of `fn(block)` over all blocks of all ranks; `start` (full shape) where there is none.

    `fn` returns a tensor on the block's device; the result is on that of `start`.
    """
    result = start.to(comm.device, copy=True)
    for value in blocks.map(fn):
        result = torch.maximum(result, value)
    return comm.all_reduce(result, Op.MAX).to(start.device)
