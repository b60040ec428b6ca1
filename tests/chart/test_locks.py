"""docker/*.lock pins what pyproject.toml asks for. It is written by `make lock`; here only the agreement is checked."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.tools import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDS = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
IMAGES = {"operator": ("operator",), "trainer": ("torch", "trainer")}  # image -> its locks
INSTALLED = {"operator": ("operator",), "trainer": ("trainer", "s3", "gcs", "http")}  # image -> its extras
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+).*(?:\n +--hash=sha256:[0-9a-f]{64}.*)+", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """Package -> version, of the entries that carry a hash."""
    return dict(PIN.findall((ROOT / "docker" / f"{lock}.lock").read_text()))


DIRECT = [(image, text) for image in IMAGES for text in [*NEEDS, *(t for e in INSTALLED[image] for t in EXTRAS[e])]]


@pytest.mark.parametrize(("image", "text"), DIRECT)
def test_pinned(image: str, text: str):
    """Every direct requirement is pinned, by a version in its range."""
    needed = Requirement(text)
    pinned = {name: version for lock in IMAGES[image] for name, version in pins(lock).items()}
    assert pinned[needed.name.lower()] in needed.specifier


@pytest.mark.parametrize("lock", ["build", "operator", "torch", "trainer"])
def test_every_pin_has_hashes(lock: str):
    """No package without the hashes of its files."""
    text = (ROOT / "docker" / f"{lock}.lock").read_text()
    assert len(pins(lock)) == sum("==" in line.partition(";")[0] for line in text.splitlines())


def test_operator_without_torch():
    """The operator's image holds nothing of the trainer."""
    assert pins("operator").keys().isdisjoint({"torch", "numpy", "pyarrow", "scikit-learn"})


def test_trainer_without_kopf():
    """The trainer's image holds nothing of the operator."""
    assert (pins("torch") | pins("trainer")).keys().isdisjoint({"kopf", "prometheus-client"})
