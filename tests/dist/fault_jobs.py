"""Jobs to disturb: each fits for seconds, so that a fault at a random moment meets every phase."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Spec = dict[str, Any]

ROWS_OF_A_BLOCK = 16_384  # of few features
GIVEN = {"checkpoint": {"everySeconds": 1}, "seed": 3}


def synthetic(workload: dict[str, Any], **data: Any) -> Callable[[Path], Spec]:
    return lambda folder: {"workload": workload, "data": {"synthetic": data}, **GIVEN}


def sorted_by_class(folder: Path) -> Spec:
    """Three blocks of one class, then one of the other: with four ranks each has one class only."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 0, 0, 1], ROWS_OF_A_BLOCK)
    columns = {f"c{j}": rng.standard_normal(len(y)) + y for j in range(8)}
    return _of_files(folder, columns | {"y": y}, {"svm": {"loss": "hinge", "tolerance": 1e-7}}, label="y")


def few_rows(folder: Path) -> Spec:
    """One row more than a block: with two ranks the second has fewer rows than there are clusters, a third has none."""
    rng = np.random.default_rng(0)
    columns = {f"c{j}": rng.standard_normal(ROWS_OF_A_BLOCK + 1) for j in range(8)}
    return _of_files(folder, columns, {"kmeans": {"clusters": 12, "restarts": 25, "init": "random"}})


def _of_files(folder: Path, columns: dict[str, np.ndarray], workload: dict[str, Any], **files: str) -> Spec:
    path = folder / "rows.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path, row_group_size=4096)
    return {"workload": workload, "data": {"files": {"uri": str(path), **files}}, **GIVEN}


def on_disk(job: Callable[[Path], Spec]) -> Callable[[Path], Spec]:
    """The same job, whose ranks keep their rows in files."""

    def spec(folder: Path) -> Spec:
        cache = folder / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        found = job(folder)
        return found | {"data": found["data"] | {"cache": {"mode": "always", "path": str(cache)}}}

    return spec


KMEANS = "kmeans"
JOBS: dict[str, Callable[[Path], Spec]] = {
    KMEANS: synthetic(
        {"kmeans": {"clusters": 12, "restarts": 20, "init": "random"}},
        blobs={"rows": 40_000, "features": 8, "centers": 20},
    ),
    "svm hinge": synthetic(
        {"svm": {"loss": "hinge", "tolerance": 1e-5}},
        classification={"rows": 20_000, "features": 20, "informative": 10, "classes": 6},
    ),
    "svm": synthetic(
        {"svm": {"tolerance": 1e-8}},
        classification={"rows": 100_000, "features": 30, "informative": 10, "classes": 4},
    ),
    "logistic": synthetic(
        {"linear": {"task": "classification", "tolerance": 1e-10}},
        classification={"rows": 300_000, "features": 30},
    ),
    "multinomial": synthetic(
        {"linear": {"task": "classification", "tolerance": 1e-9}},
        classification={"rows": 60_000, "features": 20, "informative": 10, "classes": 6},
    ),
    "regression": synthetic(
        {"linear": {"task": "regression"}},
        regression={"rows": 400_000, "features": 40},
    ),
}
ON_DISK = {f"{name}, rows on disk": on_disk(job) for name, job in JOBS.items()}
