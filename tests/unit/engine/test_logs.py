"""Log lines: their form, their fields, and the story of one look at a job."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Phase
from scalejob.engine import trace
from scalejob.engine.logs import JsonFormatter, TextFormatter, fields_of, log_fields
from scalejob.kube.client import EVENTS
from scalejob.kube.errors import AlreadyExists
from scalejob.plan.model import Plan, PodRef
from tests.tools import ROOT
from tests.unit.engine.cluster import KEY, Operator, job_body
from tests.unit.engine.memory_server import MemoryServer
from tests.unit.plan.builders import make_job, running


def make_record(**extra: object) -> logging.LogRecord:
    fields = {"name": "scalejob.x", "levelname": "INFO", "msg": "job is now %s", "args": ("Running",)}
    return logging.makeLogRecord(fields | extra)


RECORD = make_record(job="n/job", attempt=1, reason=None)


def test_logs_are_events_with_fields():
    """One JSON object with the fields; those without a value are left out."""
    line = json.loads(JsonFormatter().format(RECORD))
    assert list(line) == ["time", "level", "logger", "message", "job", "attempt"]
    assert (line["level"], line["message"], line["job"]) == ("info", "job is now Running", "n/job")


def test_logs_for_people():
    """The same as text. What others have said stays on its line."""
    record = make_record(why="denied:\n12:00:00 info all is well")
    assert TextFormatter().format(record).endswith(" why=denied: 12:00:00 info all is well")
    assert TextFormatter().format(RECORD).endswith("info job is now Running job=n/job attempt=1")


async def test_the_context_goes_into_every_line():
    """Also of libraries, and of tasks that are started in it; what a line says itself wins."""

    async def fields(**extra: object) -> dict[str, object]:
        return fields_of(make_record(name="aiohttp", **extra))

    with log_fields(job="n/a", uid="u"), log_fields(attempt=1):
        assert await asyncio.create_task(fields(uid="mine")) == {"job": "n/a", "uid": "mine", "attempt": 1}
    assert await fields() == {}


def test_kopf_names_the_job_too():
    """Its own field for the object becomes ours."""
    ref = {"apiVersion": "scalejob.io/v1alpha1", "namespace": "n", "name": "job", "uid": "u"}
    record = make_record(name="kopf.objects", k8s_ref=ref, k8s_skip=True, settings=object())
    assert fields_of(record) == {"job": "n/job", "uid": "u"}


DYING = """
import logging, warnings
from scalejob.engine.logs import configure_logs
configure_logs("{log_format}", "info")
logging.getLogger("scalejob.x").debug("nobody reads this")
logging.getLogger("aiohttp").info("nor this")
logging.getLogger("aiohttp").warning("a library")
warnings.warn("old", DeprecationWarning)
1 / 0
"""


def end_of(log_format: str) -> list[str]:
    """The lines of a process that warns and dies."""
    argv = [sys.executable, "-W", "default", "-c", DYING.format(log_format=log_format)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()


def test_nothing_is_written_past_the_format():
    """Warnings of Python and the error that ends the process are lines of JSON as well, the trace is a field."""
    library, warning, end = map(json.loads, end_of("json"))
    assert (library["logger"], library["message"]) == ("aiohttp", "a library")
    assert (warning["logger"], warning["level"]) == ("py.warnings", "warning")
    assert (end["level"], end["exception"].splitlines()[-1]) == ("critical", "ZeroDivisionError: division by zero")


def test_people_see_the_trace_below_the_line():
    """As they know it."""
    assert end_of("text")[-1] == "ZeroDivisionError: division by zero"


class TestTrace:
    @pytest.fixture
    def lines(self) -> Iterator[Callable[[], list[dict[str, object]]]]:
        """What is written at debug."""
        out, logger = io.StringIO(), logging.getLogger("scalejob")
        handler = logging.StreamHandler(out)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    def test_tells_what_was_seen_and_decided(self, lines: Callable[[], list[dict[str, object]]]):
        """Pods of the present attempt by phase; of the status what changes; of long lists the beginning and the number."""
        job = make_job().status(Status(phase=Phase.RUNNING, attempt=1)).build()
        pods = (running(0, attempt=1), running(1, attempt=1), running(1, attempt=0))
        refs = tuple(PodRef(name=f"p{i}", uid="u") for i in range(100))
        trace.saw(job, pods)
        trace.decided(job, Plan(status=job.status.model_copy(update={"phase": Phase.FAILED}), deletes=refs))
        saw, decided = lines()
        assert (saw["phase"], saw["pods"], saw["pods_of_others"]) == ("Running", {"Running": 2}, 1)
        assert (decided["status"], decided["num_deletes"], len(decided["deletes"])) == ({"phase": "Failed"}, 100, 20)
        assert "creates" not in decided

    async def test_tells_each_request(self, lines: Callable[[], list[dict[str, object]]]):
        """With its path, its code and how long it took, also if it failed."""
        body = {"metadata": {"name": "e"}}
        async with MemoryServer().serving() as client:
            await client.create(EVENTS, "n", body)
            with pytest.raises(AlreadyExists):
                await client.create(EVENTS, "n", body)
        assert [line["code"] for line in lines()] == [201, 409]
        assert {(line["verb"], line["path"]) for line in lines()} == {("create", "/api/v1/namespaces/n/events")}
        assert all(line["ms"] > 0 for line in lines())

    async def test_is_one_story(self, lines: Callable[[], list[dict[str, object]]]):
        """Seen, decided, requests one after the other, done: all under one number, and all name the job."""
        server = MemoryServer()
        server.put("scalejobs", job_body(workers=2))
        async with server.serving() as client:
            operator = Operator(server, client)
            for _ in range(2):
                operator.see()
                with trace.look(KEY, operator.jobs.get(KEY)):
                    await operator.reconciler.reconcile(KEY)
        assert len({line["reconcile"] for line in lines()}) == 2
        assert {(line["job"], line["uid"], line["attempt"]) for line in lines()} == {(KEY, "uid-job", 0)}
        story = [line["message"] for line in lines() if line["reconcile"] == lines()[0]["reconcile"]]
        assert story[:2] + story[-1:] == ["saw", "decided", "looked"]
        assert story.count("request") == len(story) - 4  # and that its phase has changed

    def test_costs_nothing_where_nobody_reads_it(self):
        """At info neither the Pods are counted nor is the status compared: nothing of what is passed is touched."""
        trace.saw(None, None)
        trace.decided(None, None)
