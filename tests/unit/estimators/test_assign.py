"""Labels that depend on nothing but the row and the centres, and slacks that keep their promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaletrain.comm import SoloComm
from scaletrain.estimators.kmeans import assign as module
from scaletrain.estimators.kmeans.assign import Centers, assign, nearest, norms
from scaletrain.estimators.kmeans.nearest import points
from scaletrain.estimators.kmeans.rows import Rows
from tests.unit.estimators.builders import make_blocks

CLUSTERS = 40


def lattice(rng: np.random.Generator, n: int, d: int, dtype: str) -> torch.Tensor:
    """Small integers: many rows have several nearest centres, and many centres are equal."""
    return torch.from_numpy(rng.integers(-1, 2, (n, d)).astype(dtype))


def distances(X: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    return ((X.double()[:, None] - C.double()) ** 2).sum(2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 3, 20])
def test_ties_go_to_the_lowest_number(rng, d, dtype):
    """Where squared distances are small integers, so that nothing is rounded."""
    X, C = lattice(rng, 300, d, dtype), lattice(rng, CLUSTERS, d, dtype)
    assert torch.equal(nearest(X, C), distances(X, C).argmin(1))


def test_a_label_does_not_depend_on_the_rows_beside_it(rng):
    """Far from 0 the scores of neighbours are rounding; still one row alone gets the label that it has among others."""
    X = torch.from_numpy(rng.standard_normal((200, 30)).astype(np.float32) + 300)
    C = X[:CLUSTERS] + 0.01 * torch.from_numpy(rng.standard_normal((CLUSTERS, 30)).astype(np.float32))
    label = nearest(X, C)
    assert torch.equal(label, torch.cat([nearest(row[None], C) for row in X]))
    assert torch.equal(label, distances(X, C).argmin(1))


def test_a_guess_has_no_influence(rng):
    X, C = (torch.from_numpy(rng.standard_normal((n, 8)).astype(np.float32)) for n in (500, CLUSTERS))
    guess = torch.from_numpy(rng.integers(0, CLUSTERS, 500))
    assert torch.equal(assign(X, norms(X), Centers.of(C), guess).label_N, nearest(X, C))


def test_many_contenders_are_decided_as_few(rng, monkeypatch):
    X, C = lattice(rng, 200, 2, "float32"), lattice(rng, CLUSTERS, 2, "float32")
    label = nearest(X, C)
    for limit in ("FEW_VALUES", "MANY_CONTENDERS"):
        monkeypatch.setattr(module, limit, 0)
        assert torch.equal(nearest(X, C), label)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 10.0, 1e4]), d=st.sampled_from([1, 5, 60]))
def test_the_slack_is_at_most_the_difference_of_the_distances(seed, offset, d):
    rng = np.random.default_rng(seed)
    X = torch.from_numpy((rng.standard_normal((100, d)) + offset).astype(np.float32))
    C = torch.from_numpy((rng.standard_normal((CLUSTERS, d)) + offset).astype(np.float32))
    nearest_two = distances(X, C).sqrt().topk(2, dim=1, largest=False).values
    slack = assign(X, norms(X), Centers.of(C)).slack_N
    assert bool((slack <= (nearest_two[:, 1] - nearest_two[:, 0]).clamp(min=0)).all())


def test_rows_that_are_left_out_would_have_kept_their_label(rng):
    """Along a walk of centres, labels are those of a pass over all rows; and after small steps most rows are left out."""
    X = rng.standard_normal((600, 4)).astype(np.float32)
    data = points(SoloComm(), make_blocks(X, rows=100))
    rows, C = Rows(data, CLUSTERS), torch.from_numpy(X[:CLUSTERS].copy())
    for size in (0.1, 0.1, 0.01, 0.001, 0.001, 0.0):
        new = C + size * torch.from_numpy(rng.standard_normal(C.shape).astype(np.float32))
        rows.travel(C, new)
        rows.assign_all(C := new)
        found = torch.cat([rows.label.of(block) for block in data.blocks.blocks])
        assert torch.equal(found, distances(torch.from_numpy(X), C).argmin(1))


def test_groups_have_no_influence_on_labels(rng):
    """Five centres in each of eight blobs: most rows are compared with five only, also when centres jump to other blobs."""
    blob = 30 * rng.standard_normal((8, 6)).astype(np.float32)
    X = blob[rng.integers(0, 8, 800)] + rng.standard_normal((800, 6)).astype(np.float32)
    data = points(SoloComm(), make_blocks(X, rows=100))
    C = torch.from_numpy(blob.repeat(5, axis=0) + rng.standard_normal((CLUSTERS, 6)).astype(np.float32))
    rows = Rows(data, CLUSTERS)
    for size in (0.3, 0.3, 0.3, 0.1, 0.03, 30.0, 0.1, 0.03, 0.01):
        new = C + size * torch.from_numpy(rng.standard_normal(C.shape).astype(np.float32))
        rows.travel(C, new)
        rows.assign_all(C := new)
        found = torch.cat([rows.label.of(block) for block in data.blocks.blocks])
        assert torch.equal(found, distances(torch.from_numpy(X), C).argmin(1))


@pytest.mark.filterwarnings("ignore:overflow")
def test_scores_that_overflow_decide_nothing(rng):
    """Rows whose squares are at the end of float32 get the labels of the same rows divided by 2^41."""
    C = torch.from_numpy(rng.standard_normal((CLUSTERS, 5)).astype(np.float32))
    X = C.repeat(40, 1) + 0.7 * torch.from_numpy(rng.standard_normal((40 * CLUSTERS, 5)).astype(np.float32))
    assert torch.equal(nearest(X * 2.0**63, C * 2.0**63), nearest(X * 2.0**22, C * 2.0**22))
