"""The harness of the benchmarks runs, on data so small that its figures mean nothing."""

from tests.bench.cases import CASES
from tests.bench.side_by_side import compare


def test_two_sides_take_turns_and_end_with_one_objective():
    """And the peer takes the loosest tolerance with which its objective is good enough."""
    found = compare(CASES["logistic 200,000 x 100 (lbfgs)"], scale=0.005, repeats=2)
    assert min(found.ours, found.peer) > 0
    assert abs(found.excess) < 3e-6
    assert "tol=" in found.note
