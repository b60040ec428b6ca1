"""The README's commands do what the README says, typed as a newcomer would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell_blocks import shell_block

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty folder with this environment where the README expects it."""
    bin_folder = Path(sys.executable).parent
    if not (bin_folder / "activate").exists():
        pytest.skip("the tests do not run in a virtual environment")
    (tmp_path / ".venv").symlink_to(bin_folder.parent)
    return tmp_path


def test_ten_lines(checkout: Path) -> None:
    """The ten lines validate, run, render, and leave a model that predicts."""
    script = "set -e\n" + shell_block(ROOT / "README.md", "local")
    load = "import scaletrain; print(scaletrain.load('.scalejob/models/segments').predict([[0.0] * 16]).shape)"
    done = subprocess.run(
        ["bash", "-c", f'{script}\npython -c "{load}"'],
        cwd=checkout,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(1,)" in done.stdout.splitlines()[-1]
    assert "inertia" in done.stdout + done.stderr
