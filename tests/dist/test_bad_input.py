"""Bad input ends the whole job with exit code 2 and one clear message, never with a retry or a hang.

All jobs of the table run at once: most of the time goes into imports.
"""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dist.world import End, run, running

KMEANS = {"kmeans": {"clusters": 2}}
SVM = {"svm": {}}


def blobs(rows: int = 100, features: int = 2) -> dict[str, Any]:
    return {"synthetic": {"blobs": {"rows": rows, "features": features}}}


def write_files(folder: Path) -> None:
    (folder / "text.csv").write_text("a,b\n1,2\n3,late\n")
    (folder / "nan.csv").write_text("a,b\n1,2\n3,\n")
    (folder / "one.csv").write_text("a,y\n1,k\n2,k\n")
    (folder / "file").write_text("")


def files(name: str, **more: Any) -> dict[str, Any]:
    return {"files": {"uri": "{folder}/" + name, **more}}


# name: (changes of the spec, reason, what the message says)
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing file": ({"data": files("none.csv")}, "InvalidData", "none.csv: no such file or folder"),
    "missing column": ({"data": files("nan.csv", features=["c"])}, "InvalidData", "nan.csv has no column c"),
    "text in a number": ({"data": files("text.csv")}, "InvalidData", "text.csv: column b holds text: 'late' in row 2"),
    "NaN": ({"data": files("nan.csv")}, "InvalidData", "nan.csv: column b is missing or NaN"),
    "one class": ({"workload": SVM, "data": files("one.csv", label="y")}, "InvalidData", "y has one class only, 'k'"),
    "zero rows": ({"data": blobs(rows=0)}, "InvalidData", "no rows"),
    "clusters": ({"workload": {"kmeans": {"clusters": 101}}}, "InvalidSpec", "clusters is 101, but there are only 100"),
    "output": ({"output": {"uri": "{folder}/file/model"}}, "InvalidData", "file/model cannot be written: Not a dir"),
    "beyond all numbers": (
        {"workload": {"svm": {"C": 1e300}}, "data": {"synthetic": {"classification": {"rows": 100, "features": 2}}}},
        "InvalidData",
        "the numbers are too large or too far apart to compute with",
    ),
    "spec": ({"seed": "seven"}, "InvalidSpec", "spec.seed: must be a whole number; got 'seven'"),
}


def spec_of(changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    spec = {"workload": KMEANS, "data": blobs(), "output": {"uri": "{folder}/model"}, **changes}
    return _filled(spec, folder)


def _filled(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, folder) for name, item in value.items()}
    return value.replace("{folder}", str(folder)) if isinstance(value, str) else value


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """How the job of each case ended."""
    folder = tmp_path_factory.mktemp("data")
    write_files(folder)
    with ExitStack() as stack:
        worlds = {
            name: stack.enter_context(running(spec_of(changes, folder), workers=1))
            for name, (changes, _, _) in CASES.items()
        }
        return {name: world.wait(timeout=120)[0] for name, world in worlds.items()}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_told(ends: dict[str, End], name: str) -> None:
    """By exit code, reason and message, in the last word and on stderr."""
    _, reason, message = CASES[name]
    end = ends[name]
    assert end.exit_code == 2, end.stderr
    assert end.word is not None
    assert (end.word.reason, message in (end.word.message or "")) == (reason, True), end.word
    assert message in end.stderr
    assert "Traceback" not in end.stderr


def test_a_bad_row_on_one_rank_ends_all_with_its_message(tmp_path: Path) -> None:
    """The other rank is a victim: it says so, and has the culprit's reason and exit code."""
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 40_000 + "inf\n")
    victim, culprit = run(spec_of({"data": files("t.csv")}, tmp_path), workers=2)
    assert culprit.exit_code == victim.exit_code == 2
    assert culprit.word is not None
    assert victim.word is not None
    assert (culprit.word.error, culprit.word.reason) == ("InvalidData", "InvalidData")
    assert (victim.word.error, victim.word.reason) == ("PeerLost", "InvalidData")
    assert "t.csv: column a is infinite in row 40001" in (victim.word.message or "")


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Processes started here find the disk full after so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_piece_of_a_model(tmp_path: Path) -> None:
    """All ranks fail, though only rank 0 writes; nothing that looks like a model is left."""
    spec = spec_of({"workload": {"kmeans": {"clusters": 90}}, "data": blobs(features=2000)}, tmp_path)
    with files_of_at_most(300_000):
        first, second = run(spec, workers=2)
    assert (first.exit_code, second.exit_code) == (2, 2), first.stderr + second.stderr
    assert first.word is not None
    assert f"output.uri: {tmp_path}/model cannot be written: File too large" == first.word.message
    assert list((tmp_path / "model").iterdir()) == []
