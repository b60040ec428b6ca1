"""The metrics as docs/metrics.md lists them: what dashboards and alerts may ask for, and what the operator must show."""

import re
from dataclasses import dataclass

from tests.tools import ROOT

METRICS_PAGE = ROOT / "docs" / "metrics.md"
_ROW = re.compile(r"^\| `(scalejob_\w+)` \| (\w+) \| ([\w, ]*)\|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Documented:
    """One row of the table."""

    name: str
    type: str
    labels: frozenset[str]

    @property
    def samples(self) -> dict[str, frozenset[str]]:
        """The names under which Prometheus stores it, and the labels of each."""
        if self.type != "histogram":
            return {self.name: self.labels}
        return {
            f"{self.name}_bucket": self.labels | {"le"},
            f"{self.name}_sum": self.labels,
            f"{self.name}_count": self.labels,
        }


def documented_metrics() -> list[Documented]:
    """All rows."""
    rows = _ROW.findall(METRICS_PAGE.read_text())
    return [Documented(name, kind, frozenset(re.findall(r"\w+", labels))) for name, kind, labels in rows]


def documented_samples() -> dict[str, frozenset[str]]:
    """Of all metrics."""
    return {name: labels for metric in documented_metrics() for name, labels in metric.samples.items()}
