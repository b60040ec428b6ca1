"""The rate to the API server."""

import pytest

from scalejob.kube.limiter import TokenBucket


def test_a_burst_is_free_then_the_rate_holds():
    """`burst` requests at once, then one every 1/qps seconds."""
    bucket = TokenBucket(qps=10, burst=3, clock=lambda: 0.0)
    assert [round(bucket.reserve(), 3) for _ in range(5)] == [0, 0, 0, 0.1, 0.2]


def test_tokens_come_back_with_time():
    """After a pause there is a burst again, and no more than that."""
    now = [0.0]
    bucket = TokenBucket(qps=10, burst=2, clock=lambda: now[0])
    assert [bucket.reserve() for _ in range(2)] == [0, 0]
    now[0] = 100.0
    assert [round(bucket.reserve(), 3) for _ in range(3)] == [0, 0, 0.1]


@pytest.mark.parametrize(("qps", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_nonsense_is_refused(qps: float, burst: int):
    """A rate that would stop everything is an error at once."""
    with pytest.raises(ValueError, match="must be positive"):
        TokenBucket(qps=qps, burst=burst)
