"""$REQUIRE: what must run may not be skipped."""

import pytest

from tests import conftest
from tests.tools import ROOT


def skipped() -> pytest.TestReport:
    """The report of a test that could not run."""
    return pytest.TestReport("id", ("file", 1, "test"), {}, "skipped", ("file", 1, "Skipped: no helm"), "setup")


def test_skip_of_a_required_tier_fails(monkeypatch: pytest.MonkeyPatch):
    """It becomes a failure that says why the test was skipped."""
    monkeypatch.setattr(conftest, "REQUIRED", frozenset({"chart"}))
    report = skipped()
    conftest.refuse_skip(report, ROOT / "tests/chart/test_chart.py")
    assert report.failed
    assert "no helm" in str(report.longrepr)


def test_skip_elsewhere_is_a_skip(monkeypatch: pytest.MonkeyPatch):
    """Other tiers may be left out."""
    monkeypatch.setattr(conftest, "REQUIRED", frozenset({"chart"}))
    report = skipped()
    conftest.refuse_skip(report, ROOT / "tests/e2e/test_install.py")
    assert report.skipped
