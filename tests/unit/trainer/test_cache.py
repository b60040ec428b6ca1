"""Rows on a disk give what rows in memory give; what goes wrong there is said; nothing stays there."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from scalejob.api.v1alpha1 import Prepare, Spec
from scaletrain.comm import Comm
from scaletrain.data import cache
from scaletrain.data.blocks import READ_AHEAD, Block, Blocks, Room
from scaletrain.data.cache import BlockFile, Disk
from scaletrain.data.load import Dataset, load
from scaletrain.errors import CacheLost, InvalidData
from scaletrain.estimators import estimator_for
from scaletrain.estimators.kmeans.nearest import RowState
from scaletrain.evaluate import evaluate
from scaletrain.prepare.preparation import fit_preparation
from tests.ranks import on_ranks
from tests.unit.estimators.builders import fit, make_blocks
from tests.unit.estimators.builders import on_ranks as on_ranks_of_blocks
from tests.unit.estimators.test_ranks import WORKLOADS, data, sha

CPU = torch.device("cpu")
NUM_ROWS = 50_000  # four blocks
LINEAR = {"linear": {"task": "classification"}}
JOBS: dict[str, dict[str, Any]] = {
    "as they are": {"workload": {"kmeans": {"clusters": 2}}},
    "weights and medians": {"workload": {"kmeans": {"clusters": 2}}, "weight": "w", "prepare": {"missing": "median"}},
    "labels as text, held back": {"workload": LINEAR, "label": "s", "prepare": {"missing": "mean"}, "validation": {}},
    "dropped rows": {"workload": {"linear": {"task": "regression"}}, "label": "w", "prepare": {"missing": "drop"}},
    "principal components": {
        "workload": {"svm": {}},
        "label": "s",
        "prepare": {"missing": "median", "scale": "standard", "pca": {"components": 2}},
    },
}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows with missing values but in column `whole`, weights, and labels as text that are not met in the order of their names."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    rng = np.random.default_rng(2)
    X = rng.normal([0, 3, 1e6], size=(NUM_ROWS, 3))
    X[rng.random(X.shape) < 0.01] = np.nan
    text = np.where(np.arange(NUM_ROWS) % 1000 < 500, "yes", "no")
    columns = {f"x{j}": X[:, j] for j in range(3)} | {"whole": X[:, 0] > 0, "w": rng.random(NUM_ROWS), "s": text}
    pq.write_table(pa.table(columns), path, row_group_size=7000)
    return str(path)


def spec_of(uri: str, job: dict[str, Any], **cached: Any) -> Spec:
    more = {name: value for name, value in job.items() if name in ("weight", "label")}
    features = ["x0", "x1", "x2"] if "prepare" in job else ["whole"]
    rest = {name: value for name, value in job.items() if name not in more}
    files = {"uri": uri, "features": features, **more}
    return Spec.model_validate({"data": {"files": files, "cache": cached}, "output": {"uri": "/nowhere"}, **rest})


def prepared(comm: Comm, spec: Spec, threads: int = 1) -> Dataset:
    def quiet(step: int, **figures: object) -> None: ...

    read = load(comm, spec, threads=threads, progress=quiet)
    preparation = fit_preparation(comm, read.train, spec.prepare or Prepare(), read.columns, quiet)
    return read.map(preparation.apply)


def rows_of(datasets: list[Dataset]) -> dict[str, bytes]:
    """All tensors of the blocks of all ranks."""
    sides = {"train": [d.train for d in datasets], "held": [d.held for d in datasets if d.held]}
    return {
        f"{side} {name}": b"".join(
            getattr(block, name).numpy().tobytes()
            for blocks in parts
            for block in blocks.blocks
            if getattr(block, name) is not None
        )
        for side, parts in sides.items()
        for name in cache.FIELDS
    }


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
def test_the_same_rows_with_and_without_a_cache(uri: str, tmp_path: Path, job: dict[str, Any], size: int) -> None:
    """To the bit, on any number of ranks, read by two threads; only one of the two is in memory."""
    memory = on_ranks(1, lambda comm: prepared(comm, spec_of(uri, job, mode="never")))
    disk = on_ranks(size, lambda comm: prepared(comm, spec_of(uri, job, mode="always", path=str(tmp_path)), threads=2))
    assert isinstance(memory[0].train.blocks, list)
    assert not any(isinstance(part.train.blocks, list) for part in disk)
    assert rows_of(memory) == rows_of(disk)


@contextmanager
def on_disk(folder: Path, blocks: Blocks) -> Iterator[Blocks]:
    """The same blocks in a file."""
    disk = Disk(folder=folder, limit=1 << 30)
    store = BlockFile(disk, CPU)
    for block in blocks.blocks:
        store.append(block)
    yield replace(blocks, blocks=store, room=Room(new_store=partial(BlockFile, disk, CPU), scratch=disk.scratch))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", WORKLOADS)
def test_the_same_model_with_and_without_a_cache(tmp_path: Path, name: str, size: int) -> None:
    """Every workload, with weights: the bytes of the fit, and the metrics."""
    workload = WORKLOADS[name]
    X, y, weight = data(name, np.float32)
    blocks = make_blocks(X, y, weight=weight)
    module, params = estimator_for(workload), getattr(workload, workload.name)

    def learn(comm: Comm, mine: Blocks) -> tuple[str, dict[str, float]]:
        result = fit(module, params, mine, comm=comm)
        return sha(result), evaluate(comm, workload, result, mine)

    def learn_from_disk(comm: Comm, mine: Blocks) -> tuple[str, dict[str, float]]:
        with on_disk(tmp_path, mine) as stored:
            return learn(comm, stored)

    (memory,) = on_ranks_of_blocks(1, blocks, learn)
    assert on_ranks_of_blocks(size, blocks, learn_from_disk) == [memory] * size


def make_file(folder: Path, num_blocks: int = 3, limit: int = 1 << 30) -> BlockFile:
    store = BlockFile(Disk(folder=folder, limit=limit), CPU)
    for n in range(num_blocks):
        store.append(Block(row_N=torch.arange(100) + 100 * n, X_ND=torch.full((100, 4), float(n))))
    return store


def damage(store: BlockFile) -> None:
    """One byte of the second block."""
    os.pwrite(store._file.through, b"?", store._records[1].offset + 900)


def test_a_damaged_block_is_noticed(tmp_path: Path) -> None:
    """By the first reader of that block; the others are read. The message names the folder."""
    store = make_file(tmp_path)
    damage(store)
    assert store[0].X_ND[0, 0] == 0
    with pytest.raises(CacheLost, match=f"the cache of rows in {tmp_path} is damaged"):
        store[1]


def test_a_file_that_was_cut_is_noticed(tmp_path: Path) -> None:
    """Also after the block was checked."""
    store = make_file(tmp_path)
    assert len([*store]) == 3
    os.ftruncate(store._file.through, store._records[2].offset + 8)
    with pytest.raises(CacheLost, match="damaged"):
        store[2]


def test_the_error_of_a_block_ends_the_pass(tmp_path: Path) -> None:
    """Not the thread that reads ahead."""
    store = make_file(tmp_path)
    damage(store)
    blocks = Blocks(blocks=store, num_rows=300, num_features=4, num_blocks=3, threads=2)
    with pytest.raises(CacheLost, match="damaged"):
        list(blocks.map(len))


@pytest.mark.parametrize(("threads", "want"), [(1, 1 + READ_AHEAD), (2, 4 + READ_AHEAD)])
def test_few_blocks_are_in_memory(tmp_path: Path, threads: int, want: int) -> None:
    """Those that are worked on or handed to a thread, and those that are read ahead."""
    alive, most = set(), 0

    class Counting(BlockFile):
        def __getitem__(self, index: int) -> Block:
            nonlocal most
            alive.add(index)
            most = max(most, len(alive))
            return super().__getitem__(index)

    store = Counting(Disk(folder=tmp_path, limit=1 << 30), CPU)
    for block in make_file(tmp_path, num_blocks=40):
        store.append(block)
    blocks = Blocks(blocks=store, num_rows=4000, num_features=4, num_blocks=40, threads=threads)
    for _ in blocks.map(lambda block: alive.discard(int(block.row_N[0]) // 100)):
        pass
    assert threads <= most <= want


def test_a_sample_and_sought_rows_read_no_other_blocks(tmp_path: Path) -> None:
    """Which blocks they are is known without reading."""
    store = make_file(tmp_path)
    blocks = Blocks(blocks=store, num_rows=300, num_features=4, num_blocks=3)
    damage(store)
    found = [int(block.row_N[0]) for block in blocks.holding(torch.tensor([250, 7])).blocks]
    assert found == [0, 200]


def test_labels_are_read_without_features(tmp_path: Path) -> None:
    """Damage to the features is not seen, damage to what is read is."""
    store = make_file(tmp_path)
    damage(store)
    assert store.featureless[1].X_ND.shape == (100, 0)
    assert store.featureless[1].row_N[0] == 100
    os.pwrite(store._file.through, b"?", store._records[2].offset)
    with pytest.raises(CacheLost, match="damaged"):
        store.featureless[2]


def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder, and what the cache has there."""
    store = make_file(tmp_path)

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InvalidData, match=rf"{tmp_path} is full .*: .* KiB of the cache are in it"):
        store.append(store[0])


@pytest.mark.parametrize(
    ("cached", "want"),
    [
        ({"sizeLimit": "1Mi"}, r"sizeLimit is 1Mi, which is 1 MiB for each process, but about .* MiB are needed"),
        ({"path": "/nowhere/at/all"}, "/nowhere/at/all cannot be used: No such file"),
        ({"path": "/proc"}, "/proc"),
    ],
    ids=["limit", "no folder", "no room"],
)
def test_no_room_is_told_before_rows_are_read(uri: str, cached: dict[str, str], want: str) -> None:
    """What is needed, and what there is."""
    spec = spec_of(uri, JOBS["principal components"], mode="always", **cached)
    with pytest.raises(InvalidData, match=want):
        on_ranks(1, lambda comm: prepared(comm, spec))


def test_a_cache_that_outgrows_its_limit_ends(tmp_path: Path) -> None:
    """Should the estimate be wrong."""
    with pytest.raises(InvalidData, match="more than the 10 KiB that a process may use"):
        make_file(tmp_path, limit=10 * 1024)


def test_the_room_of_a_file_is_given_back(tmp_path: Path) -> None:
    """As soon as nobody has it: the rows as they were read go when the prepared ones are there."""
    store = make_file(tmp_path)
    disk, descriptor = store._disk, store._file.through
    assert disk.used > 0
    del store
    assert disk.used == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


WAITING = """
import sys, torch
from pathlib import Path
from scaletrain.data.blocks import Block
from scaletrain.data.cache import BlockFile, Disk
store = BlockFile(Disk(folder=Path(sys.argv[1]), limit=10**9), torch.device("cpu"))
store.append(Block(row_N=torch.arange(9), X_ND=torch.ones(9, 2)))
print("ready", flush=True)
sys.stdin.read()
"""


def test_nothing_stays_when_the_process_is_killed(tmp_path: Path) -> None:
    """The file has no name from the start."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = list(tmp_path.iterdir())
        process.send_signal(signal.SIGKILL)
    assert found == []
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_rows_go_to_the_disk_with_them(tmp_path: Path) -> None:
    """What an estimator keeps for each row lies in a file too, counts for the limit, and is given back."""
    store = make_file(tmp_path)
    disk = store._disk
    before = disk.used
    blocks = Blocks(
        blocks=store, num_rows=300, num_features=4, num_blocks=3, room=Room(new_store=list, scratch=disk.scratch)
    )
    state = RowState(blocks, 7, torch.int64)
    assert state.of(store[1]).tolist() == [7] * 100
    assert disk.used == before + 300 * 8
    del state
    assert disk.used == before
