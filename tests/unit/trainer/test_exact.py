"""Exact sums do not depend on the order of blocks or on who has them."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.exact import from_fixed, max_over_blocks, scale_for, sum_blocks, sum_blocks_within, to_fixed
from tests.ranks import on_ranks

FLOATS = st.floats(-1e12, 1e12, allow_subnormal=False)


def make_blocks(columns: list[float], which: slice | list[int] = slice(None)) -> Blocks:
    """One block of one row and one column for each value."""
    values = torch.tensor(columns, dtype=torch.float64)
    numbers = torch.arange(len(columns))
    chosen = numbers[which]
    blocks = [Block(row_N=numbers[i : i + 1], X_ND=values[i : i + 1, None]) for i in chosen.tolist()]
    return Blocks(blocks=blocks, num_rows=len(columns), num_features=1, num_blocks=len(columns))


def total(comm: Comm, blocks: Blocks, bound: float) -> float:
    (result,) = sum_blocks(comm, blocks, lambda b: [b.X_ND.sum(0)], [torch.tensor([bound], dtype=torch.float64)])
    return float(result)


def bound_of(values: list[float]) -> float:
    return sum(map(abs, values)) * (1 + 1e-9)


@given(st.lists(FLOATS, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_bits(values: list[float], rng: random.Random) -> None:
    """Shuffled blocks add up to the very same float."""
    order = list(range(len(values)))
    rng.shuffle(order)
    straight, shuffled = make_blocks(values), make_blocks(values, order)
    one, other = (on_ranks(1, lambda comm, b=b: total(comm, b, bound_of(values)))[0] for b in (straight, shuffled))
    assert one.hex() == other.hex()


@settings(max_examples=25, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=12), st.integers(2, 4))
def test_any_number_of_ranks_gives_the_same_bits(values: list[float], size: int) -> None:
    """Blocks split over ranks, some of which have none, add up to the same float on every rank."""
    alone = on_ranks(1, lambda comm: total(comm, make_blocks(values), bound_of(values)))
    split = on_ranks(
        size, lambda comm: total(comm, make_blocks(values, slice(comm.rank, None, comm.size)), bound_of(values))
    )
    assert {value.hex() for value in (*alone, *split)} == {alone[0].hex()}


def test_blocks_without_a_partial_count_as_zeros() -> None:
    """On ranks of which one has nothing to add."""

    def positive(block: Block) -> list[torch.Tensor] | None:
        return [block.X_ND.sum(0)] if bool(block.X_ND > 0) else None

    def of_rank(comm: Comm) -> list[float]:
        blocks = make_blocks([1.0, -2.0, 4.0, -8.0], slice(comm.rank, None, comm.size))
        return sum_blocks(comm, blocks, positive, [torch.full((1,), 9, dtype=torch.float64)])[0].tolist()

    assert on_ranks(2, of_rank) == [[5.0], [5.0]]


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_the_sum_is_as_good_as_promised(values: list[float]) -> None:
    """The error is at most bound * 2^-62 for each partial, beside the rounding of the result and underflow."""
    bound = bound_of(values)
    result = on_ranks(1, lambda comm: total(comm, make_blocks(values), bound))[0]
    exact = math.fsum(values)
    assert abs(result - exact) <= bound * 2.0**-61 * len(values) + abs(exact) * 2.0**-52 + 2.0**-1000


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3.0], ids=["NaN", "infinite", "beyond the bound"])
def test_a_partial_that_cannot_be_held_is_an_error(bad: float) -> None:
    """Nothing is wrapped around or clipped silently."""
    with pytest.raises(FloatingPointError, match="not finite, or exceeds"):
        on_ranks(1, lambda comm: total(comm, make_blocks([bad]), 1.0))


@given(st.floats(0, 1e300))
def test_what_is_within_the_bound_survives_the_round_trip(bound: float) -> None:
    """The bound itself fits its own scale."""
    value = torch.tensor([bound], dtype=torch.float64)
    back = from_fixed(to_fixed(value, scale_for(value)), scale_for(value))
    np.testing.assert_allclose(back, value, rtol=2.0**-52, atol=1e-290)


def test_ranks_without_blocks_see_the_maximum_of_the_others() -> None:
    """The maximum over blocks is the same on every rank."""
    found = on_ranks(
        3,
        lambda comm: float(
            max_over_blocks(
                comm,
                make_blocks([1.0, 5.0, 2.0], slice(0, 3 if comm.rank == 1 else 0)),
                lambda b: b.X_ND.amax(0),
                torch.zeros(1, dtype=torch.float64),
            )
        ),
    )
    assert found == [5.0, 5.0, 5.0]


def within(comm: Comm, blocks: Blocks, limit: float) -> float | None:
    found = sum_blocks_within(comm, blocks, lambda b: [b.X_ND.sum(0)], [torch.tensor([limit], dtype=torch.float64)])
    return float(found[0]) if found else None


@settings(max_examples=25, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=12), st.integers(1, 4))
def test_sums_within_a_limit_of_each_partial_are_exact(values: list[float], size: int) -> None:
    """All blocks at their limit fit, on any number of ranks."""
    limit = max(map(abs, values)) + 1.0
    found = on_ranks(size, lambda comm: within(comm, make_blocks(values, slice(comm.rank, None, comm.size)), limit))
    assert found == [pytest.approx(math.fsum(values), rel=1e-12, abs=limit * 1e-15)] * size


@pytest.mark.parametrize("bad", [math.nan, math.inf, -41.0], ids=["NaN", "infinite", "beyond the limit"])
def test_all_ranks_know_of_a_partial_beyond_its_limit(bad: float) -> None:
    """The one that has it, and those whose partials are fine or that have none."""
    values = [1.0, bad, 2.0]
    found = on_ranks(4, lambda comm: within(comm, make_blocks(values, slice(comm.rank, None, comm.size)), 10.0))
    assert found == [None] * 4
