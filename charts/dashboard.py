"""`python -m charts.dashboard [--check]`: charts/scalejob/files/dashboard.json, the Grafana dashboard, from the table below.

Replicas that stand by show the same jobs as the leader, so jobs are a maximum over replicas; what they count is a sum.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charts.keep import keep

TARGET = Path(__file__).parent / "scalejob" / "files" / "dashboard.json"
QUEUE = "scalejob_queue_depth and scalejob_leader == 1"  # a replica that stands by takes no job from its queue
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # of Grafana's grid


@dataclass(frozen=True)
class Panel:
    """A picture of series over time. `queries`: the expression behind each legend; `unit`: one of Grafana's."""

    title: str
    text: str
    queries: dict[str, str]
    unit: str = "short"
    is_stacked: bool = False
    kind = "timeseries"
    size = (8, 8)


class Stat(Panel):
    """One number."""

    kind = "stat"
    size = (4, 4)


def _jobs(phases: str = ".+") -> str:
    selected = f'scalejob_jobs{{namespace=~"$namespace",phase=~"{phases}"}}'
    return f"max by (namespace, workload, phase) ({selected})"


def _rate(counter: str, *by: str) -> str:
    """A second, of all replicas together."""
    grouping = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouping} (rate({counter}[$__rate_interval]))"


def _quantiles(histogram: str) -> dict[str, str]:
    buckets = _rate(f"{histogram}_bucket", "le")
    return {f"p{percent}": f"histogram_quantile({percent / 100}, {buckets})" for percent in (50, 90, 99)}


NOW = (
    Stat("Running", "Jobs whose workers all run.", {"": f"sum({_jobs('Running')}) or vector(0)"}),
    Stat(
        "Waiting",
        "Jobs that wait for workers to be scheduled, started or started again.",
        {"": f"sum({_jobs('Pending|Starting|Restarting')}) or vector(0)"},
    ),
    Stat("Failed", "Jobs that have failed and were not deleted.", {"": f"sum({_jobs('Failed')}) or vector(0)"}),
    Stat("Leaders", "Replicas that act on jobs: 1.", {"": "sum(scalejob_leader)"}),
    Stat("Queue", "Jobs that wait for a look of the leader.", {"": f"sum({QUEUE})"}),
    Stat(
        "GPU hours in the chosen time",
        "Of Pods that ended.",
        {"": "sum(increase(scalejob_gpu_seconds_total[$__range])) / 3600"},
    ),
)

JOBS = (
    Panel("Jobs by phase", "Jobs that exist.", {"{{phase}}": f"sum by (phase) ({_jobs()})"}, is_stacked=True),
    Panel(
        "Jobs by namespace",
        "Jobs that have not ended.",
        {"{{namespace}}": f"sum by (namespace) ({_jobs('Pending|Starting|Running|Restarting|Suspended')})"},
        is_stacked=True,
    ),
    Panel(
        "Ends an hour",
        "By result and reason; docs/reasons.md explains each reason.",
        {
            "{{result}} {{reason}}": "3600 * "
            + _rate('scalejob_jobs_finished_total{namespace=~"$namespace"}', "result", "reason")
        },
    ),
    Panel(
        "From creation to all workers running",
        "Of jobs that started for the first time.",
        _quantiles("scalejob_start_latency_seconds"),
        unit="s",
    ),
    Panel("From start to end", "Of jobs that ended.", _quantiles("scalejob_duration_seconds"), unit="s"),
    Panel(
        "New attempts an hour",
        "By what ended the one before.",
        {"{{class}}": "3600 * " + _rate("scalejob_restarts_total", "class")},
        is_stacked=True,
    ),
    Panel(
        "GPUs in use",
        "Seconds of Pods times their GPUs, counted when the Pods end: steps, not a curve.",
        {"GPUs": _rate("scalejob_gpu_seconds_total")},
    ),
    Panel("Pods created a second", "By the leader.", {"Pods": _rate("scalejob_pods_created_total")}),
)

OPERATOR = (
    Panel("Leader", "1 in the replica that acts on jobs.", {"{{pod}}": "scalejob_leader"}),
    Panel("Jobs in the queue", "That wait for a look of the leader.", {"{{pod}}": QUEUE}),
    Panel(
        "Looks a second",
        "At a job each; and those that failed and are tried again.",
        {
            "looks": _rate("scalejob_reconcile_duration_seconds_count"),
            "failed": _rate("scalejob_reconcile_errors_total"),
        },
    ),
    Panel("Length of a look", "Writes included.", _quantiles("scalejob_reconcile_duration_seconds"), unit="s"),
    Panel(
        "Requests a second by verb",
        "To the API server.",
        {"{{verb}} {{resource}}": _rate("scalejob_api_requests_total", "verb", "resource")},
        is_stacked=True,
    ),
    Panel(
        "Requests a second by code",
        "429: too many; 5xx: the API server's own fault; 0: no answer.",
        {"{{code}}": _rate("scalejob_api_requests_total", "code")},
    ),
)

ROWS: dict[str, tuple[Panel, ...]] = {"Now": NOW, "Jobs": JOBS, "Operator": OPERATOR}


def build_dashboard() -> dict[str, Any]:
    """What Grafana imports."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(_row(title, y))
        placed = _place(row, y + 1)
        panels += placed
        y = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in placed)
    return {
        "uid": "scalejob",
        "title": "ScaleJob",
        "tags": ["scalejob", "kubernetes"],
        "schemaVersion": 39,
        "editable": True,
        "timezone": "browser",
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_data_source(), _namespaces()]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _namespaces() -> dict[str, Any]:
    query = "label_values(scalejob_jobs, namespace)"
    options = {"multi": True, "includeAll": True, "allValue": ".*", "refresh": 2, "sort": 1}
    everything = {"selected": True, "text": "All", "value": "$__all"}
    return {
        "name": "namespace",
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "current": everything,
        **options,
    }


def _row(title: str, y: int) -> dict[str, Any]:
    return {
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
    }


def _place(row: tuple[Panel, ...], y: int) -> list[dict[str, Any]]:
    """From left to right, line by line."""
    placed, x = [], 0
    for panel in row:
        width, height = panel.size
        if x + width > COLUMNS:
            x, y = 0, y + height
        placed.append(_panel(panel) | {"gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x += width
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if panel.is_stacked else {"fillOpacity": 0}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "targets": [
            {"refId": "ABC"[i], "datasource": SOURCE, "expr": expression, "legendFormat": legend, "range": True}
            for i, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


def main() -> int:
    return keep(TARGET, json.dumps(build_dashboard(), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
