"""The documentation keeps up with the code."""

import re
from pathlib import Path

import click
import pytest

from scalejob.cli.main import COMMANDS, main
from scalejob.contract import ExitCode, Reason

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("reason", sorted(Reason))
def test_every_reason_has_a_line(reason: Reason) -> None:
    """A status never shows a word that the documentation does not explain."""
    assert f"| `{reason}` |" in (ROOT / "docs/reasons.md").read_text()


@pytest.mark.parametrize("code", sorted(ExitCode))
def test_every_exit_code_has_a_line(code: ExitCode) -> None:
    """A user who sees an exit code finds what it means."""
    assert f"| {int(code)} |" in (ROOT / "docs/reasons.md").read_text()


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    """Every relative link names a file that exists."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_is_documented(name: str) -> None:
    """Every command, and every option of those that people type."""
    page = (ROOT / "docs/cli.md").read_text()
    command = main.get_command(click.Context(main), name)
    assert f"`scalejob {name}" in page
    assert command is not None
    options = [o.opts[0] for o in command.params if isinstance(o, click.Option)] if name != "operator" else []
    assert [option for option in options if f"`{option}" not in page] == []
