"""`scalejob operator`."""

import asyncio
import functools
import sys

import click

from scalejob.app import run
from scalejob.engine.options import Options
from scalejob.kube.config import ConfigError

# Every option may stand in the environment too, as SCALEJOB_OPERATOR_<NAME> unless it says otherwise.
_option = functools.partial(click.option, show_default=True, show_envvar=True)


def _lease(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, str] | None:
    if value is None:
        return None
    namespace, slash, name = value.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise click.BadParameter(f"a namespace and a name with a slash between them are needed, not {value!r}")
    return namespace, name


@click.command("operator", context_settings={"auto_envvar_prefix": "SCALEJOB_OPERATOR"})
@_option(
    "--namespace",
    "namespaces",
    multiple=True,
    show_default="all",
    help="Watch this namespace only; may be given several times (in the environment: separated by spaces).",
)
@_option(
    "--trainer-image", required=True, envvar="SCALEJOB_TRAINER_IMAGE", help="Image of workers whose job names none."
)
@_option(
    "--qps",
    type=click.FloatRange(min=0, min_open=True),
    default=200.0,
    help="Requests per second to the API server in the long run.",
)
@_option("--burst", type=click.IntRange(min=1), default=400, help="Requests at once before --qps applies.")
@_option("--workers", type=click.IntRange(min=1), default=8, help="Jobs looked at concurrently.")
@_option("--metrics-port", type=click.IntRange(0, 65_535), default=8080, help="Port of /healthz, /readyz and /metrics.")
@_option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    default=lambda: "text" if sys.stderr.isatty() else "json",
    show_default="text on a terminal, else json",
    help="One JSON object a line, or text for people.",
)
@_option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least severe lines to log.",
)
@_option(
    "--lease",
    metavar="NAMESPACE/NAME",
    callback=_lease,
    show_default="none: there is one replica",
    help="Lease by which several replicas elect the one that acts.",
)
@_option(
    "--kubeconfig",
    type=click.Path(dir_okay=False),
    show_default="the service account of the Pod, else $KUBECONFIG, else ~/.kube/config",
    help="How to reach the API server.",
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
