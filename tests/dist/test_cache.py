"""Rows on a disk instead of in memory, in real jobs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalejob.contract import ENV_TERMINATION_LOG, LastWord
from tests.dist.cached_rows import cut_rows
from tests.dist.forked import model_sha
from tests.dist.world import rank_environments, running
from tests.memory_group import memory_group, why_not

LIMIT = 512 << 20  # torch alone takes 330 MiB of it, the rows would take as much again


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job on 60,000 rows (four blocks), with all that can happen to rows before the fit."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60_000, 6))
    label = np.where(X[:, 0] + X[:, 1] + rng.standard_normal(60_000) > 0, "yes", "no")
    X[rng.random(X.shape) < 0.01] = np.nan
    columns = {f"c{j}": X[:, j] for j in range(6)} | {"y": label, "w": rng.random(60_000)}
    pq.write_table(pa.table(columns), folder / "rows.parquet", row_group_size=7000)
    return {
        "workload": {"svm": {}},
        "data": {"files": {"uri": str(folder / "rows.parquet"), "label": "y", "weight": "w"}},
        "prepare": {"missing": "median", "scale": "standard", "pca": {"components": 3}},
        "validation": {"fraction": 0.25},
        "output": {"uri": str(folder / "model")},
    }


def cached(spec: dict[str, Any], **cache: Any) -> dict[str, Any]:
    return spec | {"data": spec["data"] | {"cache": cache}}


def test_a_cache_does_not_change_a_byte_and_leaves_nothing(spec: dict[str, Any], tmp_path: Path) -> None:
    """SHA-256 of the model from memory, and from the disk with 1 and 3 workers."""
    memory = model_sha(cached(spec, mode="never"), 1)
    disk = [model_sha(cached(spec, mode="always", path=str(tmp_path)), workers) for workers in (1, 3)]
    assert disk == [memory, memory]
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_damaged_ends_the_job(tmp_path: Path) -> None:
    """With a message, and so that a new attempt is made: exit code 1."""
    endless = {
        "workload": {
            "kmeans": {"clusters": 3, "init": "random", "maxIterations": 100_000, "tolerance": 0, "restarts": 100}
        },
        "data": {
            "synthetic": {"blobs": {"rows": 60_000, "features": 8, "centers": 50}},
            "cache": {"mode": "always", "path": str(tmp_path)},
        },
        "output": {"uri": str(tmp_path / "model")},
    }
    with running(endless, 2) as world:
        world.wait_for_progress("fit", 1)
        cut_rows(world.processes[1].pid, tmp_path)
        ends = world.wait()
    assert [end.exit_code for end in ends] == [1, 1]
    assert ends[1].word is not None
    assert ends[1].word.error == "CacheLost"
    assert f"the cache of rows in {tmp_path} is damaged" in (ends[1].word.message or "")


def test_rows_that_do_not_fit_are_learned_from(tmp_path: Path) -> None:
    """Under a memory limit that is smaller than the rows, and without being asked to use the disk."""
    if reason := why_not():
        pytest.skip(reason)
    spec = {
        "workload": {"linear": {"task": "regression"}},
        "data": {
            "synthetic": {"regression": {"rows": 1_000_000, "features": 80}},
            "cache": {"path": str(tmp_path)},
        },
        "output": {"uri": str(tmp_path / "model")},
    }
    (environment,) = rank_environments(spec, 1, tmp_path)
    with memory_group(LIMIT) as group:
        done = subprocess.run(
            group.command(sys.executable, "-m", "scaletrain"),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    word = LastWord.from_json(Path(environment[ENV_TERMINATION_LOG]).read_text())
    assert done.returncode == 0, done.stderr
    assert word is not None
    assert word.rows == 1_000_000
