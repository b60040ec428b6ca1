"""`scalejob render`: what a cluster would be asked to run."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import yaml

from scalejob.api.v1alpha1 import ScaleJob, Status
from scalejob.plan.model import Job
from scalejob.plan.pods import PodDefaults, build_pod, build_service

from .files import job_file_options, load, with_workers

# Given by the API server when the job is created.
UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"


@click.command("render")
@job_file_options
@click.option("--namespace", "-n", metavar="NAME", help="Namespace of jobs that name none.  [default: default]")
@click.option("--trainer-image", metavar="IMAGE", help="Image of jobs that name none.  [default: that of this release]")
def render_command(
    file: Path, workers: int | None, overrides: tuple[str, ...], namespace: str | None, trainer_image: str | None
) -> None:
    """Print the Service and the Pods that the operator would create for the first attempt, as YAML.

    \b
    Examples:
      scalejob render scalejob.yaml
      scalejob render scalejob.yaml --workers 8 | less
      scalejob render scalejob.yaml | kubectl apply --dry-run=server -f -

    They are exactly the operator's, but for the uid of the job, which only a cluster can give: it is zeros here.
    """
    defaults = PodDefaults(trainer_image=trainer_image or f"scalejob/trainer:{version('scalejob')}")
    for job in load(file, with_workers(overrides, workers)).jobs:
        for manifest in manifests(job, job.metadata.namespace or namespace or "default", defaults):
            click.echo("---")
            click.echo(yaml.safe_dump(manifest, sort_keys=False, width=110, allow_unicode=True), nl=False)


def manifests(job: ScaleJob, namespace: str, defaults: PodDefaults) -> list[dict[str, Any]]:
    """The Service and all Pods of attempt 0, in the order in which they are created."""
    planned = Job(
        namespace=namespace,
        name=job.metadata.name,
        uid=UNKNOWN_UID,
        generation=1,
        resource_version="",
        created=datetime.fromtimestamp(0, UTC),
        is_deleting=False,
        spec=job.spec,
        status=Status(),
    )
    return [build_service(planned), *(build_pod(planned, 0, index, defaults) for index in range(job.spec.workers))]
