"""What the chart brings for Prometheus and Grafana: it asks only for what the operator shows, and each alert does what it says."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.dashboard import TARGET as DASHBOARD
from charts.dashboard import build_dashboard
from charts.plain_manifest import CHART
from tests.chart.types import Object, Render
from tests.documented import METRICS_PAGE, documented_samples
from tests.tools import find_tool

ALERTS = CHART / "files" / "alerts.yaml"
ALERT_TESTS = Path(__file__).with_name("alerts_test.yaml")
EVERYTHING = tuple(
    f"metrics.{part}.enabled=true" for part in ("service", "serviceMonitor", "prometheusRule", "dashboard")
)
# Which Prometheus adds to all that it scrapes from a Pod.
LABELS_OF_THE_SCRAPE = {"namespace", "job", "pod"}
# What Grafana puts in.
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h", "$namespace": ".*"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in build_dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Of the dashboard, with values in place of Grafana's variables."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    for variable, value in VARIABLES.items():
        found = [query.replace(variable, value) for query in found]
    return found


EXPRESSIONS = [rule["expr"] for rule in rules()] + queries()


def added(render: Render, *settings: str) -> list[Object]:
    """The objects that the settings add to the chart."""
    without = [(o["kind"], o["metadata"]["name"]) for o in render()]
    return [o for o in render(*settings) if (o["kind"], o["metadata"]["name"]) not in without]


def test_nothing_by_default(render: Render):
    """A cluster may have no Prometheus operator, which knows the kinds."""
    assert {o["kind"] for o in render()}.isdisjoint({"Service", "ServiceMonitor", "PrometheusRule", "ConfigMap"})
    assert {o["kind"] for o in added(render, *EVERYTHING)} == {
        "Service",
        "ServiceMonitor",
        "PrometheusRule",
        "ConfigMap",
    }


def test_the_scrape_reaches_the_operator(render: Render):
    """Monitor, Service and Pods fit together, by labels and by the name of the port; the Service comes with the monitor."""
    found = {o["kind"]: o for o in render("metrics.serviceMonitor.enabled=true")}
    (endpoint,) = found["ServiceMonitor"]["spec"]["endpoints"]
    (port,) = found["Service"]["spec"]["ports"]
    pod = found["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert endpoint["port"] == port["name"]
    assert {"name": port["targetPort"], "containerPort": port["port"]} in container["ports"]
    assert found["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    selector = found["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= found["Service"]["metadata"]["labels"].items()


def test_the_namespace_is_the_job_s(render: Render):
    """Prometheus does not rename the label `namespace` of jobs, by which dashboard and alerts tell them apart."""
    (monitor,) = added(render, "metrics.serviceMonitor.enabled=true")[1:]
    assert monitor["spec"]["endpoints"][0]["honorLabels"]


def test_own_labels(render: Render):
    """Those by which a Prometheus or a Grafana selects what it reads."""
    settings = [f"metrics.{part}.labels.release=mine" for part in ("serviceMonitor", "prometheusRule", "dashboard")]
    labels = {o["kind"]: o["metadata"]["labels"] for o in added(render, *EVERYTHING, *settings)}
    assert {kind for kind, of in labels.items() if of.get("release") == "mine"} == labels.keys() - {"Service"}
    assert labels["ConfigMap"]["grafana_dashboard"] == "1"


def test_the_chart_ships_the_files(render: Render):
    """The dashboard is the generated one, and the rules are those of the file, with the reader's address of the documentation."""
    settings = ("metrics.prometheusRule.runbooks=https://example.org/docs/",)
    found = {o["kind"]: o for o in added(render, *EVERYTHING, *settings)}
    assert json.loads(found["ConfigMap"]["data"]["scalejob.json"]) == build_dashboard()
    shipped = yaml.safe_dump(found["PrometheusRule"]["spec"]).replace("https://example.org/docs/", "docs/")
    assert yaml.safe_load(shipped) == yaml.safe_load(ALERTS.read_text())


def test_the_dashboard_is_generated():
    """dashboard.json is what charts/dashboard.py makes."""
    assert json.loads(DASHBOARD.read_text()) == build_dashboard()


def test_the_dashboard_is_whole():
    """Each panel has a number of its own, says what it shows, and hides no other."""
    all_panels = build_dashboard()["panels"]
    assert len({panel["id"] for panel in all_panels}) == len(all_panels)
    assert all(panel["description"] and panel["targets"] for panel in panels())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in all_panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=[re.sub(r"\s+", " ", e)[:70] for e in EXPRESSIONS])
def test_asks_only_for_what_there_is(expression: str):
    """Prometheus' own parser reads each expression of dashboard and alerts; its metrics and their labels are documented ones."""
    asked = ask_parser(expression)
    shown = documented_samples()
    assert asked["metrics"].keys() <= shown.keys()
    for name, labels in asked["metrics"].items():
        assert set(labels) <= shown[name] | LABELS_OF_THE_SCRAPE
    available = LABELS_OF_THE_SCRAPE.union(*(shown[name] for name in asked["metrics"]))
    assert set(asked["grouping"]) <= available


def test_the_parser_refuses():
    """The test above would fail for a misspelt expression."""
    with pytest.raises(subprocess.CalledProcessError):
        ask_parser("sum by (class) (rate(scalejob_restarts_total[5m])")
    assert ask_parser('a{b="c"} / on (d) e') == {"metrics": {"a": ["b"], "e": []}, "grouping": ["d"]}


def ask_parser(expression: str) -> dict[str, Any]:
    """What it asks for; see tests/go/prometheus/promql."""
    line = " ".join(expression.split())
    done = subprocess.run([find_tool("promql")], input=line, capture_output=True, text=True, check=True)
    asked: dict[str, Any] = json.loads(done.stdout)
    return asked


def test_legends_are_labels():
    """What a legend shows is what its expression keeps."""
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                grouped = re.match(r"(?:3600 \* )?sum by \(([^)]*)\)", target["expr"])
                assert label in (grouped[1].split(", ") if grouped else LABELS_OF_THE_SCRAPE)


def test_the_dashboard_shows_every_metric():
    """Nothing is measured for nobody."""
    asked = {name for query in queries() for name in ask_parser(query)["metrics"]}
    histograms = {name.removesuffix("_bucket") for name in asked if name.endswith("_bucket")}
    unseen = documented_samples().keys() - asked
    assert {name for name in unseen if re.sub("_(sum|count)$", "", name) not in histograms} == set()


def test_alerts_fire_and_do_not():
    """Series of good and of bad days; see alerts_test.yaml."""
    promtool = find_tool("promtool")
    for command in (["check", "rules", "--lint=all", "--lint-fatal", ALERTS], ["test", "rules", ALERT_TESTS]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_both_ways():
    """At one time it fires, at another it does not."""
    tests = [test for case in yaml.safe_load(ALERT_TESTS.read_text())["tests"] for test in case["alert_rule_test"]]
    named = {(test["alertname"], bool(test.get("exp_alerts"))) for test in tests}
    assert named == {(rule["alert"], fires) for rule in rules() for fires in (True, False)}


def test_each_alert_has_a_section():
    """It links to it, and the section says what the alert means and what to do."""
    page = METRICS_PAGE.read_text()
    sections = re.findall(r"^### (ScaleJob\w+)$", page, re.MULTILINE)
    assert sections == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook_url"] == f"docs/metrics.md#{rule['alert'].lower()}"
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in ("critical", "warning")
