"""Jobs for tests that start `scalejob run` for real."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

SCALEJOB = Path(sys.executable).with_name("scalejob")


def command_job(name: str, program: str, *, argv: tuple[str, ...] = ("python", "-c"), **spec: Any) -> dict[str, Any]:
    """A job of two workers that run a Python program."""
    return {
        "apiVersion": "scalejob.io/v1alpha1",
        "kind": "ScaleJob",
        "metadata": {"name": name},
        "spec": {"workers": 2, "workload": {"command": {"argv": [*argv, program]}}} | spec,
    }


def write_jobs(folder: Path, *documents: dict[str, Any]) -> Path:
    """A file with these documents."""
    file = folder / "jobs.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return file


def start(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """`scalejob WORDS...` in a folder, with both outputs kept."""
    return subprocess.Popen(
        [SCALEJOB, *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*words: str | Path, cwd: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """`scalejob WORDS...` to its end; killed if it takes longer than `timeout` seconds."""
    with start(*words, cwd=cwd) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def last_line(text: str) -> str:
    return text.rstrip().splitlines()[-1]
