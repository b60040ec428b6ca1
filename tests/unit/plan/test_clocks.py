"""An operator that is started again may have another clock than the one before."""

import pytest

from scalejob.contract import Phase, Reason
from scalejob.plan.decide import decide
from tests.unit.plan.builders import after, failed, make_job, planned, running, started

_HOUR = 3600


def test_a_clock_that_was_set_back_costs_no_more_than_a_backoff() -> None:
    """The end of the back-off would lie an hour ahead."""
    job = planned(started(make_job()), ([failed(0)], after(_HOUR)))
    assert decide(job, [], after(0)).creates == (0,)


def test_a_backoff_is_not_cut_short() -> None:
    """It may lie ahead by backoffMaxSeconds."""
    job = planned(started(make_job().spec(restarts={"backoffSeconds": 60})), ([failed(0)], after(60)))
    assert decide(job, [], after(60)).requeue_after == 60


@pytest.mark.parametrize(("seconds", "want"), [(99, Phase.RUNNING), (100, Phase.FAILED)])
def test_the_deadline_of_running_starts_again_where_its_start_is_to_come(seconds: float, want: Phase) -> None:
    """It is late by what had passed before, not by an hour."""
    job = planned(make_job().spec(deadlines={"activeSeconds": 100}).build(), ([], after(_HOUR)))
    job = planned(job, ([running(0)], after(_HOUR)), ([running(0)], after(0)))
    assert decide(job, [running(0)], after(seconds)).status.phase is want


def test_clocks_that_differ_a_little_change_nothing() -> None:
    """Two replicas, whose hosts are kept in time."""
    job = started(make_job())
    assert decide(job, [running(0)], after(-30)).status == job.status


def test_the_end_of_a_job_stays_as_it_is() -> None:
    """Terminal is terminal."""
    job = planned(started(make_job().spec(restarts={"failures": 0})), ([failed(0)], after(_HOUR)))
    assert job.status.reason == Reason.RESTART_LIMIT_EXCEEDED
    assert decide(job, [failed(0)], after(0)).status == job.status
