"""kopf is asked for no more than it may do."""

import asyncio
import logging
import os
import random
import signal
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import kopf
import pytest
from click.testing import CliRunner

from scalejob import app
from scalejob.app import build_registry, build_settings
from scalejob.cli import operator as command
from scalejob.contract import KIND, LABEL_JOB
from scalejob.engine.engine import Engine, trim_pod
from scalejob.engine.metrics import Metrics
from scalejob.engine.options import Options
from scalejob.kube.client import Client, Page
from scalejob.kube.config import ClusterConfig
from tests.unit.engine.cluster import KEY, job_body

OPTIONS = Options(trainer_image="trainer")


@pytest.fixture
async def engine() -> Engine:
    return Engine(OPTIONS, Client(ClusterConfig(server="http://127.0.0.1:1")), Metrics())


@pytest.fixture
def registry(engine: Engine) -> kopf.OperatorRegistry:
    return build_registry(engine, Client(ClusterConfig(server="http://127.0.0.1:1")))


def test_nothing_else_is_registered(registry: kopf.OperatorRegistry):
    """Any handler but on.event would make kopf write annotations and finalizers to the objects it watches."""
    found = {name: len(part.get_all_handlers()) for name, part in vars(registry).items() if name != "_activities"}
    assert found == {"_indexing": 0, "_watching": 1, "_spawning": 0, "_changing": 0, "_webhooks": 0}
    activities = sorted(handler.activity.value for handler in registry._activities.get_all_handlers())
    assert activities == ["authentication", "cleanup", "startup"]


async def test_an_event_is_only_put_into_the_store(registry: kopf.OperatorRegistry, engine: Engine):
    """The handler reads, stores and returns."""
    handler = registry._watching.get_all_handlers()[0].fn
    body = job_body()
    body["metadata"]["resourceVersion"] = "1"
    await handler(event={"type": None, "object": body})
    assert engine.jobs.get(KEY).uid == "uid-job"
    await handler(event={"type": "DELETED", "object": body})
    assert engine.jobs.get(KEY) is None


async def test_a_list_of_all_jobs_ends_the_memory_of_their_pods(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """Also where no worker looks at a job, since another replica leads."""
    monkeypatch.setattr(Client, "list_page", AsyncMock(return_value=Page(items=[], resource_version="1", continue_="")))
    monkeypatch.setattr(Client, "discovers", AsyncMock(return_value=True))
    pod = trim_pod(make_pod({LABEL_JOB: "job"}, [{"kind": KIND, "name": "job", "uid": "gone", "controller": True}]))
    assert pod
    engine._pods.put(pod)
    engine._pods.drop(pod.uid)
    assert len(engine._departed) == 1
    await engine._list_all_jobs()
    assert len(engine._departed) == 0


def test_nothing_is_written_and_nothing_scanned():
    """Null storages, no posting, no look at CRDs and namespaces."""
    settings = build_settings()
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert settings.persistence.diffbase_storage.build(body={"spec": 1}) == {}


def test_backoff_never_ends():
    """An API server that is away for a day is no reason to end; each pause is at most 30 s."""
    backoffs = iter(build_settings().networking.error_backoffs)
    random.seed(0)
    assert all(0.5 <= next(backoffs) <= 30 for _ in range(3000))
    assert logging.getLogger("kopf").level == logging.NOTSET


async def test_a_part_that_dies_ends_the_operator(caplog: pytest.LogCaptureFixture, unused_tcp_port: int):
    """Half an operator is worse than none: the kubelet starts a whole one."""
    closed = Client(ClusterConfig(server="http://127.0.0.1:1"))  # never opened: every request is a defect
    engine = Engine(Options(trainer_image="trainer", metrics_port=unused_tcp_port), closed, Metrics())
    async with engine.running(), asyncio.timeout(5):
        await engine.failed.wait()
    assert "a part of the operator has died" in caplog.text


KUBECONFIG = """
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
"""


async def test_it_can_be_stopped_before_it_watches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unused_tcp_port: int
):
    """SIGTERM ends an operator that still waits for the API server or for the CRD."""
    monkeypatch.setattr(app, "configure_logs", lambda log_format, level: None)
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(KUBECONFIG)
    options = Options(trainer_image="trainer", kubeconfig=str(kubeconfig), metrics_port=unused_tcp_port)
    async with asyncio.timeout(5):
        running = asyncio.create_task(app.run(options))
        await asyncio.sleep(0.05)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running


def make_pod(labels: dict[str, str], owners: list[dict[str, object]]) -> dict[str, object]:
    metadata = {"name": "job-0-0", "namespace": "n", "uid": "u", "labels": labels, "ownerReferences": owners}
    return {"metadata": metadata, "spec": {}, "status": {}}


OWNER = {"uid": "o", "kind": KIND, "name": "job", "controller": True}


@pytest.mark.parametrize(
    ("owners", "want"),
    [
        ([{"uid": "x"}, OWNER], "n/job"),
        ([], None),
        ([OWNER | {"controller": False}], None),
        ([OWNER | {"kind": "ReplicaSet"}], None),
    ],
)
def test_pods_are_known_by_their_owner(owners: list[dict[str, object]], want: str | None):
    """A Pod with our label that no ScaleJob controls is not looked at, and what its labels say is nothing to go by."""
    entry = trim_pod(make_pod({LABEL_JOB: "edited"}, owners))
    assert (entry.owner_key if entry else None) == want


def test_options_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    """What a Deployment sets as environment reaches the operator."""
    given: list[Options] = []

    async def run(options: Options) -> bool:
        given.append(options)
        return True

    monkeypatch.setattr(command, "run", run)
    env = {"SCALEJOB_TRAINER_IMAGE": "t:1", "SCALEJOB_OPERATOR_NAMESPACES": "a b", "SCALEJOB_OPERATOR_QPS": "50"}
    result = CliRunner().invoke(command.operator_command, env=env)
    assert result.exit_code == 0, result.output
    assert given == [Options(trainer_image="t:1", namespaces=("a", "b"), qps=50.0)]


@pytest.mark.parametrize(("is_terminal", "want"), [(True, "text"), (False, "json")])
def test_people_at_a_terminal_read_text(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, want: str):
    """Machines get JSON, unless they say otherwise."""
    given: list[str] = []

    async def run(options: Options) -> bool:
        given.append(options.log_format)
        return True

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: is_terminal), exit=exit))
    for arguments in ([], ["--log-format", "json"]):
        CliRunner().invoke(command.operator_command, ["--trainer-image", "t", *arguments])
    assert given == [want, "json"]


def test_no_cluster_is_one_line():
    """Without a configuration the operator says where it looked."""
    result = CliRunner().invoke(command.operator_command, ["--trainer-image", "t", "--kubeconfig", "/nowhere"])
    assert result.exit_code == 1
    assert result.output == "Error: cannot read the kubeconfig /nowhere: No such file or directory\n"
