"""Draws depend on the key and the row alone."""

import numpy as np
import pytest
import torch

from scaletrain.comm import SoloComm
from scaletrain.estimators.draws import Key, Purpose, draw_rows, gather_rows, uniform
from tests.unit.estimators.builders import make_blocks

KEY = Key(7, Purpose.SAMPLE)


def test_a_row_has_its_number_in_any_block():
    """Cut anywhere, with rows left out: each row draws the same number."""
    rows = torch.arange(1000, 2000)
    whole = uniform(KEY, rows)
    assert torch.equal(torch.cat([uniform(KEY, rows[:123]), uniform(KEY, rows[123:])]), whole)
    assert torch.equal(uniform(KEY, rows[::7]), whole[::7])


def test_numbers_look_uniform():
    """Mean, variance and no repeats, over blocks as well."""
    numbers = torch.cat([uniform(KEY, torch.arange(start, start + 1000)) for start in range(0, 20_000, 1000)])
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(numbers.var()) == pytest.approx(1 / 12, abs=0.005)
    assert len(numbers.unique()) == len(numbers)


@pytest.mark.parametrize(
    "other", [Key(8, Purpose.SAMPLE), Key(7, Purpose.CANDIDATES), KEY._replace(round=1), KEY._replace(restart=1)]
)
def test_each_part_of_the_key_counts(other):
    rows = torch.arange(100)
    assert not bool((uniform(KEY, rows) == uniform(other, rows)).any())


def test_rows_are_drawn_in_proportion_to_their_weights():
    """Of 300 first draws about three quarters hit the rows with three quarters of the weight."""
    blocks = make_blocks(np.zeros((40, 1)), weight=np.repeat([1.0, 3.0], 20), rows=7)
    first = [int(draw_rows(SoloComm(), blocks, 1, KEY._replace(seed=seed))[0]) for seed in range(300)]
    assert np.mean(np.array(first) >= 20) == pytest.approx(0.75, abs=0.08)


def test_no_row_is_drawn_twice_and_rows_come_in_the_order_drawn():
    X = np.arange(50.0)[:, None]
    blocks = make_blocks(X, rows=7)
    drawn = draw_rows(SoloComm(), blocks, 20, KEY)
    assert len(drawn.unique()) == 20
    assert gather_rows(SoloComm(), blocks, drawn)[:, 0].tolist() == drawn.tolist()
    assert draw_rows(SoloComm(), blocks, 5, KEY).tolist() == drawn[:5].tolist()
