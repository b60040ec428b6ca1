"""`scalejob run`: what is said before a job starts and after it has ended. tests/dist/test_local.py runs jobs."""

import json
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from scalejob.api.v1alpha1 import LastFailure, Metric, ModelResult, Result, Status
from scalejob.cli.main import main
from scalejob.cli.run import exit_code, json_line, result_rows
from scalejob.contract import Phase
from tests.unit.local.builders import make_job

RESULT = Result(
    metrics=[Metric(name="r2", value="0.93")],
    rows=1_000_000,
    features=9,
    seconds="12.5",
    model=ModelResult(uri=".scalejob/models/a", sha256="ab" * 32),
)


def write(folder: Path, **spec: object) -> str:
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(make_job(**spec).to_wire()))
    return str(file)


def test_a_file_that_is_not_valid_is_not_run(tmp_path: Path) -> None:
    """Problems as from validate, and exit code 2."""
    done = CliRunner().invoke(main, ["run", write(tmp_path), "--set", "spec.wrokers=2"])
    assert done.exit_code == 2
    assert "spec.wrokers: unknown field; did you mean workers?" in done.stderr


def test_data_that_are_not_here_are_named_before_a_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the place where they are looked for on this machine."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["run", write(tmp_path, data={"files": {"uri": "/models/x.csv"}})])
    assert done.exit_code == 2
    assert ".scalejob/models/x.csv does not exist" in done.stderr


def test_no_color_holds_for_errors_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR, as in https://no-color.org: the same words without red."""
    monkeypatch.chdir(tmp_path)
    arguments = ["run", write(tmp_path, data={"files": {"uri": "/models/x.csv"}})]
    red, plain = (CliRunner().invoke(main, arguments, color=True, env={"NO_COLOR": value}) for value in ("", "1"))
    assert "\x1b[31m" in red.stderr
    assert plain.stderr == click.unstyle(red.stderr)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a process starts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".scalejob").touch()
    done = CliRunner().invoke(main, ["run", write(tmp_path)])
    assert done.exit_code == 2
    assert "cannot be made below .scalejob" in done.stderr
    assert "'.scalejob/models'" in done.stderr


@pytest.mark.parametrize("workers", ["0", "-1", "10001", "two"])
def test_a_number_of_workers_that_cannot_be_is_refused(tmp_path: Path, workers: str) -> None:
    """By the option's name."""
    done = CliRunner().invoke(main, ["run", write(tmp_path), "--workers", workers])
    assert done.exit_code == 2
    assert "'--workers'" in done.stderr


def test_the_trainers_libraries_are_asked_for_where_they_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["run", write(tmp_path)])
    assert done.exit_code == 2
    assert "pip install 'scalejob[trainer]'" in done.stderr


def test_the_table_tells_what_came_out() -> None:
    """Metrics first; then how much, how fast, and where it lies."""
    assert result_rows(Status(result=RESULT)) == [
        ("r2", "0.93"),
        ("rows", "1,000,000"),
        ("features", "9"),
        ("seconds", "12.5"),
        ("rows/second", "80,000"),
        ("model", ".scalejob/models/a"),
        ("SHA-256", "ab" * 32),
    ]


def test_a_program_without_a_result_has_no_table() -> None:
    """A command says what it has to say itself."""
    assert result_rows(Status()) == []


def test_json_is_one_line_with_the_status_of_a_cluster() -> None:
    """So that a program reads both the same way."""
    line = json_line(make_job(), Status(phase=Phase.SUCCEEDED, result=RESULT))
    assert line.count("\n") == 1
    assert json.loads(line)["status"]["result"]["model"]["sha256"] == "ab" * 32


@pytest.mark.parametrize(("worker", "want"), [(2, 2), (1, 1), (137, 1)])
def test_the_exit_code_tells_whose_turn_it_is(worker: int, want: int) -> None:
    """2: the user has to correct something first."""
    assert exit_code(Status(last_failure=LastFailure(class_="UserError", exit_code=worker))) == want


def test_a_reason_that_blames_the_task_exits_with_2() -> None:
    """Under torchrun the worker's own exit code is 1."""
    assert exit_code(Status(reason="InvalidData", last_failure=LastFailure(class_="InvalidData", exit_code=1))) == 2


def test_a_job_that_failed_without_a_lost_worker_exits_with_1() -> None:
    """A deadline, for example."""
    assert exit_code(Status()) == 1
