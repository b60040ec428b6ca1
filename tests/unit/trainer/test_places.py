"""Data and models in object stores and on web servers: the same rows and bytes as on a volume, and errors that name the place."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch

from scaletrain.artifact import FACTS, SUCCESS, TENSORS, Model, claim, read, save
from scaletrain.data import arrays, delimited
from scaletrain.errors import InvalidData, InvalidSpec, Unreachable
from scaletrain.storage.file import File
from scaletrain.storage.folder import open_folder
from scaletrain.storage.uri import file_system, local_path
from tests.places import ObjectStore, object_store, web_server
from tests.unit.trainer.datasets import KMEANS, NUM_ROWS, SVM, WRITERS, column, make_table, read_rows

SMALL = Model(arrays={"estimator/a": np.eye(2)}, facts={"rows": 3})


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture
def bucket(store: ObjectStore, request: pytest.FixtureRequest) -> str:
    """A part of the store for this test alone."""
    return "s3://bucket/" + re.sub(r"\W", "-", request.node.name)


@pytest.mark.parametrize("name", WRITERS)
def test_an_object_store_gives_the_rows_of_a_volume(
    tmp_path: Path, store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """To the bit, each by one of three ranks, also where files are read in pieces."""
    monkeypatch.setattr(delimited, "PART_BYTES", 300_000)
    monkeypatch.setattr(arrays, "PART_BYTES", 300_000)
    options = WRITERS[name](make_table(), tmp_path)
    store.put(tmp_path, bucket)
    local, remote = read_rows(str(tmp_path), SVM, **options), read_rows(bucket, SVM, 3, **options)
    assert column(remote, "row_N").tolist() == list(range(NUM_ROWS))
    for part in ("X_ND", "y_N", "weight_N"):
        assert torch.equal(column(local, part), column(remote, part))


@pytest.mark.parametrize(
    ("pattern", "want"),
    [
        ("day=*/part-*.csv", [1, 2, 3]),
        ("**/*.csv", [1, 2, 3, 9]),
        ("day=[12]/*.csv", [1, 2]),
        ("day=1/part-1.csv", [1]),
        ("", [1, 2, 3]),
    ],
)
def test_patterns_and_folders_mean_the_same_in_both(
    tmp_path: Path, store: ObjectStore, bucket: str, pattern: str, want: list[int]
) -> None:
    """Notes of other programs and other folders are left out."""
    for name, value in {
        "day=1/part-1": 1,
        "day=2/part-1": 2,
        "day=2/_part-9": 7,
        "day=3/part-2": 3,
        "old/x": 9,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.csv").write_text(f"a\n{value}\n")
    store.put(tmp_path, bucket)
    for place in (str(tmp_path), bucket):
        (data,) = read_rows(f"{place}/{pattern}".rstrip("/"), KMEANS, features=["a"], prepare={"missing": "drop"})
        assert column([data], "X_ND")[:, 0].tolist() == want


def write_wide(folder: Path, name: str) -> Path:
    """60,000 rows of 40 columns, in pieces of 5,000 rows or fewer."""
    path = folder / name
    columns = {f"x{j}": np.random.default_rng(j).standard_normal(60_000) for j in range(40)}
    if name.endswith(".parquet"):
        pq.write_table(pa.table(columns), path, row_group_size=5_000, compression="none")
    elif name.endswith(".arrow"):
        pa.feather.write_feather(pa.table(columns), str(path), chunksize=5_000, compression="uncompressed")
    else:
        np.save(path, np.stack(list(columns.values()), axis=1))
    return path


@pytest.mark.parametrize(("name", "share"), [("t.parquet", 0.12), ("t.arrow", 0.2), ("t.npy", 1.4)])
def test_ranks_fetch_their_rows_and_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, share: float
) -> None:
    """Two of 40 columns by three ranks, of whom none needs the whole file. npy has no columns of its own; Arrow's are counted first."""
    monkeypatch.setattr(arrays, "PART_BYTES", 1 << 20)
    path = write_wide(tmp_path, name)
    with web_server(tmp_path) as server:
        read_rows(f"{server.url}/{name}", KMEANS, 3, features=["x7", "x8"])
        assert server.bytes_sent() < share * path.stat().st_size


def test_a_server_without_ranges_is_told(tmp_path: Path) -> None:
    """Rows from the wrong place would be worse than none."""
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 1_000_000)
    with (
        web_server(tmp_path, with_ranges=False) as server,
        pytest.raises(InvalidData, match=r"t.csv: .* were asked for, 2000002 came: .* does not serve ranges"),
    ):
        read_rows(f"{server.url}/t.csv", KMEANS)


def test_a_folder_and_a_pattern_of_a_web_page_are_its_links(tmp_path: Path) -> None:
    """A question mark is no pattern there, but the beginning of a query."""
    for number in (1, 2):
        (tmp_path / f"{number}.csv").write_text(f"a\n{number}\n")
    with web_server(tmp_path) as server:
        for uri, want in {"/": [1, 2], "/*.csv": [1, 2], "/2.csv?download=1": [2]}.items():
            assert column(read_rows(server.url + uri, KMEANS), "X_ND")[:, 0].tolist() == want


def test_a_server_that_stumbles_is_asked_again(tmp_path: Path) -> None:
    """By the driver, a few times."""
    (tmp_path / "t.csv").write_text("a\n1\n2\n")
    with web_server(tmp_path) as server:
        server.statuses += [503, 500]
        assert read_rows(f"{server.url}/t.csv", KMEANS)[0].train.num_rows == 2


@pytest.mark.parametrize(
    ("status", "want"), [(401, "access was refused"), (404, "no such file"), (403, "access was refused")]
)
def test_what_a_web_server_refuses_is_told(tmp_path: Path, status: int, want: str) -> None:
    """And not asked for again."""
    with web_server(tmp_path) as server:
        (tmp_path / "t.csv").write_text("a\n1\n2\n")
        file = File(f"{server.url}/t.csv").open()
        server.statuses.append(status)
        with pytest.raises(InvalidData, match=rf"/t.csv: .*{want}"):
            file.read()


PROBLEMS: dict[str, tuple[str, type[Exception], str]] = {
    "no such file": ("s3://bucket/none.csv", InvalidData, "s3://bucket/none.csv: no such file or folder"),
    "no such bucket": ("s3://none/t.csv", InvalidData, "s3://none/t.csv: no such file"),
    "no such page": ("{web}/none.csv", InvalidData, "none.csv: no such file or folder"),
    "no match": ("s3://bucket/none/*.csv", InvalidData, r"none/\*.csv: no file matches"),
    "all buckets": ("s3://*/t.csv", InvalidData, r"s3://\*/t.csv: "),
    "only a bucket's name": ("s3://", InvalidSpec, "s3:// names no bucket"),
    "a password": ("s3://me:hunter2@bucket/t.csv", InvalidSpec, "^data.files.uri: the URI holds a user and a password"),
    "a token": ("https://token@host/t.csv", InvalidSpec, "^data.files.uri: the URI holds a user and a password"),
    "unknown scheme": ("s4://bucket/t.csv", InvalidSpec, "s4:// is not known. Known are paths, file://, s3://.*abfs"),
    "capitals": ("HTTP://host/t.csv", InvalidSpec, "write the scheme in small letters: http://$"),
    "one slash": ("s3:/bucket/t.csv", InvalidSpec, "s3:/bucket/t.csv is no URL: write s3://bucket/t.csv$"),
    "one slash and a path": ("file:/data/t.csv", InvalidSpec, "is no URL: write file:///data/t.csv$"),
    "driver of another package": ("abfs://c@account/t.csv", InvalidSpec, "a driver that is not installed: .*adlfs"),
    "one inside another": ("zip://t.csv::s3://bucket/t.zip", InvalidSpec, r"\(::\) are not supported"),
    "another machine": ("file://host/t.csv", InvalidSpec, "names the machine host"),
    "a driver that connects at once": (
        "ftp://127.0.0.1:1/t.csv",
        Unreachable,
        "^data.files.uri: ftp://.* be reached: Conn",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_wrong_with_a_uri_is_told(tmp_path: Path, store: ObjectStore, name: str) -> None:
    """With the field and the URI, but no password."""
    uri, kind, want = PROBLEMS[name]
    with web_server(tmp_path) as server, pytest.raises(kind, match=want) as caught:
        read_rows(uri.format(web=server.url), KMEANS)
    assert "hunter2" not in str(caught.value)


def test_a_driver_prints_no_tracebacks_of_its_own() -> None:
    """gcsfs does of each try that fails; the error of the last one says all."""
    program = (
        "import logging; from scaletrain.storage.uri import file_system; file_system('memory://a', 'output.uri');"
        "logging.getLogger('gcsfs').error('pages'); logging.getLogger('other').error('seen')"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert printed == "seen\n"


def test_a_store_is_no_place_on_this_machine() -> None:
    """For what has to be a path."""
    with pytest.raises(InvalidSpec, match=r"^data.cache.path: s3://b/c is not on this machine: a path is needed"):
        local_path("s3://b/c", "data.cache.path")


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""

    def missing(scheme: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(InvalidSpec, match=r"output.uri: s3://b/m needs a driver .*: pip install 'scalejob\[s3\]'"):
        claim("s3://b/m")


def forbid(store: ObjectStore, bucket: str) -> None:
    store.files.mkdir(bucket)
    deny = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*"}]}'
    store.files.call_s3("put_bucket_policy", Bucket=bucket, Policy=deny)


@pytest.mark.parametrize("act", [lambda: read_rows("s3://closed/t.csv", KMEANS), lambda: claim("s3://closed/model")])
def test_what_is_forbidden_is_told(store: ObjectStore, act: Callable[[], Any]) -> None:
    """Before the work."""
    if not store.files.exists("closed"):
        forbid(store, "closed")
    with pytest.raises(InvalidData, match=r"(data.files.uri|output.uri): s3://closed/\S+: access was refused"):
        act()


def test_no_credentials_are_told(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that has an identity would be asked for it; here nobody answers."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"use_ssl": False})  # another instance of the driver
    with pytest.raises(InvalidData, match=r"s3://bucket/t.csv: access was refused: Unable to locate credentials"):
        read_rows("s3://bucket/t.csv", KMEANS)


def test_a_store_that_goes_away_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new attempt may find it again: no fault of the user's."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"retries": {"total_max_attempts": 1}}})
    with object_store() as store:
        (tmp_path / "t.csv").write_text("a\n" + "1\n" * 1_000_000)
        store.put(tmp_path, "s3://bucket")
        stream = File("s3://bucket/t.csv").open()
        assert stream.readline() == b"a\n"
        store.stop()
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"^s3://bucket/t.csv cannot be reached: \w+: Could not connect"):
            stream.read()
        with pytest.raises(Unreachable, match=r"^output.uri: s3://bucket/model cannot be reached"):
            save(SMALL, "s3://bucket/model")
        assert time.monotonic() - started < 5


def test_the_driver_asks_a_few_times_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's own configuration counts first."""
    assert file_system("s3://bucket/t", "uri")[0].config_kwargs["retries"]["total_max_attempts"] == 4
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"retries": {"total_max_attempts": 9}}})
    assert file_system("s3://bucket/t", "uri")[0].config_kwargs["retries"]["total_max_attempts"] == 9


def test_a_model_is_saved_and_read_again(store: ObjectStore, bucket: str) -> None:
    """Over an older one, and with nothing else beside it."""
    claim(bucket)
    save(Model(arrays={"estimator/a": np.zeros(3)}, facts={}), bucket)
    saved = save(SMALL, bucket)
    found = read(bucket)
    assert (found.facts["rows"], found.facts["sha256"], found.arrays["estimator/a"].tolist()) == (
        3,
        saved.sha256,
        [[1, 0], [0, 1]],
    )
    assert sorted(store.files.ls(bucket)) == sorted(f"{bucket[5:]}/{name}" for name in (TENSORS, FACTS, SUCCESS))


def test_the_mark_goes_first_and_comes_last(store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of a model that is half replaced finds no mark."""
    save(SMALL, bucket)
    driver, _ = file_system(bucket, "output.uri")
    put = driver.pipe_file

    def fail_at_facts(path: str, content: bytes) -> None:
        if path.endswith(FACTS):
            raise TimeoutError("lost")
        put(path, content)

    monkeypatch.setattr(driver, "pipe_file", fail_at_facts)
    with pytest.raises(Unreachable, match="lost"):
        save(SMALL, bucket)
    with pytest.raises(InvalidData, match="holds no complete model"):
        read(bucket)


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_a_folder_is_the_same_wherever_it_lies(tmp_path: Path, store: ObjectStore, bucket: str, kind: str) -> None:
    """Written, listed, read, removed; what is not there is an error when read only."""
    folder = open_folder(f"{tmp_path}/a/b" if kind == "local" else bucket, "checkpoint.uri")
    assert (folder.names(), folder.exists("one")) == ([], False)
    folder.claim()
    folder.write({"two": b"2", "one": b"1"})
    folder.remove("two")
    folder.remove("two")
    assert (folder.names(), folder.exists("one"), folder.read("one")) == (["one"], True, b"1")
    with pytest.raises(InvalidData, match=r"checkpoint.uri: \S+/two"):
        folder.read("two")


def test_a_web_server_takes_no_model(tmp_path: Path) -> None:
    """Said before the work."""
    with web_server(tmp_path) as server, pytest.raises(InvalidSpec, match=r"output.uri: http://\S+ can be read only"):
        claim(f"{server.url}/model")


def test_a_model_of_a_server_that_does_not_answer_is_not_said_to_be_missing() -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        read("http://127.0.0.1:1/model")
