"""The same model bytes for any number of workers, from files through the whole preparation."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scaletrain
from tests.dist.forked import model_sha


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job on 60,000 rows (four blocks) in three files, with missing values, weights and held-back rows."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    for part in range(3):
        X = rng.standard_normal((20_000, 6)) + rng.integers(0, 4, 20_000)[:, None] * 5
        X[rng.random(X.shape) < 0.01] = np.nan
        columns = {f"c{j}": X[:, j] for j in range(6)} | {"w": rng.random(20_000)}
        pq.write_table(pa.table(columns), folder / f"{part}.parquet", row_group_size=3000)
    return {
        "workload": {"kmeans": {"clusters": 4}},
        "data": {"files": {"uri": str(folder / "*.parquet"), "weight": "w"}},
        "prepare": {"missing": "median", "scale": "standard", "pca": {"components": 3}},
        "validation": {"fraction": 0.25},
        "output": {"uri": str(folder / "model")},
        "seed": 11,
    }


def test_the_number_of_workers_does_not_change_a_byte(spec: dict[str, Any]) -> None:
    """SHA-256 of model.safetensors with 1, 2, 3 and 4 workers; the last model predicts."""
    found = {workers: model_sha(spec, workers) for workers in (1, 2, 3, 4)}
    assert len(set(found.values())) == 1, found
    model = scaletrain.load(spec["output"]["uri"])
    assert list(model.feature_names_in_) == [f"c{j}" for j in range(6)]
    rows = pq.read_table(spec["data"]["files"]["uri"].replace("*", "0")).drop_columns("w").to_pandas()
    assert set(model.predict(rows)) == {0, 1, 2, 3}
