"""`scalejob render`."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from scalejob.cli.main import main
from scalejob.cli.render import UNKNOWN_UID
from scalejob.plan.model import Job
from scalejob.plan.observe import read_job
from scalejob.plan.pods import PodDefaults, build_pod, build_service
from tests.unit.api.cases import VALID


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(VALID))
    return file


def render(*words: str | Path) -> list[dict[str, Any]]:
    done = CliRunner().invoke(main, ["render", *map(str, words)])
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.stdout))


def test_it_is_what_the_operator_creates(file: Path) -> None:
    """Byte for byte, from the same job as the API server would hand it out."""
    metadata = {"name": "job", "namespace": "team-a", "uid": UNKNOWN_UID, "resourceVersion": "1"}
    job = read_job({"metadata": metadata, "spec": VALID["spec"] | {"workers": 2}})
    assert isinstance(job, Job)
    defaults = PodDefaults(trainer_image="x:1")
    expected = [build_service(job), build_pod(job, 0, 0, defaults), build_pod(job, 0, 1, defaults)]
    assert render(file, "--workers", "2", "--namespace", "team-a", "--trainer-image", "x:1") == expected


def test_fields_can_be_overridden(file: Path) -> None:
    """To see what a change would do."""
    _, pod = render(file, "--set", "spec.gpus.perWorker=2")
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 2}


def test_a_job_with_a_namespace_keeps_it(file: Path) -> None:
    """--namespace is for those without."""
    assert {o["metadata"]["namespace"] for o in render(file, "--set", "metadata.namespace=own", "-n", "x")} == {"own"}


def test_the_default_image_is_that_of_this_release(file: Path) -> None:
    """As the chart has it."""
    assert render(file)[1]["spec"]["containers"][0]["image"] == "scalejob/trainer:0.1.0"


def test_a_file_that_is_not_valid_is_not_rendered(file: Path) -> None:
    """Problems as from validate, and exit code 2."""
    done = CliRunner().invoke(main, ["render", str(file), "--set", "spec.workers=0"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "spec.workers: must be at least 1; got 0" in done.stderr
