"""`operator/` and `trainer/` are folders, not packages: see docs/decisions/0001-folders-not-packages.md."""

import operator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["operator", "trainer"])
def test_the_top_folders_are_no_packages(folder: str) -> None:
    """A package called operator would shadow the standard library's."""
    assert not list((ROOT / folder).glob("*.py"))


def test_the_standard_library_is_not_shadowed() -> None:
    """With the root of the repository on the path, as pytest has it."""
    assert operator.add(1, 2) == 3
