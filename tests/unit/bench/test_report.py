"""The results page says what the benchmarks found."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import report
from tests.bench.figure import Absent, Figure
from tests.bench.results import write

TABLES = {
    "quality": {
        "machine": {"CPU": "x"},
        "lines": [
            {
                "name": "kmeans: digits",
                "rows": 1437,
                "features": 64,
                "objective": 2.0,
                "objective_difference": -1e-8,
                "objective_tolerance": 1e-6,
                "metric": "spread left",
                "ours": 0.5,
                "peer": 0.25,
                "metric_tolerance": 1e-6,
                "missing": None,
                "is_met": False,
            },
            {"name": "svm: flights", "missing": "no network", "is_met": True},
        ],
    },
    "faults": {"table": [{"fault": "SIGKILL", "runs": 3, "mean s": None, "hangs": 1, "wrong": 0}]},
    "sha_matrix": {"machine": {"CPU": "x"}, "table": [{"workload": "svm", "1": "ab", "2": "ab", "equal": "yes"}]},
}


def line(**fields: object) -> Figure:
    return Figure(**{"name": "fit", "ours": 1.0, "peer": 2.0, "spread": 0.1, "bound": 0.6, **fields})


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with figures of each kind."""
    folder = tmp_path / "performance"
    folder.mkdir()
    quality = {"quality": (1.0, 2.0), "tolerance": 1e-6, "note": "tol=1e-05"}
    sections = {"svm": [line(name="slow", bound=0.1, **quality), Absent(name="other", reason="no network")]}
    write(folder / "bench.json", sections | {"scaling": [line(name="2 ranks", peer=0.95, bound=1.2, ranks=2)]})
    write(folder / "larger_than_memory.json", {"larger than memory": [line(name="peak", unit="MiB")]})
    for name, found in TABLES.items():
        (folder / f"{name}.json").write_text(json.dumps(found))
    return folder


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, True),
        ({"bound": 0.4}, False),
        ({"quality": (1.00001, 1.0), "tolerance": 1e-6}, False),
        ({"quality": (0.9, 1.0), "tolerance": 1e-6}, True),
        ({"ours": 0.0, "peer": 0.0, "bound": 1.0}, True),
        ({"ours": 1.0, "peer": 0.0, "bound": 1.0}, False),
    ],
)
def test_a_bound_is_met_by_a_ratio_and_an_objective(fields, want):
    assert line(**fields).is_met == want


@pytest.mark.parametrize(
    "want",
    [
        "| slow | 1 s ±5% | 2 s ±0% | 0.5 | 0.1 | -5e-01 (≤ 1e-06) | MISSED |",
        "* slow: tol=1e-05",
        "| other |  |  |  |  |  | not available: no network |",
        "| peak | 1 MiB ±5% | 2 MiB ±0% | 0.5 | 0.6 |  | ok |",
        "| kmeans: digits | 1437 x 64 | -1e-08 (≤ 1e-06) | spread left | 0.500000 | 0.250000 | +2e-01 (≤ 1e-06) | MISSED |",
        "| svm: flights |  |  |  |  |  |  | not available: no network |",
        "| SIGKILL | 3 |  | 1 | 0 |",
        "| svm | ab | ab | yes |",
        "`python -m tests.bench.sha_matrix --json docs/performance/sha_matrix.json`",
        "* slow: ratio 0.5, bound 0.1, objective -5e-01 (≤ 1e-06)\n* quality of kmeans: digits\n* SIGKILL: 1 hangs and 0 wrong ends in 3 runs",
    ],
)
def test_the_page_shows_each_kind_of_figure(kept, want):
    """Tables, notes, commands, and all that is missed."""
    assert f"{want}\n" in report.generated(kept)[kept.with_suffix(".md")]


def test_a_plot_shows_each_figure_and_its_bound(kept):
    """As a bar with a mark, in a file that is XML."""
    plot = ElementTree.fromstring(report.generated(kept)[kept / "ratios.svg"])  # noqa: S314 - made above
    kinds = [element.get("class") for element in plot.iter()]
    assert (kinds.count("bound"), kinds.count("met"), kinds.count("missed")) == (3, 2, 1)
    assert kept / "scaling.svg" in report.generated(kept)


def test_a_page_of_other_figures_is_stale(kept):
    """`make verify` finds it."""
    for path, text in report.stale(kept).items():
        path.write_text(text)
    assert report.stale(kept) == {}
    write(kept / "bench.json", {"svm": [line(ours=1.5)]})
    assert kept.with_suffix(".md") in report.stale(kept)


def test_a_part_is_measured_anew(kept):
    """The other sections stay as they are."""
    before = json.loads((kept / "bench.json").read_text())["sections"]
    write(kept / "bench.json", {"svm": [line(ours=1.5)]}, is_part=True)
    after = json.loads((kept / "bench.json").read_text())["sections"]
    assert (after["scaling"], after["svm"][0]["ours"]) == (before["scaling"], 1.5)


def test_the_page_is_that_of_the_figures():
    """Regenerated, each file has the text that is kept."""
    assert list(report.stale()) == [], "run `make generate`"
