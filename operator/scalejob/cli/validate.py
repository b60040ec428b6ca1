"""`scalejob validate`: everything that is wrong with a file, before a cluster sees it."""

from pathlib import Path

import click

from scalejob.api.check import InvalidFile, parse


@click.command("validate")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change a field before the check.")
def validate_command(files: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Check ScaleJob files and print all problems at once, each with its line.

    \b
    Examples:
      scalejob validate scalejob.yaml
      scalejob validate manifests/samples/*.yaml

    Exits with 0 if all files are valid and with 2 if not. FILE may be - for standard input. The API server makes
    the same checks; what only the data can tell (a missing column, more clusters than rows) shows when the job runs.
    """
    is_valid = True
    for file in files:
        try:
            jobs = parse(read(file), overrides)
            click.echo(f"{file}: valid: {', '.join(f'{job.metadata.name} ({job.spec.workload.name})' for job in jobs)}")
        except InvalidFile as error:
            is_valid = False
            for problem in error.problems:
                click.echo(f"{file}: {problem}", err=True)
    if not is_valid:
        raise SystemExit(2)


def read(file: Path) -> str:
    """The text of a file; `-` is standard input."""
    try:
        with click.open_file(str(file), encoding="utf-8") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise InvalidFile.whole(f"not UTF-8 text: {error.reason} at byte {error.start}") from error
