"""Ranks that talk on another device than the one they compute on."""

import torch

from scalejob.api.v1alpha1 import KMeans
from scaletrain.comm import SoloComm
from scaletrain.estimators import kmeans
from scaletrain.estimators.host import HostComm, on_host
from tests.unit.estimators.builders import fit, make_blocks


class ElsewhereComm(SoloComm):
    """Stands for a GPU: `meta` tensors hold no numbers, so collectives count how often they were asked."""

    def __init__(self) -> None:
        super().__init__(torch.device("meta"))
        self.devices: list[str] = []

    def all_reduce(self, value, op=None):
        self.devices.append(value.device.type)
        return torch.zeros(value.shape, dtype=value.dtype)

    broadcast = all_reduce

    def all_gather(self, value):
        return [self.all_reduce(value)]


def test_on_the_cpu_nothing_is_wrapped(rng):
    comm, blocks = SoloComm(), make_blocks(rng.standard_normal((5, 2)))
    assert on_host(comm, blocks) == (comm, blocks)


def test_collectives_travel_by_the_device_of_the_ranks(rng):
    """What the fit sees is on the CPU; what the ranks exchange is on their device."""
    there = ElsewhereComm()
    comm, blocks = on_host(there, make_blocks(rng.standard_normal((5, 2))))
    found = [comm.all_reduce(torch.ones(2)), comm.broadcast(torch.ones(2)), *comm.all_gather(torch.ones(2))]
    assert isinstance(comm, HostComm)
    assert {value.device.type for value in found} == {"cpu"}
    assert there.devices == ["meta"] * 3
    assert blocks.blocks[0].X_ND.device.type == "cpu"


def test_fits_leave_the_rows_as_they_are(rng):
    """No fit writes into the blocks: the next pass, metric or restart needs them."""
    X = rng.standard_normal((50, 3))
    blocks = make_blocks(X)
    fit(kmeans, KMeans(clusters=3), blocks)
    assert torch.equal(blocks.blocks[0].X_ND, torch.from_numpy(X))
