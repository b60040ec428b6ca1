"""Every sample under manifests/samples ends as its first line says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, Object, is_finished
from tests.e2e.samples import FOLDER, SAMPLES, Sample

TEN_MINUTES = 600


@pytest.fixture
def ended(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[tuple[Sample, Object]]:
    """The sample that the test names, and its status at its end."""
    sample: Sample = request.param
    if sample.needs:
        request.getfixturevalue(sample.needs)
    cluster.run("apply", "-f", sample.path)
    try:
        status = cluster.wait(sample.name, sample.phase, lambda s: is_finished(s) or sample.is_kept(s), seconds=300)
        assert sample.is_kept(status), cluster.story(sample.name)
        yield sample, status
    finally:
        cluster.run("delete", "-f", sample.path, "--ignore-not-found")


def only(stem: str) -> pytest.MarkDecorator:
    """The test is about one sample."""
    (sample,) = [s for s in SAMPLES if s.path.stem == stem]
    return pytest.mark.parametrize("ended", [sample], indirect=True, ids=[stem])


@pytest.mark.timeout(TEN_MINUTES)
@pytest.mark.parametrize("ended", SAMPLES, indirect=True, ids=lambda s: s.path.stem)
def test_sample(cluster: Cluster, ended: tuple[Sample, Object]):
    """It ends as it says, without a retry on the way, and goes without a trace."""
    sample, status = ended
    assert status["attempt"] == 0, cluster.story(sample.name)
    if sample.phase == "Succeeded":
        cluster.run("wait", "--for=condition=Complete", f"sj/{sample.name}", "--timeout=5s")
    cluster.run("delete", "-f", sample.path)
    cluster.wait_until_gone(sample.name)


@only("too-many-gpus")
def test_too_many_gpus_are_shown(cluster: Cluster, ended: tuple[Sample, Object]):
    """`kubectl get sj -o wide` says what is missing."""
    sample, status = ended
    header, row = cluster.run("get", "sj", sample.name, "-o", "wide").splitlines()
    assert row[header.index("GPUS") :].split()[0] == "64"
    assert "Unschedulable" in row
    assert "Insufficient nvidia.com/gpu" in status["message"]


@only("gpu")
def test_gpus_are_used_and_counted(cluster: Cluster, ended: tuple[Sample, Object]):
    """A job that asks for GPUs runs where they are, and its status says what it used of them."""
    assert ended[1]["cost"]["gpuSeconds"] > 0


@pytest.mark.timeout(TEN_MINUTES)
@only("kmeans")
def test_same_model_as_local(cluster: Cluster, ended: tuple[Sample, Object], tmp_path: Path):
    """The same file gives the same bytes on this machine."""
    command = [Path(sys.executable).with_name("scalejob"), "run", FOLDER / "kmeans.yaml"]
    subprocess.run(command, cwd=tmp_path, check=True)
    model = json.loads((tmp_path / ".scalejob/models/kmeans/model.json").read_text())
    assert ended[1]["result"]["model"]["sha256"] == model["sha256"]
