"""A real helm renders the real chart."""

import subprocess
from pathlib import Path

import pytest
import yaml

from charts.plain_manifest import CHART, KUBE_VERSION
from tests.chart.types import Helm, Object, Render
from tests.tools import find_tool


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm; the caller looks at the return code."""
    program: Path = find_tool("helm")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], check=False, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """The objects of the chart under the given `--set` options."""

    def run(*settings: str, release: str = "scalejob") -> list[Object]:
        options = [option for setting in settings for option in ("--set", setting)]
        done = helm("template", release, CHART, "--namespace", "system", "--kube-version", KUBE_VERSION, *options)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return run
