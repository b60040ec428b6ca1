"""A tier named in $REQUIRE (comma-separated: unit,dist,controlplane,chart,e2e) must run: there a skip is a failure."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
REQUIRED = frozenset(filter(None, os.environ.get("REQUIRE", "").split(",")))


def tier_of(path: Path) -> str:
    """The folder below tests/ that holds `path`; empty for files outside."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""


def refuse_skip(report: pytest.TestReport | pytest.CollectReport, path: Path) -> None:
    """Turn the skip of a required tier into a failure that shows the reason."""
    if report.skipped and not hasattr(report, "wasxfail") and tier_of(path) in REQUIRED:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"tier {tier_of(path)} is required, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """For skips inside tests and fixtures."""
    report = yield
    refuse_skip(report, item.path)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """For skips of whole modules."""
    report = yield
    refuse_skip(report, collector.path)
    return report
