"""The samples keep what they promise, as far as that can be known without running them."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from scalejob.api.check import parse
from scalejob.contract import Phase, Reason
from scalejob.local.runner import plan_job
from scalejob.plan.pods import PodDefaults, build_pod
from tests.e2e.samples import FOLDER, SAMPLES, Sample

ALL = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.path.stem)


def claims_of(path: Path) -> set[str]:
    (job,) = parse(path.read_text())
    sources = [volume.persistent_volume_claim for volume in job.spec.pod.volumes or ()]
    return {source["claimName"] for source in sources if source}


def test_every_job_says_how_it_ends() -> None:
    """The end-to-end tier holds it to that."""
    jobs = {path for path in FOLDER.glob("*.yaml") if "kind: ScaleJob" in path.read_text()}
    assert {sample.path for sample in SAMPLES} == jobs


@ALL
def test_a_sample_is_valid_and_named_like_its_file(sample: Sample) -> None:
    """`kubectl apply -f manifests/samples` makes one job of each."""
    (job,) = parse(sample.path.read_text())
    assert job.metadata.name == sample.name == sample.path.stem


@ALL
def test_the_promised_end_exists(sample: Sample) -> None:
    """A phase and a reason of the API."""
    assert sample.phase in set(Phase)
    assert sample.reason is None or sample.reason in set(Reason)


@ALL
def test_the_claims_of_a_sample_are_in_storage(sample: Sample) -> None:
    """Nothing else has to be made first."""
    made = {o["metadata"]["name"] for o in yaml.safe_load_all((FOLDER / "storage.yaml").read_text())}
    assert claims_of(sample.path) <= made


def test_the_loader_runs_as_workers_do() -> None:
    """In the image of this release, which a cluster has anyway, and under the same restrictions."""
    (job,) = parse((FOLDER / "kmeans.yaml").read_text())
    worker = build_pod(plan_job(job), 0, 0, PodDefaults(trainer_image=f"scalejob/trainer:{version('scalejob')}"))[
        "spec"
    ]
    loader: dict[str, Any] = yaml.safe_load((FOLDER / "data" / "loader.yaml").read_text())["spec"]
    assert loader["containers"][0]["image"] == worker["containers"][0]["image"]
    assert loader["containers"][0]["securityContext"] == worker["containers"][0]["securityContext"]
    assert loader["securityContext"].items() <= worker["securityContext"].items()
