"""Two threads on cores that others keep busy, beside one thread: the pool of blocks must never wait for a core as OpenMP does."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.bench.figure import Figure, Line, spread
from tests.bench.turns import environment

BUSY = 2  # loops that do nothing else
SHARE = 1.3  # at most
ROWS, FEATURES, CLUSTERS = 200_000, 50, 50


def contention(scale: float, repeats: int) -> list[Line]:
    """The section. Wall seconds, because waiting is what is measured; both sides have the same neighbours."""
    with _busy_loops():
        turns = [(_wall_seconds(2, scale), _wall_seconds(1, scale)) for _ in range(repeats)]
    ours, peer = ([turn[side] for turn in turns] for side in (0, 1))
    return [
        Figure(
            name=f"kmeans with 2 threads beside 1, {BUSY} busy loops",
            ours=statistics.median(ours),
            peer=statistics.median(peer),
            spread=spread(ours),
            peer_spread=spread(peer),
            bound=SHARE,
            note="wall seconds",
        )
    ]


@contextmanager
def _busy_loops() -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _wall_seconds(threads: int, scale: float) -> float:
    command = [sys.executable, "-m", "tests.bench.contention", json.dumps({"threads": threads, "scale": scale})]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _measure(threads: int, scale: float) -> float:
    from tests.bench.kmeans_cases import ITERATIONS, blobs  # noqa: PLC0415 - after the number of threads is set
    from tests.bench.ours import blocks_of, fit_of, kmeans_fields  # noqa: PLC0415

    data = blobs(scale, rows=ROWS, features=FEATURES)
    blocks = replace(blocks_of(data), threads=threads)
    fit = fit_of("kmeans", kmeans_fields(data[0][:CLUSTERS], ITERATIONS), blocks)
    started = time.perf_counter()
    fit()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(_measure(**json.loads(sys.argv[1])), flush=True)
