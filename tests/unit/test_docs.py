"""The documentation keeps up with the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from scalejob.cli.main import COMMANDS, main
from scalejob.contract import ExitCode, Reason

ROOT = Path(__file__).resolve().parents[2]
FAILURES = (ROOT / "docs/failures.md").read_text()
_TEST = re.compile(r"`(tests/[^`]+)`")


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


@pytest.mark.parametrize("reference", sorted({r for r in _TEST.findall(FAILURES) if "::" in r}))
def test_what_is_said_of_failures_is_tested(reference: str) -> None:
    """Each test that the table names exists, and so does the case in brackets."""
    path, _, name = reference.partition("::")
    function, _, case = name.removesuffix("]").partition("[")
    tree = ast.parse((ROOT / path).read_text())
    assert function in set(_tests(tree))
    assert not case or case in {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def test_every_line_about_failures_names_a_test() -> None:
    """And has all four cells."""
    rows = [line.strip("| \n").split(" | ") for line in FAILURES.splitlines() if line.startswith("| ")]
    cells = [row for row in rows if row[0] != "what happens"]
    assert len(cells) > 30
    assert [row for row in cells if len(row) != 4 or not all(_TEST.fullmatch(t) for t in row[3].split("<br>"))] == []


def test_every_trouble_has_a_line() -> None:
    """All reasons by which a job may fail, wait or start again."""
    troubles = (ROOT / "docs/reasons.md").read_text().split("## All is well")[0]
    reasons = set(re.findall(r"^\| `(\w+)` \|", troubles, re.MULTILINE))
    assert {reason for reason in reasons if f"`{reason}`" not in FAILURES and f": {reason}`" not in FAILURES} == set()
    assert len(reasons) > 15


def _tests(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{part.name}" for part in node.body if hasattr(part, "name"))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
