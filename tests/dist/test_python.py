"""The programs of docs/python.md do what the page says."""

import os
import subprocess
import sys
from pathlib import Path

from tests.shell_blocks import shell_block

PAGE = Path(__file__).resolve().parents[2] / "docs/python.md"


def run(folder: Path, block: str, *launcher: str) -> str:
    """What the program prints."""
    program = folder / "program.py"
    program.write_text(shell_block(PAGE, block))
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(program)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_process(tmp_path: Path) -> None:
    """A search over a pipeline, and names of columns that come out of K-Means."""
    search, clusters = run(tmp_path, "one_process").splitlines()
    assert "logisticregression__C" in search
    assert "'kmeans0', 'kmeans1'" in clusters


def test_several_ranks(tmp_path: Path) -> None:
    """The same number on one rank and on two that torchrun starts, to the last digit."""
    alone = run(tmp_path, "several_ranks")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert run(tmp_path, "several_ranks", *launcher) == alone
