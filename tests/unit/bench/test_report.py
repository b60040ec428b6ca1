"""The results page says what the benchmarks found."""

import pytest

from tests.bench import report
from tests.bench.figure import Absent, Figure


def line(**fields: object) -> Figure:
    return Figure(**{"name": "fit", "ours": 1.0, "peer": 2.0, "spread": 0.1, "bound": 0.6, **fields})


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, True),
        ({"bound": 0.4}, False),
        ({"quality": (1.00001, 1.0), "tolerance": 1e-6}, False),
        ({"quality": (0.9, 1.0), "tolerance": 1e-6}, True),
    ],
)
def test_a_bound_is_met_by_a_ratio_and_an_objective(fields, want):
    assert line(**fields).is_met == want


def test_the_page_names_what_is_missed_and_what_is_not_available():
    lines = [line(name="slow", bound=0.1).as_json(), Absent(name="other", reason="no network").as_json()]
    page = report.page({"bench": {"machine": {"CPU": "x"}, "repeats": 5, "sections": {"svm": lines}}})
    assert "- slow: ratio 0.50, bound 0.10" in page
    assert "| other | | | | | | not available: no network |" in page


def test_the_page_is_that_of_the_figures():
    """Regenerated, each file has the text that is kept."""
    for path, text in report.generated().items():
        assert path.read_text() == text, f"{path} is out of date: run `make performance`"
