"""A short soak; `python -m tests.controlplane.failover` runs a long one."""

import signal

import pytest

from tests.controlplane.api import Api
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.failover import Result, open_soak
from tests.controlplane.fake_nodes import FakeKubelet


async def test_a_killed_leader_costs_seconds_and_no_job(
    control_plane: ControlPlane, api: Api, kubelet: FakeKubelet, operator_process: OperatorProcess
):
    """One SIGKILL, one SIGTERM, six jobs around them: none lost, none doubled, each failover within its bound."""
    if operator_process.is_running:
        operator_process.stop()
    control_plane.kubectl("-n", "scalejob-system", "delete", "lease", "--all")
    async with open_soak(control_plane, api, kubelet, seed=0) as soak:
        result = await soak.run(kills=2, num_jobs=6)
    assert {how: len(times) for how, times in result.seconds.items()} == {signal.SIGKILL: 1, signal.SIGTERM: 1}
    assert result.is_good, str(result)


@pytest.mark.parametrize(
    ("kill", "stop", "doubled", "lost", "want"),
    [
        (14.9, 2.9, [], [], True),
        (15.1, 1.0, [], [], False),
        (9.0, 3.1, [], [], False),
        (9.0, 1.0, ["a Pod"], [], False),
        (9.0, 1.0, [], ["a job"], False),
    ],
)
def test_what_is_good(kill: float, stop: float, doubled: list[str], lost: list[str], want: bool):
    """Each bound counts for itself."""
    seconds = {signal.SIGKILL: [kill], signal.SIGTERM: [stop]}
    assert Result(seconds=seconds, job_seconds=[1.0], doubled=doubled, lost=lost).is_good is want
