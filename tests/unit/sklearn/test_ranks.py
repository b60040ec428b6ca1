"""Each rank passes its own rows, as many as it has: the model is that of all rows in one process, to the bit."""

from typing import Any

import numpy as np
import pytest

import scaletrain
from scaletrain.comm import Comm
from scaletrain.data.blocks import rows_per_block
from tests.unit.estimators.builders import as_ranks

ROWS = 3 * rows_per_block(3) // 2  # one block and a half
BORDERS = {"one rank": [], "two, the second without a border": [ROWS - 700], "three, one without rows": [1_000, 1_000]}
ESTIMATORS = {
    "regression": scaletrain.LinearRegression(),
    "ridge of two targets": scaletrain.LinearRegression(alpha=1.0),
    "logistic": scaletrain.LogisticRegression(),
    "multinomial": scaletrain.LogisticRegression(class_weight={"high": 2.0}),
    "svm": scaletrain.LinearSVC(),
    "svm of three classes": scaletrain.LinearSVC(class_weight={"high": 2.0}),
    "k-means||": scaletrain.KMeans(4, random_state=3),
    "k-means from given centres": scaletrain.KMeans(2, init=[[0, 0, 0], [1, 1, 1]]),
}


def data(name: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Rows, what to learn, and weights. Labels are sorted, so that a rank may see one class only."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((ROWS, 3), dtype=np.float32) + 4
    score = np.sort(X @ [1.0, -1.0, 0.5] + rng.standard_normal(ROWS))
    targets = {
        "regression": score,
        "ridge of two targets": np.column_stack([score, score**2]),
        "logistic": score > 2,
        "svm": score > 2,
        "multinomial": np.select([score < 1, score < 3], ["low", "middle"], "high"),
        "svm of three classes": np.select([score < 1, score < 3], ["low", "middle"], "high"),
    }
    return X, targets.get(name), rng.integers(0, 3, ROWS).astype(float)


def learned(name: str, borders: list[int]) -> list[dict[str, Any]]:
    """The attributes of each rank, as bytes; `labels_` of all ranks together."""

    def fit(comm: Comm) -> dict[str, Any]:
        X, y, weight = (None if a is None else np.split(a, borders)[comm.rank] for a in data(name))
        model = type(ESTIMATORS[name])(**ESTIMATORS[name].get_params() | {"comm": comm, "n_jobs": 1 + comm.rank})
        return {k: v for k, v in vars(model.fit(X, y, sample_weight=weight)).items() if k.endswith("_")}

    found = as_ranks(len(borders) + 1, fit)
    labels = {"labels_": np.concatenate([f["labels_"] for f in found])} if "labels_" in found[0] else {}
    return [{k: np.asarray(v).tobytes() for k, v in (f | labels).items()} for f in found]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_same_bits_on_one_two_and_three_ranks(name: str) -> None:
    """Borders between ranks are not those of blocks, a rank may have no rows, labels and weights go along."""
    one, two, three = (learned(name, borders) for borders in BORDERS.values())
    assert two == one * 2
    assert three == one * 3


def test_rows_may_be_fewer_than_a_block_on_every_rank() -> None:
    """All of them are then computed on the first one."""
    X, y, _ = data("regression")
    want = scaletrain.LinearRegression().fit(X[:90], y[:90]).coef_

    def fit(comm: Comm) -> np.ndarray:
        mine = slice(30 * comm.rank, 30 * comm.rank + 30)
        return scaletrain.LinearRegression(comm=comm).fit(X[mine], y[mine]).coef_

    assert [coef.tolist() for coef in as_ranks(3, fit)] == [want.tolist()] * 3


def test_ranks_may_differ_in_precision_and_weights() -> None:
    """What one rank has in float64, or with weights, all have."""
    X, y, _ = data("regression")
    want = scaletrain.LinearRegression().fit(X[:90].astype(float), y[:90]).coef_

    def fit(comm: Comm) -> np.ndarray:
        mine = slice(45 * comm.rank, 45 * comm.rank + 45)
        rows, weight = (X[mine], None) if comm.rank else (X[mine].astype(float), np.ones(45))
        return scaletrain.LinearRegression(comm=comm).fit(rows, y[mine], sample_weight=weight).coef_

    for coef in as_ranks(2, fit):
        np.testing.assert_allclose(coef, want, rtol=1e-6)


@pytest.mark.parametrize(
    ("spoilt", "y", "message"),
    [
        (np.full((5, 3), np.nan), [0, 1, 0, 1, 0], "rank 1 .*Input X contains NaN"),
        (np.zeros((5, 2)), [0, 1, 0, 1, 0], "different numbers of features"),
        (np.zeros((5, 3)), [7, 7, 7, 7, 7], r"only one class: \[7\]"),
    ],
)
def test_rows_that_one_rank_cannot_take_are_refused_by_all(spoilt: np.ndarray, y: list[int], message: str) -> None:
    """No rank waits for another one that has given up."""

    def fit(comm: Comm) -> str:
        X = spoilt if comm.rank == 1 else np.zeros((5, 3))
        with pytest.raises(ValueError, match=message if comm.rank == 0 else ".") as caught:
            scaletrain.LogisticRegression(comm=comm).fit(X, y)
        return str(caught.value)

    assert len(as_ranks(3, fit)) == 3
