"""`scalejob validate`: everything that is wrong with a file, before a cluster sees it."""

from pathlib import Path

import click

from scalejob.api.check import InvalidFile, parse

from .files import FILE, complain, read, set_option


@click.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)
@set_option
def validate_command(files: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Check ScaleJob files and print all problems at once, each with its line.

    \b
    Examples:
      scalejob validate scalejob.yaml
      scalejob validate jobs/*.yaml
      scalejob validate scalejob.yaml --set spec.workers=8

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
            complain(file, error)
    if not is_valid:
        raise SystemExit(2)
