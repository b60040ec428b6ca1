"""Several ranks beside one: CPU time of a fit, summed over the ranks. They are real processes that talk by gloo.

What a machine can give is measured in the same turns: as many processes at the same time, each of which fits the rows of one rank
on its own, without a word to the others. They share the memory, its caches and the time of cores with what else runs there.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace

from tests.bench.figure import Figure, Line, spread
from tests.bench.turns import environment
from tests.dist.world import free_port

ROWS, FEATURES, CLUSTERS = 1_000_000, 50, 50
EFFICIENCY = 0.9  # at least
SIZES = (2, 4)
ITERATIONS = 10


def scaling(scale: float, repeats: int) -> list[Line]:
    """The section."""
    kinds = [(1, False), *((size, is_apart) for size in SIZES for is_apart in (False, True))]
    turns = [{kind: _cpu_seconds(*kind, scale) for kind in kinds} for _ in range(repeats)]
    seconds = {kind: [turn[kind] for turn in turns] for kind in kinds}
    return [_figure(size, seconds[size, False], seconds[size, True], seconds[1, False]) for size in SIZES]


def _figure(size: int, together: list[float], apart: list[float], alone: list[float]) -> Figure:
    least = statistics.median(apart) / statistics.median(alone)
    return Figure(
        name=f"kmeans {ROWS:,} x {FEATURES}: CPU of {size} ranks beside 1",
        ours=statistics.median(together),
        peer=statistics.median(alone),
        spread=spread(together),
        peer_spread=spread(alone),
        bound=1 / EFFICIENCY,
        ranks=size,
        note=f"{size} processes that fit a share of the rows each and do not talk: ratio {least:.3f}",
    )


def _cpu_seconds(size: int, is_apart: bool, scale: float) -> float:
    asked_for = {"size": size, "port": free_port(), "scale": scale, "is_apart": is_apart}
    command = [sys.executable, "-m", "tests.bench.scaling"]
    ranks = [
        subprocess.Popen(
            [*command, json.dumps(asked_for | {"rank": rank})],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    said = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise SystemExit("a rank failed")
    return sum(float(text.split()[-1]) for text in said)


def _measure(rank: int, size: int, port: int, scale: float, is_apart: bool) -> float:
    """User and system seconds of this rank's fit, threads of gloo included. Apart: on its own, as soon as all are ready."""
    from scaletrain.comm import SoloComm, TorchComm  # noqa: PLC0415 - after the number of threads is set, here and below
    from scaletrain.data.blocks import own_blocks  # noqa: PLC0415
    from scaletrain.device import choose, settle  # noqa: PLC0415
    from scaletrain.rank import Rank  # noqa: PLC0415
    from scaletrain.rendezvous import meet  # noqa: PLC0415
    from tests.bench.kmeans_cases import blobs  # noqa: PLC0415
    from tests.bench.ours import blocks_of, fit_of, kmeans_fields  # noqa: PLC0415

    me = Rank(rank=rank, world_size=size, local_rank=rank, local_world_size=size, master_port=port)
    data = blobs(scale, rows=ROWS, features=FEATURES)
    blocks = blocks_of(data)
    mine = own_blocks(blocks.num_rows, FEATURES, rank, size)
    blocks = replace(blocks, blocks=blocks.blocks[mine.start : mine.stop])
    fields = kmeans_fields(data[0][:CLUSTERS], ITERATIONS)
    comm = SoloComm()
    if size > 1:
        meeting = meet(me, has_gpu=False, timeout_seconds=60)
        comm = TorchComm(me, meeting, settle(choose(me, "gloo", 0)))
    fit = fit_of("kmeans", fields, blocks, SoloComm() if is_apart else comm)
    comm.barrier()
    started = time.process_time()
    fit()
    seconds = time.process_time() - started
    comm.close()
    return seconds


if __name__ == "__main__":
    print(_measure(**json.loads(sys.argv[1])), flush=True)
