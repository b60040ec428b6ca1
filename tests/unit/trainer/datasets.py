"""A table in files of every format, and its rows as ranks read them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import torch

from scalejob.api.v1alpha1 import Spec
from scaletrain.comm import Comm
from scaletrain.data.load import Dataset, load
from tests.ranks import on_ranks

NUM_ROWS = 40_000  # several blocks of 16,384 rows
KMEANS = {"kmeans": {"clusters": 2}}
REGRESSION = {"linear": {"task": "regression"}}
SVM = {"svm": {}}


def make_table() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "a": rng.standard_normal(NUM_ROWS),
            "b": rng.integers(0, 100, NUM_ROWS),
            "y": rng.choice(["no", "yes"], NUM_ROWS),
            "w": rng.random(NUM_ROWS),
        }
    )


# Each writes the table into a folder and returns the options of data.files that tell its label and weight.
Writer = Callable[[pa.Table, Path], dict[str, Any]]
NAMED = {"label": "y", "weight": "w"}


def write_parquet(table: pa.Table, folder: Path) -> dict[str, Any]:
    third = table.num_rows // 3
    pq.write_table(table.slice(0, third), folder / "1.parquet", row_group_size=5000)
    pq.write_table(table.slice(third), folder / "2.parquet", row_group_size=7000)
    return NAMED


def write_csv(table: pa.Table, folder: Path) -> dict[str, Any]:
    third = table.num_rows // 3
    pa.csv.write_csv(table.slice(0, third), folder / "1.csv")
    pa.csv.write_csv(table.slice(third), folder / "2.csv")
    return NAMED


def write_arrow(table: pa.Table, folder: Path) -> dict[str, Any]:
    third = table.num_rows // 3
    with pa.ipc.new_file(folder / "1.arrow", table.schema) as file:
        file.write_table(table.slice(0, third), max_chunksize=5000)
    with pa.ipc.new_stream(folder / "2.arrows", table.schema) as stream:
        stream.write_table(table.slice(third), max_chunksize=7000)
    return NAMED


def write_feather(table: pa.Table, folder: Path) -> dict[str, Any]:
    """Compressed, and with text as a dictionary."""
    encoded = table.set_column(table.schema.get_field_index("y"), "y", table["y"].dictionary_encode())
    pa.feather.write_feather(encoded, folder / "t.feather", compression="lz4", chunksize=9000)
    return NAMED


def write_npy(table: pa.Table, folder: Path) -> dict[str, Any]:
    rows = np.empty(table.num_rows, dtype=[("a", "f8"), ("b", "i8"), ("y", "U3"), ("w", "f8")])
    for name in rows.dtype.names:
        rows[name] = table[name].to_pylist()
    np.save(folder / "t.npy", rows)
    return NAMED


def write_npy_by_columns(table: pa.Table, folder: Path) -> dict[str, Any]:
    columns = (table["a"], table["b"], np.equal(table["y"].to_numpy(), "yes"), table["w"])
    np.save(folder / "t.npy", np.asfortranarray(np.stack(columns, axis=1, dtype=np.float64)))
    return {"label": "x2", "weight": "x3"}


def write_npz(table: pa.Table, folder: Path) -> dict[str, Any]:
    np.savez(folder / "t.npz", **{name: table[name].to_numpy() for name in ("a", "b", "w")}, y=table["y"].to_pylist())
    return NAMED


def write_partitions(table: pa.Table, folder: Path) -> dict[str, Any]:
    """The label and a constant are the names of folders. In the order of the rows of `table` if that is sorted by the label."""
    for label in ("no", "yes"):
        (folder / f"y={label}" / "v=7").mkdir(parents=True)
        rows = table.filter(pa.compute.equal(table["y"], label)).drop_columns("y")
        pq.write_table(rows, folder / f"y={label}" / "v=7" / "part-0.parquet", row_group_size=6000)
    return NAMED


WRITERS: Mapping[str, Writer] = {
    writer.__name__.removeprefix("write_"): writer
    for writer in (
        write_parquet,
        write_csv,
        write_arrow,
        write_feather,
        write_npy,
        write_npy_by_columns,
        write_npz,
        write_partitions,
    )
}


def read_rows(uri: str, workload: dict[str, Any], size: int = 1, **more: Any) -> list[Dataset]:
    """The data set as each of `size` ranks has it. Options of data.files, and `prepare` and `validation`."""
    parts = {name: more.pop(name, None) for name in ("prepare", "validation")}
    data = {"files": {"uri": uri, **more}}
    spec = Spec.model_validate({"workload": workload, "data": data, "output": {"uri": "/nowhere"}, **parts})

    def one(comm: Comm) -> Dataset:
        return load(comm, spec, threads=1, progress=lambda step, **kwargs: None)

    return on_ranks(size, one)


def column(parts: list[Dataset], name: str) -> torch.Tensor:
    return torch.cat([getattr(block, name) for part in parts for block in part.train.blocks])
