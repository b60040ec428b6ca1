"""How subcommands take ScaleJob files: arguments, overrides, and what they say when a file is wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from scalejob.api.check import InvalidFile, parse
from scalejob.api.v1alpha1 import ScaleJob
from scalejob.api.yamltext import load_documents
from scalejob.contract import MAX_WORKERS

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(allow_dash=True, path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """A valid file: its jobs with the overrides applied, and all of its documents as they stand there."""

    jobs: Sequence[ScaleJob]
    documents: Sequence[Mapping[str, Any]]


def job_file_options(command: Command) -> Command:
    """FILE, --workers and --set, the same for every subcommand that takes one file."""
    decorators = (
        click.argument("file", type=FILE),
        click.option(
            "--workers", type=click.IntRange(1, MAX_WORKERS), metavar="N", help="Number of workers of every job."
        ),
        set_option,
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="a.b=c",
    help="Set a field of every job, for example spec.workload.kmeans.clusters=20; may be given several times.",
)


def load(file: Path, overrides: Sequence[str]) -> JobFile:
    """The jobs of a file. Prints all problems and exits with 2 if it is not valid."""
    try:
        text = read(file)
        jobs = parse(text, overrides)
    except InvalidFile as error:
        complain(file, error)
        raise SystemExit(2) from error
    return JobFile(jobs=jobs, documents=[document.value for document in load_documents(text)])


def complain(file: Path, error: InvalidFile) -> None:
    for problem in error.problems:
        click.echo(f"{file}: {problem}", err=True)


def read(file: Path) -> str:
    """The text of a file; `-` is standard input. Raises InvalidFile."""
    try:
        with click.open_file(str(file), encoding="utf-8") as stream:
            return str(stream.read())
    except UnicodeDecodeError as error:
        raise InvalidFile.whole(f"not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise InvalidFile.whole(str(error.strerror), line=None) from error


def with_workers(overrides: Sequence[str], workers: int | None) -> list[str]:
    """`--workers N` is short for `--set spec.workers=N`, and wins over it."""
    return [*overrides, *([f"spec.workers={workers}"] if workers else [])]
