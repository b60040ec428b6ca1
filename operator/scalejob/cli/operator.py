"""`scalejob operator`."""

import asyncio
import sys

import click

from scalejob.app import run
from scalejob.engine.options import Options
from scalejob.kube.config import ConfigError


@click.command("operator")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="SCALEJOB_OPERATOR_NAMESPACES",
    help="Watch this namespace only; may be given several times (in the environment: separated by spaces). Default: all.",
)
@click.option(
    "--trainer-image",
    required=True,
    envvar="SCALEJOB_TRAINER_IMAGE",
    show_envvar=True,
    help="Image of workers whose job names none.",
)
@click.option(
    "--qps",
    type=click.FloatRange(min=0, min_open=True),
    default=200.0,
    show_default=True,
    envvar="SCALEJOB_OPERATOR_QPS",
    help="Requests per second to the API server in the long run.",
)
@click.option(
    "--burst",
    type=click.IntRange(min=1),
    default=400,
    show_default=True,
    envvar="SCALEJOB_OPERATOR_BURST",
    help="Requests at once before --qps applies.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    envvar="SCALEJOB_OPERATOR_WORKERS",
    help="Jobs looked at concurrently.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    envvar="SCALEJOB_OPERATOR_METRICS_PORT",
    help="Port of /healthz, /readyz and /metrics.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    default="json",
    show_default=True,
    envvar="SCALEJOB_OPERATOR_LOG_FORMAT",
    help="One JSON object a line, or text for people.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="SCALEJOB_OPERATOR_LOG_LEVEL",
    help="The least severe lines to log.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False),
    help="Default: the service account of the Pod, else $KUBECONFIG, else ~/.kube/config.",
)
def operator_command(**options: object) -> None:
    """Run the operator: watch ScaleJobs, make their Pods, say in their status what happens.

    It needs the CustomResourceDefinition (`scalejob crd | kubectl apply -f -`) and waits for it. SIGTERM ends it; the jobs go on,
    and are looked after again when it is back.
    """
    try:
        ended_well = asyncio.run(run(Options(**options)))  # type: ignore[arg-type]
    except (ConfigError, OSError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if ended_well else 1)
