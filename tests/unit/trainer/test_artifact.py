"""A model is written whole or not at all, and read only if it is whole."""

import functools
import json
import resource
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from scaletrain.artifact import FACTS, SUCCESS, TENSORS, Model, claim, read, save
from scaletrain.errors import InvalidData, InvalidSpec
from scaletrain.restore import load

SMALL = Model(arrays={"estimator/b": np.arange(3.0), "estimator/a": np.eye(2, dtype=np.float32)}, facts={"rows": 3})
LARGE = Model(arrays={"estimator/a": np.zeros(100_000)}, facts={})


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """A disk that is full after so many bytes: writes beyond fail as on a real one, with EFBIG instead of ENOSPC."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    """Numbers to the bit, and nothing else in the folder."""
    saved = save(SMALL, str(tmp_path))
    found = read(tmp_path)
    assert all(np.array_equal(found.arrays[name], value) for name, value in SMALL.arrays.items())
    assert (found.facts["rows"], found.facts["sha256"]) == (3, saved.sha256)
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS, FACTS, SUCCESS}


def test_the_bytes_depend_on_the_numbers_only(tmp_path: Path) -> None:
    """Not on time, place, facts, or the order of the arrays."""
    other = Model(arrays=dict(reversed(SMALL.arrays.items())), facts={"else": 1})
    for name, model in (("a", SMALL), ("b", other)):
        claim(f"file://{tmp_path}/{name}")
        save(model, f"file://{tmp_path}/{name}")
    assert (tmp_path / "a" / TENSORS).read_bytes() == (tmp_path / "b" / TENSORS).read_bytes()


@pytest.mark.parametrize(
    ("damage", "want"),
    [
        (lambda folder: (folder / SUCCESS).unlink(), "holds no complete model: _SUCCESS is missing"),
        (lambda folder: (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-1] + b"x"), "is damaged"),
        (lambda folder: (folder / TENSORS).unlink(), "No such file"),
        (lambda folder: (folder / FACTS).write_text("{"), "JSONDecodeError"),
        (lambda folder: (folder / FACTS).write_text('{"format": 99}'), "has format 99; this version reads format 1"),
    ],
    ids=["not finished", "a bit flipped", "no numbers", "no JSON", "of the future"],
)
def test_a_model_that_is_not_whole_is_refused(tmp_path: Path, damage: object, want: str) -> None:
    """With what is wrong."""
    save(SMALL, str(tmp_path))
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(InvalidData, match=want):
        read(tmp_path)


def damaged(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda facts: facts | changes


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no object": (lambda facts: [1, 2], "TypeError|ValueError"),
    "a list of lists": (lambda facts: functools.reduce(lambda inner, _: [inner], range(500), []), "Error"),
    "no hash": (lambda facts: {name: facts[name] for name in facts if name != "sha256"}, "is damaged"),
    "nothing but the hash": (
        lambda facts: {name: facts[name] for name in ("sha256", "format")},
        "KeyError: 'workload'",
    ),
    "unknown workload": (damaged(workload={"oracle": {}}), "KeyError"),
    "unknown step": (damaged(prepare=[{"kind": "../../etc"}]), "KeyError"),
    "a step without numbers": (damaged(prepare=[{"kind": "standard", "rows": 2}]), "KeyError"),
    "another step": (damaged(prepare=7), "TypeError"),
    "more names than features": (damaged(features=["a", "b", "c", "d"], featuresNamed=True), "4 names for 3 features"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_facts_of_any_shape_are_one_error(tmp_path: Path, name: str) -> None:
    """Nobody has to trust a model file to look at it."""
    damage, want = DAMAGES[name]
    facts = {"inertia": 0.0, "n_iter": 1, "converged": True, "num_distinct": 2, "restart": 0}
    common = {"workload": {"kmeans": {"clusters": 2}}, "prepare": [], "classes": None, "features": ["a"] * 3}
    arrays = {"estimator/cluster_centers": np.eye(2, 3)}
    save(Model(arrays=arrays, facts={**common, "featuresNamed": False, "estimator": facts}), str(tmp_path))
    assert isinstance(load(tmp_path), KMeans)
    (tmp_path / FACTS).write_text(json.dumps(damage(json.loads((tmp_path / FACTS).read_text()))))
    with pytest.raises(InvalidData, match=want):
        load(tmp_path)


def test_writers_do_not_meet(tmp_path: Path) -> None:
    """A rank of an attempt that was given up may write to the same folder at the same time."""
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda _: (claim(str(tmp_path)), save(LARGE, str(tmp_path)))[1].sha256, range(20)))
    assert {read(tmp_path).facts["sha256"]} == set(saved)
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS, FACTS, SUCCESS}


def test_a_full_disk_leaves_the_older_model_as_it_was(tmp_path: Path) -> None:
    """And no piece of the new one."""
    before = save(SMALL, str(tmp_path)).sha256
    with files_of_at_most(10_000), pytest.raises(InvalidData, match=f"output.uri: {tmp_path} cannot be written: File"):
        save(LARGE, str(tmp_path))
    assert read(tmp_path).facts["sha256"] == before
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS, FACTS, SUCCESS}


def test_a_model_replaced_by_halves_is_not_taken_for_whole(tmp_path: Path) -> None:
    """Here the second file cannot take its place: the mark of the older model is gone by then."""
    save(SMALL, str(tmp_path))
    (tmp_path / FACTS).unlink()
    (tmp_path / FACTS).mkdir()
    with pytest.raises(InvalidData, match="cannot be written"):
        save(LARGE, str(tmp_path))
    assert not (tmp_path / SUCCESS).exists()


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    """Here: a folder below a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidData, match=r"output.uri: \S+/file/model cannot be written: Not a directory"):
        claim(str(tmp_path / "file" / "model"))


def test_a_path_that_only_a_shell_understands_is_refused() -> None:
    """A folder named ~ would be made, and `rm -r ~` is not how anybody should get rid of it."""
    with pytest.raises(InvalidSpec, match=r"output\.uri: ~/model begins with ~, which is not expanded"):
        claim("~/model")


def test_a_url_with_one_slash_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model would lie in a folder named s3: in the worker, and go with it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidSpec, match=r"output\.uri: s3:/b/model is no URL: write s3://b/model"):
        claim("s3:/b/model")
    assert not any(tmp_path.iterdir())
