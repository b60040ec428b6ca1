"""One run of most kinds of fault; `python -m tests.dist.faults` makes hundreds."""

import pytest

from tests.dist.fault_jobs import KMEANS
from tests.dist.fault_kinds import KINDS
from tests.dist.faults import run

QUICK = (
    "SIGKILL",
    "SIGSTOP",
    "SIGTERM",
    "exception in the fit",
    "slow rank",
    "bad row",
    "checkpoint damaged",
    "cache damaged",
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in QUICK], ids=lambda kind: kind.name)
def test_all_ranks_end_and_the_next_attempt_comes_to_the_same_model(kind) -> None:
    """Within ten seconds, with the right exit codes and messages; the SHA-256 is that of the undisturbed job."""
    found = run(kind, number=0, seed=1, jobs=[KMEANS])
    assert (found.hangs, found.wrong) == (0, ()), found
