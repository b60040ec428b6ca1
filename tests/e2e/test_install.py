"""The README's cluster quick start, and what the API server says to a typo."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import Cluster, Refused
from tests.e2e.samples import FOLDER
from tests.shell_blocks import shell_block
from tests.tools import ROOT

README = ROOT / "README.md"


def ten_lines() -> str:
    """The README's scalejob.yaml."""
    return shell_block(README, "local").partition("<<'YAML'\n")[2].partition("YAML\n")[0]


@pytest.mark.timeout(600)
def test_quick_start(cluster: Cluster, workplace: Path):
    """Typed as it stands, the quick start ends well, and shows the job on the way."""
    (workplace / "scalejob.yaml").write_text(ten_lines())
    script = "set -e\n" + shell_block(README, "cluster")
    done = subprocess.run(
        ["bash", "-c", script], cwd=workplace, env=cluster.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scalejob.scalejob.io/segments condition met" in done.stdout
    cluster.wait_until_gone("segments")


def test_typo_is_refused(cluster: Cluster):
    """`kubectl apply` names the field that does not exist."""
    text = (FOLDER / "kmeans.yaml").read_text().replace("clusters:", "clusterz:")
    with pytest.raises(Refused, match=r"spec\.workload\.kmeans\.clusterz"):
        cluster.run("apply", "-f", "-", stdin=text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 0}, "spec.workers"),
        ({"workload": {"kmeans": {"clusters": 2}, "svm": {}}}, "set exactly one"),
        ({"output": None}, "output"),
    ],
    ids=["no workers", "two workloads", "no output"],
)
def test_bad_spec_is_refused(cluster: Cluster, change: dict, message: str):
    """What the definition rules out never reaches the operator."""
    job = yaml.safe_load((FOLDER / "kmeans.yaml").read_text())
    with pytest.raises(Refused, match=message):
        cluster.apply({**job, "spec": job["spec"] | change})


def test_explain(cluster: Cluster):
    """`kubectl explain` describes the fields."""
    assert "Number of clusters" in cluster.run("explain", "scalejob.spec.workload.kmeans.clusters")


def test_everything_is_shown_together(cluster: Cluster):
    """ScaleJobs are in the category `all`, and have a short name."""
    resources = cluster.run("api-resources", "--categories=all", "--api-group=scalejob.io", "--no-headers")
    assert resources.split()[:2] == ["scalejobs", "sj"]
