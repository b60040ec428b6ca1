"""Real ranks that read from an object store and write to it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scaletrain
from scalejob.contract import Reason
from tests.dist.world import free_port, run
from tests.places import ObjectStore, object_store

NUM_ROWS = 40_000


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of two days."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for day in (1, 2):
        (folder / f"day={day}").mkdir()
        rows = rng.standard_normal((NUM_ROWS // 2, 3))
        table = pa.table({"a": rows[:, 0], "b": rows[:, 1], "y": rows @ [1.0, 2.0, 0.1] + day})
        pq.write_table(table, folder / f"day={day}" / "part-0.parquet", row_group_size=6000)
    return folder


def spec(data: str, output: str) -> dict[str, Any]:
    return {
        "workload": {"linear": {"task": "regression"}},
        "data": {"files": {"uri": data, "label": "y"}},
        "output": {"uri": output},
    }


def test_two_ranks_read_from_a_store_and_write_to_it(store: ObjectStore, folder: Path, tmp_path: Path) -> None:
    """The bytes of one rank on a volume; and the model loads from there."""
    store.put(folder, "s3://bucket/data")
    ends = run(spec("s3://bucket/data", "s3://bucket/model"), 2, env=store.env)
    assert [end.exit_code for end in ends] == [0, 0], ends
    (alone,) = run(spec(str(folder), str(tmp_path)), 1)
    assert ends[0].word.model_sha256 == alone.word.model_sha256
    model = scaletrain.load("s3://bucket/model")
    assert list(model.feature_names_in_) == ["a", "b", "day"]
    np.testing.assert_array_equal(model.coef_, scaletrain.load(tmp_path).coef_)


def test_a_store_that_does_not_answer_may_be_tried_again(store: ObjectStore, tmp_path: Path) -> None:
    """By the operator: exit code 1, with the place and the reason, from the rank that saw it."""
    env = {
        **store.env,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "FSSPEC_S3": json.dumps({"config_kwargs": {"retries": {"total_max_attempts": 1}}}),
    }
    ends = run(spec("s3://bucket/data", str(tmp_path / "model")), 2, env=env)
    assert [end.exit_code for end in ends] == [1, 1], ends
    assert ends[0].word, ends
    assert ends[0].word.reason == Reason.STORAGE_UNREACHABLE
    assert ends[0].word.message.startswith("data.files.uri: s3://bucket/data cannot be reached")
