"""A short soak, and one with an outage; `python -m tests.controlplane.soak` runs long ones."""

from collections import Counter

import pytest

from tests.controlplane.api import Api
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.soak import Plan, Result, draw, soak


@pytest.fixture(autouse=True)
def _no_other(operator_process: OperatorProcess) -> None:
    """The operator of the other tests would look after these jobs too."""
    if operator_process.is_running:
        operator_process.stop()


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(jobs=20, seed=0, share=0.05), id="faults of all kinds"),
        pytest.param(Plan(jobs=8, seed=1, at_once=4, share=0.0, outage=30.0), id="no API server for half a minute"),
    ],
)
async def test_every_job_comes_to_its_end(control_plane: ControlPlane, api: Api, kubelet: FakeKubelet, plan: Plan):
    """Jobs of all shapes, to which everything happens: nothing twice, nothing left over, each restart counted once."""
    result = await soak(control_plane, api, kubelet, plan)
    assert (result.violations, len(result.scripts)) == ([], plan.jobs)
    assert (sum(result.faults.values()) > 0) == (plan.share > 0)


def test_the_seed_decides_what_happens():
    """And another seed decides otherwise."""
    first, again, other = ([draw(chance) for chance in Plan(jobs=5, seed=seed).chances()] for seed in (0, 0, 1))
    assert first == again != other


def test_the_summary_counts():
    """Of acts, ends, faults and violations."""
    scripts = [draw(chance) for chance in Plan(jobs=5).chances()]
    result = Result(
        scripts=scripts, pods=7, calls=9, faults=Counter(), seconds=1.0, violations=["a Pod was made twice"]
    )
    text = str(result)
    assert text.startswith("5 jobs, 7 Pods, 9 calls, 1 s\n")
    assert text.endswith("violations: 1\na Pod was made twice")
