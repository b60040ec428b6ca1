"""`scalejob`: the command line. Subcommands are imported when they are called, so that `--help` answers at once."""

import importlib
import importlib.util
import os
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a subcommand is found, and its line in `scalejob --help`."""

    target: str  # module:attribute below this package
    help: str
    extra: str = ""  # the extra of the distribution without which the module cannot be imported
    needs: str = ""  # a module of that extra


COMMANDS = {
    "validate": Entry(
        "validate:validate_command", "Check ScaleJob files and print all problems at once, each with its line."
    ),
    "run": Entry("run:run_command", "Run the ScaleJobs of a file on this machine, workers as local processes."),
    "render": Entry("render:render_command", "Print the Service and the Pods that the operator would create."),
    "crd": Entry("crd:crd_command", "Print the CustomResourceDefinition, for `kubectl apply -f -`."),
    "operator": Entry("operator:operator_command", "Run the operator against a cluster.", "operator", "kopf"),
}


class LazyGroup(click.Group):
    """A group whose subcommands stand in COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if entry.extra and importlib.util.find_spec(entry.needs) is None:
            raise missing_extra(f"scalejob {cmd_name}", entry.extra)
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(f"scalejob.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def missing_extra(what: str, extra: str) -> click.ClickException:
    """The error of a command whose libraries are not installed."""
    return click.UsageError(f"{what} needs libraries that are not installed: pip install 'scalejob[{extra}]'")


@click.command(
    "scalejob", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="scalejob", prog_name="scalejob")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Train linear models, K-Means and SVM on many workers: the same file on this machine and on a cluster.

    \b
    A first job, without a cluster:
      scalejob validate scalejob.yaml     all problems at once
      scalejob run scalejob.yaml          workers are processes here; the model lies below .scalejob/
      scalejob render scalejob.yaml       what a cluster would run

    \b
    On a cluster:
      scalejob crd | kubectl apply -f -
      kubectl apply -f scalejob.yaml

    Every field of the file: docs/reference.md, or `kubectl explain scalejob.spec`.
    """
    ctx.color = False if os.environ.get("NO_COLOR") else None  # also where standard error is a terminal
