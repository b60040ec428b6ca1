"""What of a status is written, and how soon."""

from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from scalejob.api.v1alpha1 import Progress, RestartCounts, Status, Workers
from scalejob.contract import Phase
from scalejob.engine.expectations import Expectations
from scalejob.engine.status import StatusWriter, may_wait, merge_patch
from scalejob.plan.model import Plan
from tests.unit.engine.cluster import job_body
from tests.unit.plan.builders import make_job


def test_all_is_sent_and_what_is_gone_is_null():
    """Also values that did not change: the stored object may lack what the models have as default."""
    old = {"a": 1, "gone": 2, "nested": {"b": 1, "gone": {"c": 1}}, "list": [1]}
    new = {"a": 1, "nested": {"b": 2}, "list": []}
    assert merge_patch(old, new) == {"a": 1, "gone": None, "nested": {"b": 2, "gone": None}, "list": []}


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({"progress": Progress(step=1)}, 5.0),
        ({"progress": Progress(step=1), "workers": Workers(ready=1)}, 1.0),
        ({"workers": Workers(ready=1), "phase": Phase.RUNNING}, 0.0),
        ({"restarts": RestartCounts(failures=1)}, 0.0),
        ({"attempt": 1}, 0.0),
    ],
)
def test_the_most_urgent_change_decides(change: dict[str, object], want: float):
    """Figures may wait, decisions may not."""
    assert may_wait(Status(), Status().model_copy(update=change)) == want


def test_what_comes_together_is_written_together():
    """A figure waits for others a moment, and for the write before it as long as it may; a decision does not wait."""
    now = [100.0]
    writer = StatusWriter(None, None, lambda: now[0])  # type: ignore[arg-type] - nothing is written
    job = make_job().build()

    def delay(**change: object) -> float:
        return writer.delay(job, Plan(status=job.status.model_copy(update=change)))

    assert delay(succeeded_indices="0") == pytest.approx(0.2)
    now[0] += 0.15
    assert delay(succeeded_indices="0-1") == pytest.approx(0.05)
    assert delay(attempt=1) == 0
    now[0] += 0.05
    assert delay(succeeded_indices="0-2") == pytest.approx(0.0)


async def test_a_definition_of_a_former_release_is_told_of_once(caplog: pytest.LogCaptureFixture):
    """It knows no fields that came later, and the API server drops them."""
    answers = [job_body() | {"status": {"phase": "Running"}} for _ in range(2)]
    client = SimpleNamespace(merge_patch=AsyncMock(side_effect=answers))
    writer = StatusWriter(client, SimpleNamespace(put_own=lambda body: body))  # type: ignore[arg-type]
    for attempt in (1, 2):
        await writer.store(make_job().build(), Status(attempt=attempt, hold_time="2026-01-02T03:04:05Z"))
    (line,) = caplog.records
    assert "holdTime" in line.__dict__["fields"]


def test_expectations_wait_for_the_last_echo():
    """A job is not looked at while an echo is missing, but no longer than 30 s."""
    now = [0.0]
    expectations = Expectations(lambda: now[0])
    expectations.expect("k", "a")
    expectations.expect("k", "b")
    expectations.fulfil("k", "a")
    assert expectations.remaining("k") == 30
    assert expectations.remaining("other") == 0
    now[0] = 31.0
    assert expectations.remaining("k") == 0


def test_fulfilled_expectations_are_over():
    """The echo may come more than once, or unexpected."""
    expectations = Expectations(lambda: 0.0)
    expectations.expect("k", "a")
    expectations.fulfil("k", "a")
    expectations.fulfil("k", "a")
    assert expectations.remaining("k") == 0
