"""What the process tells machines: its page of metrics, and its log."""

import asyncio
import json
import subprocess
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from scalejob.contract import Phase
from tests.controlplane.api import Jobs
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.replicas import page
from tests.documented import documented_metrics, documented_samples
from tests.tools import find_tool

NAME = "of-this-very-job"


async def live(jobs: Jobs, kubelet: FakeKubelet) -> None:
    """A job with a failure, and an end."""
    await jobs.create(NAME, workers=2)
    await jobs.reaches(Phase.RUNNING, NAME)
    await kubelet.end(jobs.namespace, f"{NAME}-0-1", 1, message="boom")
    await jobs.reaches(Phase.RUNNING, NAME, attempt=1)
    for index in range(2):
        await kubelet.succeed(jobs.namespace, f"{NAME}-1-{index}")
    await jobs.reaches(Phase.SUCCEEDED, NAME)


async def test_metrics(jobs: Jobs, operator: OperatorProcess, kubelet: FakeKubelet):
    """Names, types and labels are the documented ones, Prometheus' linter finds nothing, and no label names a job or a Pod."""
    await live(jobs, kubelet)
    _, text = await page(operator.port, "metrics")
    families = list(text_string_to_metric_families(text))
    found = {sample.name: frozenset(sample.labels) for family in families for sample in family.samples}
    assert found == documented_samples()
    types = {f"{f.name}_total" if f.type == "counter" else f.name: f.type for f in families}
    assert types == {metric.name: metric.type for metric in documented_metrics()}
    assert NAME not in text
    assert _lint(text) == ""


def _lint(text: str) -> str:
    command = [find_tool("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


async def test_log(jobs: Jobs, operator: OperatorProcess, kubelet: FakeKubelet, control_plane: ControlPlane):
    """Each line is an object, also those of kopf, whose watch breaks; at debug a look at a job can be read from begin to end."""
    operator.stop()
    before = len(operator.log.read_text())
    await operator.start("--log-format", "json", "--log-level", "debug")
    await live(jobs, kubelet)
    await asyncio.to_thread(control_plane.restart_api_server, 0.5)
    await jobs.create("second")
    await jobs.reaches(Phase.RUNNING, "second")
    operator.stop()
    lines = [json.loads(line) for line in operator.log.read_text()[before:].splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert "kopf" in {line["logger"].partition(".")[0] for line in lines}
    end = next(line for line in lines if line["message"] == "job is now Succeeded")
    uid = (await jobs.get(NAME))["metadata"]["uid"]
    assert (end["job"], end["uid"], end["attempt"]) == (f"{jobs.namespace}/{NAME}", uid, 1)
    assert end["reason"] == "AllWorkersSucceeded"
    _is_a_story([line for line in lines if line.get("reconcile") == end["reconcile"]])


def _is_a_story(lines: list[dict[str, Any]]) -> None:
    """What was seen, decided and asked, and how long it took."""
    saw, decided, *requests, looked = [line for line in lines if line["level"] == "debug"]
    assert (saw["message"], saw["phase"], saw["pods"]) == ("saw", "Running", {"Succeeded": 2})
    assert decided["message"] == "decided"
    assert decided["status"]["phase"] == "Succeeded"
    assert requests[0]["path"].endswith(f"/{NAME}/status")
    assert [(request["verb"], request["code"]) for request in requests] == [("patch", 200), *[("delete", 200)] * 2]
    assert looked["ms"] > requests[0]["ms"] > 0
