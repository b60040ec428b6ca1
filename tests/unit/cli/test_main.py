"""`scalejob` without a subcommand, and what all subcommands share."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from scalejob.cli import main as module
from scalejob.cli.main import COMMANDS, Entry, main

# Of the extras `operator` and `trainer`, and what takes long to import.
HEAVY = {"torch", "numpy", "sklearn", "pyarrow", "kopf", "aiohttp", "pydantic", "rich", "yaml"}


def test_help_lists_every_command() -> None:
    """With a line that says what it does."""
    shown = CliRunner().invoke(main, ["--help"]).output
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_help_imports_no_library_but_click() -> None:
    """It answers at once, also where an extra is not installed."""
    program = (
        "import sys; from scalejob.cli.main import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert HEAVY.isdisjoint(shown.splitlines()[-1].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    """The line in the list and the first line of the command's own help."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.help is not None
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_version() -> None:
    """That of the distribution."""
    assert CliRunner().invoke(main, ["--version"]).output.startswith("scalejob, version ")


def test_an_unknown_command_is_refused() -> None:
    """With exit code 2, as all mistakes on the command line."""
    done = CliRunner().invoke(main, ["rum"])
    assert done.exit_code == 2
    assert "No such command 'rum'" in done.output


def test_a_command_whose_extra_is_not_installed_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a traceback."""
    entry = Entry("operator:operator_command", "", "operator", "no_such_module")
    monkeypatch.setitem(module.COMMANDS, "operator", entry)
    done = CliRunner().invoke(main, ["operator"])
    assert done.exit_code == 2
    assert "pip install 'scalejob[operator]'" in done.output
