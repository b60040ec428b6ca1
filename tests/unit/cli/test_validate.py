"""`scalejob validate`."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from scalejob.cli.main import main
from tests.unit.api.cases import VALID


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(VALID))
    return file


def test_a_valid_file_is_said_to_be_so(valid: Path) -> None:
    """With its jobs and their workloads."""
    done = CliRunner().invoke(main, ["validate", str(valid)])
    assert (done.exit_code, done.output) == (0, f"{valid}: valid: job (kmeans)\n")


def test_all_problems_of_all_files_are_told(valid: Path, tmp_path: Path) -> None:
    """One run is enough to know them."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump(VALID | {"spec": VALID["spec"] | {"workers": 0, "sed": 1}}))
    done = CliRunner().invoke(main, ["validate", str(bad), str(valid)])
    assert done.exit_code == 2
    assert f"{valid}: valid" in done.stdout
    assert "spec.workers: must be at least 1; got 0" in done.stderr
    assert "spec.sed: unknown field; did you mean seed?" in done.stderr


def test_standard_input_is_a_file_too(valid: Path) -> None:
    """For what another program writes."""
    done = CliRunner().invoke(main, ["validate", "-"], input=valid.read_text())
    assert done.output == "-: valid: job (kmeans)\n"


def test_overrides_are_checked(valid: Path) -> None:
    """Like fields of the file."""
    done = CliRunner().invoke(main, ["validate", str(valid), "--set", "spec.workload.kmeans.clusters=none"])
    assert done.exit_code == 2
    assert "spec.workload.kmeans.clusters: must be a whole number; got 'none'" in done.stderr


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A model given instead of a job, for example."""
    file = tmp_path / "model"
    file.write_bytes(b"\xff\xfe\x00")
    done = CliRunner().invoke(main, ["validate", str(file)])
    assert done.exit_code == 2
    assert "not UTF-8 text: invalid start byte at byte 0" in done.stderr


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_checked(valid: Path, tmp_path: Path) -> None:
    """Missing, or a folder."""
    done = CliRunner().invoke(main, ["validate", "no-such.yaml", str(tmp_path), str(valid)])
    assert (done.exit_code, done.stdout) == (2, f"{valid}: valid: job (kmeans)\n")
    assert done.stderr == f"no-such.yaml: No such file or directory\n{tmp_path}: Is a directory\n"
