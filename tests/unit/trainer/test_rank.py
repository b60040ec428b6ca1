"""Identity and placement, from the environment and the GPUs that there are."""

import pytest
import torch

from scaletrain.device import choose, settle
from scaletrain.errors import InvalidSpec
from scaletrain.rank import Rank

POD = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "job-2-0.job.ns.svc"}


def test_nothing_set_means_alone() -> None:
    """A world of one needs no environment."""
    assert Rank.from_env({}) == Rank()


def test_a_pod_knows_its_rank() -> None:
    """From the contract."""
    rank = Rank.from_env({**POD, "MASTER_PORT": "29511", "SCALEJOB_UID": "u", "SCALEJOB_ATTEMPT": "2"})
    assert (rank.rank, rank.world_size, rank.master_addr, rank.master_port) == (3, 4, "job-2-0.job.ns.svc", 29511)
    assert rank.namespace == "u/2/0"


def test_under_torchrun_the_store_is_the_launchers() -> None:
    """Unless torchrun was told not to share it."""
    assert not Rank.from_env({**POD, "TORCHELASTIC_USE_AGENT_STORE": "True"}).hosts_store
    assert Rank.from_env({**POD, "TORCHELASTIC_USE_AGENT_STORE": "False"}).hosts_store


@pytest.mark.parametrize(
    ("environ", "want"),
    [
        ({"WORLD_SIZE": "two", "RANK": "one"}, "WORLD_SIZE is 'two'.*RANK is 'one'"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
    ],
)
def test_a_wrong_environment_is_told(environ: dict[str, str], want: str) -> None:
    """All that is not a number at once."""
    with pytest.raises(InvalidSpec, match=want):
        Rank.from_env(environ)


@pytest.mark.parametrize(
    ("asked", "num_gpus", "want"),
    [
        ("auto", 4, ("cuda:1", "nccl")),
        ("auto", 3, ("cpu", "gloo")),
        ("auto", 0, ("cpu", "gloo")),
        ("gloo", 4, ("cpu", "gloo")),
        ("nccl", 4, ("cuda:1", "nccl")),
    ],
)
def test_gpus_are_used_if_every_rank_has_its_own(asked: str, num_gpus: int, want: tuple[str, str]) -> None:
    """All ranks compute on the same kind of device."""
    placement = choose(Rank(rank=1, world_size=4, local_rank=1, local_world_size=2), asked, num_gpus)
    assert (placement.device, placement.backend) == (torch.device(want[0]), want[1])


def test_nccl_without_gpus_is_refused() -> None:
    """Rather than silently slow."""
    with pytest.raises(InvalidSpec, match="nccl, which needs a GPU for every process, but 1 of 2 have one"):
        choose(Rank(rank=0, world_size=2), "nccl", 1)


def test_settling_on_the_cpu_changes_nothing():
    """Deterministic algorithms are torch's for GPUs; on the CPU they are slower and give the bits that it gives anyway."""
    settle(choose(Rank(rank=0, world_size=1), "auto", 0))
    assert not torch.are_deterministic_algorithms_enabled()
