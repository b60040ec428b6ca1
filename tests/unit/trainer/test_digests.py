"""Digests say whether two runs saw the same rows and learned the same, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scaletrain.comm import SoloComm
from scaletrain.data.blocks import Blocks
from scaletrain.digests import digest_of, digest_of_rows
from tests.unit.estimators.builders import make_blocks, on_ranks


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"X": rng.standard_normal((210, 3)), "y": rng.integers(0, 2, 210), "weight": rng.random(210)}


def blocks_of(X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Blocks:
    """Six blocks."""
    return make_blocks(X, y, weight, rows=37)


def test_rows_have_one_digest_on_any_ranks_in_any_order() -> None:
    """1, 2, 4 and 8 ranks, of which some have no rows; blocks not in a row; two threads."""
    blocks = blocks_of(**columns())
    want = digest_of_rows(SoloComm(), blocks)
    for size in (2, 4, 8):
        assert on_ranks(size, blocks, digest_of_rows) == [want] * size
    assert on_ranks(3, blocks, digest_of_rows, order=[2, 0, 2, 2, 0, 2]) == [want] * 3
    assert digest_of_rows(SoloComm(), replace(blocks, threads=2)) == want


@pytest.mark.parametrize("column", ["X", "y", "weight"])
def test_any_changed_value_changes_the_digest_of_the_rows(column: str) -> None:
    """One of the last row."""
    values = columns()
    before = digest_of_rows(SoloComm(), blocks_of(**values))
    values[column][-1] += 1
    assert digest_of_rows(SoloComm(), blocks_of(**values)) != before


def test_rows_that_change_places_change_the_digest() -> None:
    """Equal rows under other numbers are other data: draws go by the number of a row."""
    rows = columns()
    swapped = {name: np.concatenate([part[37:74], part[:37], part[74:]]) for name, part in rows.items()}
    assert digest_of_rows(SoloComm(), blocks_of(**rows)) != digest_of_rows(SoloComm(), blocks_of(**swapped))


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(2)},
        {"a": torch.zeros(2, dtype=torch.float64)},
        {"a": torch.zeros(1, 2)},
        {"a": -torch.zeros(2)},
    ],
    ids=["name", "dtype", "shape", "sign of a zero"],
)
def test_a_state_is_known_to_the_bit(other: dict[str, torch.Tensor]) -> None:
    """By names, dtypes, shapes and bytes; not by how the tensors lie in memory."""
    assert digest_of({"a": torch.zeros(2)}) != digest_of(other)
    X = torch.arange(6.0).reshape(2, 3)
    assert digest_of({"a": X.T}) == digest_of({"a": X.T.contiguous()})
