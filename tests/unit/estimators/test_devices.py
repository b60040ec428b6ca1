"""Rows on another device than the CPU, by a device with real numbers (`elsewhere`) and by tensors of CUDA without any."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from scalejob.api.v1alpha1 import KMeans, Linear, Prepare, Svm
from scaletrain.comm import SoloComm
from scaletrain.data.table import Columns
from scaletrain.estimators import linalg
from scaletrain.estimators.kmeans import assign, kmeans, nearest
from scaletrain.estimators.linear import linear
from scaletrain.estimators.svm import svm
from scaletrain.evaluate import evaluate
from scaletrain.prepare.preparation import fit_preparation
from tests.unit.estimators.builders import fit, make_blocks, quiet
from tests.unit.estimators.elsewhere import DEVICE, Elsewhere, moved

ROWS, BLOCK = 60, 30
FITS = {
    "kmeans of few": (kmeans, KMeans(clusters=3), None),
    "kmeans of many": (kmeans, KMeans(clusters=35, init="random"), None),
    "least squares": (linear, Linear(task="regression"), "number"),
    "logistic": (linear, Linear(task="classification"), "two"),
    "softmax": (linear, Linear(task="classification"), "three"),
    "squared hinge": (svm, Svm(), "two"),
    "hinge": (svm, Svm(loss="hinge", tolerance=0.01), "two"),
}


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """What torch imports when tensors are first dispatched in Python takes a second."""
    with Elsewhere():
        torch.ones(1).to(DEVICE)


def make_rows(rng, label, *, weighted=True):
    """Small whole numbers, so that rows lie equally far from several centres."""
    X = rng.integers(0, 4, (ROWS, 3)).astype(np.float32)
    score = X[:, 0] - X[:, 1] + rng.standard_normal(ROWS)
    labels = {
        "number": score,
        "two": (score > 0).astype(int),
        "three": (score > -1).astype(int) + (score > 1),
        None: None,
    }
    return make_blocks(X, labels[label], rng.random(ROWS) if weighted else None, rows=BLOCK)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", FITS)
def test_a_fit_elsewhere_gives_the_same_numbers(name, weighted, rng):
    """Every pass runs on the device of the rows and finds what the CPU finds; no block of features comes to the CPU."""
    module, params, label = FITS[name]
    blocks = make_rows(rng, label, weighted=weighted)
    want = fit(module, params, blocks)
    with Elsewhere() as device:
        found = fit(module, params, moved(blocks), comm=SoloComm(DEVICE))
    assert (BLOCK, 3) not in device.fetched
    for key, values in want.arrays().items():
        np.testing.assert_allclose(found.arrays()[key], values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FITS)
def test_metrics_elsewhere_are_the_same(name, rng):
    """Also of scores that tie."""
    module, params, label = FITS[name]
    blocks = make_rows(rng, label)
    result = fit(module, params, blocks)
    with Elsewhere():
        found = evaluate(SoloComm(DEVICE), None, result, moved(blocks))
    assert found == pytest.approx(evaluate(SoloComm(), None, result, blocks))


def test_metrics_of_many_rows_elsewhere_are_the_same(rng, monkeypatch):
    """The area under the curve by bins."""
    monkeypatch.setattr("scaletrain.evaluate.EXACT_ROWS", 0)
    blocks = make_rows(rng, "two")
    result = fit(svm, Svm(), blocks)
    with Elsewhere():
        found = evaluate(SoloComm(DEVICE), None, result, moved(blocks))
    assert found == pytest.approx(evaluate(SoloComm(), None, result, blocks))


def test_a_preparation_elsewhere_gives_the_same_numbers(rng):
    blocks, spec = make_rows(rng, None), Prepare(missing="median", scale="standard", pca={"components": 2})
    columns = Columns(features=("a", "b", "c"), are_named=False, is_single=True)
    want = fit_preparation(SoloComm(), blocks, spec, columns, quiet).apply(blocks)
    with Elsewhere():
        there = moved(blocks)
        found = fit_preparation(SoloComm(DEVICE), there, spec, columns, quiet).apply(there)
        rows = [block.X_ND.cpu() for block in found.blocks]
    for block, X_ND in zip(want.blocks, rows, strict=True):
        torch.testing.assert_close(X_ND, block.X_ND)


def test_elsewhere_refuses_what_a_gpu_refuses():
    """A device that lets everything pass would prove nothing."""
    with Elsewhere():
        there = torch.ones(2, 2).to(DEVICE)
        with pytest.raises(AssertionError, match="mixes"):
            there @ torch.ones(2)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


@pytest.fixture
def numbers_elsewhere(monkeypatch):
    """Tensors of the CPU by the ways of other devices."""
    for module in (linalg, assign):
        monkeypatch.setattr(module, "is_on_cpu", lambda value: False)


def test_ties_go_to_the_lowest_number_elsewhere(numbers_elsewhere):
    score_NK = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, -1.0, 5.0]])
    assert linalg.first_largest(score_NK).tolist() == [1, 0, 2]
    assert assign.nearest(torch.zeros(2, 1), torch.tensor([[1.0], [-1.0], [1.0]])).tolist() == [0, 0]


def test_sums_by_group_elsewhere_are_the_same(numbers_elsewhere, rng, monkeypatch):
    """In slices of rows, and taken away again."""
    monkeypatch.setattr(linalg, "MEMBERSHIPS", 32)
    group_N, term_NC = torch.from_numpy(rng.integers(0, 5, 50)), torch.from_numpy(rng.standard_normal((50, 2)))
    sum_GC = torch.zeros(6, 2, dtype=torch.float64)
    linalg.add_by_group(sum_GC, group_N, term_NC)
    torch.testing.assert_close(sum_GC, torch.zeros_like(sum_GC).index_add_(0, group_N, term_NC))
    linalg.add_by_group(sum_GC, group_N, term_NC, alpha=-1)
    torch.testing.assert_close(sum_GC, torch.zeros_like(sum_GC))
    weight_N = term_NC[:, 0].abs()
    torch.testing.assert_close(
        linalg.totals_by_group(group_N, weight_N, 6), torch.bincount(group_N, weights=weight_N, minlength=6)
    )


def test_what_runs_in_blocks_accepts_tensors_of_cuda():
    """torch's own rules for CUDA, without a GPU: shapes and devices, no numbers."""
    with FakeTensorMode():
        X_ND, C_KD = torch.empty(8, 3, device="cuda"), torch.empty(4, 3, device="cuda")
        label_N = torch.zeros(8, dtype=torch.int64, device="cuda")
        sum_KD = torch.zeros(4, 3, device="cuda")
        linalg.add_by_group(sum_KD, label_N, X_ND)
        found = [
            linalg.gram(X_ND),
            linalg.product(C_KD @ X_ND.T, X_ND),
            linalg.totals_by_group(label_N, X_ND[:, 0].to(torch.float64), 4),
            nearest.squared_distances(X_ND, C_KD, label_N),
            sum_KD,
        ]
    assert {value.device.type for value in [label_N, *found]} == {"cuda"}


def test_fits_leave_the_rows_as_they_are(rng):
    """No fit writes into the blocks: the next pass, metric or restart needs them."""
    X = rng.standard_normal((50, 3))
    blocks = make_blocks(X)
    fit(kmeans, KMeans(clusters=3), blocks)
    assert torch.equal(blocks.blocks[0].X_ND, torch.from_numpy(X))
