"""The samples end on this machine as they do on a cluster: the same file, the same words."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.samples import FOLDER, SAMPLES, Sample
from tests.local_jobs import last_line, run

# What is about nodes and their GPUs has no local counterpart.
RUNNABLE = [sample for sample in SAMPLES if sample.phase != "Pending" and sample.needs != "gpus"]
EXIT_CODES = {"Succeeded": 0, "Failed InvalidData": 2}
# A column that is not there is named in the last line, with its file: that is where a user looks.
LAST_LINES = {"bad-column": r".*InvalidData.*flights\.parquet.*arival_delay"}


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flights, as the script beside the samples writes them."""
    path = tmp_path_factory.mktemp("flights") / "flights.parquet"
    subprocess.run([sys.executable, FOLDER / "data" / "flights.py", path], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("sample", RUNNABLE, ids=lambda sample: sample.path.stem)
def test_a_sample_ends_as_it_says(sample: Sample, flights: Path, tmp_path: Path) -> None:
    """With two workers, and without a retry on the way."""
    (tmp_path / ".scalejob" / "data").mkdir(parents=True)
    (tmp_path / ".scalejob" / "data" / "flights.parquet").symlink_to(flights)
    done = run("run", sample.path, "--workers", "2", cwd=tmp_path, timeout=90)
    end = " ".join(filter(None, (sample.phase, sample.reason)))
    assert done.returncode == EXIT_CODES[end], done.stderr
    assert "Restarting" not in done.stderr
    has_model = (tmp_path / ".scalejob" / "models" / sample.name / "_SUCCESS").exists()
    assert has_model == (sample.phase == "Succeeded" and not sample.name.startswith("command"))
    assert re.match(LAST_LINES.get(sample.name, ""), last_line(done.stderr))


def test_several_processes_in_a_worker_tell_one_result(tmp_path: Path) -> None:
    """They share the place of the last word; the model is that of as many workers."""
    by_processes = run(
        "run", FOLDER / "kmeans.yaml", "--set", "spec.processesPerWorker=2", "--workers", "1", cwd=tmp_path
    )
    by_workers = run("run", FOLDER / "kmeans.yaml", "--workers", "2", cwd=tmp_path)
    assert "SHA-256" in by_processes.stdout
    assert last_line(by_processes.stdout) == last_line(by_workers.stdout)


def test_a_fault_of_the_user_is_known_among_several_processes(tmp_path: Path) -> None:
    """The process that torchrun ends next does not hide the words of the one that failed: no retry."""
    many = ("--set", "spec.processesPerWorker=2", "--set", "spec.workload.kmeans.clusters=99999")
    done = run("run", FOLDER / "kmeans.yaml", *many, "--set", "spec.data.synthetic.blobs.rows=9", cwd=tmp_path)
    assert done.returncode == 2
    assert "Restarting" not in done.stderr
    assert "workload.kmeans.clusters is 99999" in last_line(done.stderr)


def test_what_needs_a_cluster_can_be_rendered(tmp_path: Path) -> None:
    """The job that asks for more GPUs than there are."""
    done = run("render", FOLDER / "too-many-gpus.yaml", cwd=tmp_path)
    _, *pods = yaml.safe_load_all(done.stdout)
    assert {pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in pods} == {64}
