"""The clock of the operator passes evenly."""

from datetime import UTC, datetime

from scalejob.kube.clock import SteadyClock


def test_it_shows_the_time_of_the_host_and_then_what_has_passed():
    """Whatever the host's clock says later."""
    wall, steady = 1_000_000.0, 50.0
    clock = SteadyClock(lambda: wall, lambda: steady)
    assert clock() == datetime.fromtimestamp(1_000_000, UTC)
    wall, steady = 9_000_000.0, 60.5
    assert clock() == datetime.fromtimestamp(1_000_010.5, UTC)


def test_it_agrees_with_the_host_at_first():
    assert abs((SteadyClock()() - datetime.now(UTC)).total_seconds()) < 1
