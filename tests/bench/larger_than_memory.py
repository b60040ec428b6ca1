"""Data four times the memory limit: passes over rows on a disk beside the same passes over rows in memory.

    python -m tests.bench.larger_than_memory [--limit-mib 1024] [--times 4] [--only kmeans] [--json FILE]

Both sides fit the same rows, each in a process of its own on one core, and take turns pass by pass, so that a busy machine
hurts both. The one that reads from the disk is in a control group with the limit; the other has no limit. Seconds are wall time:
to wait for a disk is no CPU time. After each pass a part of the file is read with nothing computed, on the same core and to memory of
the same kind, which tells what the disk can give: no pass reads faster. What a pass read is what the kernel fetched for it, so blocks
that stayed in memory and features that were not looked at do not count. Needs root, and room for the rows in memory and on the disk.
Exit status 1 if a bound is missed, 0 with a line that says why where no control group can be made.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, repeat
from pathlib import Path
from typing import Any

from tests.bench.figure import Figure
from tests.bench.results import write
from tests.bench.turns import answer, asked, started
from tests.memory_group import memory_group, why_not

FEATURES = 64
MIB = 1 << 20
LEAST_SHARE = 0.7  # of the throughput in memory
PROBE_BYTES = 256 * MIB
PROBE_READ, PROBE_READS = 2 * MIB, 4  # bytes of a read, and reads at a time
WORKLOADS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "kmeans": (
        {"kmeans": {"clusters": 100, "init": "random", "tolerance": 0, "maxIterations": 3}},
        {"blobs": {"features": FEATURES, "centers": 200}},
    ),
    "svm": (
        {"svm": {"maxIterations": 3}},
        {"classification": {"features": FEATURES, "flip": 0.1}},
    ),
}


def compare(name: str, limit: int, times: float) -> list[Figure]:
    """The figures of one workload."""
    rows = int(times * limit) // (FEATURES * 4)
    with memory_group(limit) as group, tempfile.TemporaryDirectory(prefix="larger-") as folder:
        command = [sys.executable, "-m", "tests.bench.larger_than_memory", "--rows", str(rows), "--only", name]
        with started(group.command(*command, "--side", folder)) as ours, started([*command, "--side", ""]) as peer:
            facts, _ = answer(ours), answer(peer)  # they read one after the other
            passes = []
            while "seconds" in (found := answer(ours)):
                passes.append((found, answer(peer)))
    return [
        *_figures(name, passes, facts),
        Figure(
            name=f"{name}: peak RSS",
            ours=found["peak_rss"],
            peer=limit / MIB,
            spread=0,
            bound=1.0,
            unit="MiB",
            note=f"{max(disk['anonymous'] for disk, _ in passes):.0f} MiB are anonymous; the others are pages of files, which the "
            "kernel takes back when memory is short: libraries that other processes use too, and what is kept of each row",
        ),
    ]


def _figures(
    name: str, passes: Sequence[tuple[Mapping[str, float], Mapping[str, float]]], facts: Mapping[str, float]
) -> list[Figure]:
    seconds = [(disk["seconds"], memory["seconds"]) for disk, memory in passes]
    ours, peer = map(sum, zip(*seconds, strict=True))
    longest = max(memory for _, memory in seconds)
    # Passes that look at labels only take no time in memory.
    ratios = [disk / memory for disk, memory in seconds if memory > longest / 10]
    size = facts["bytes"] / 1e9
    read = sum(disk["read"] for disk, _ in passes) / 1e9 / ours
    alone = len(passes) * PROBE_BYTES / 1e9 / sum(disk["probe"] for disk, _ in passes)
    cpu = [sum(side["cpu"] for side in sides) for sides in zip(*passes, strict=True)]
    return [
        Figure(
            name=f"{name}: all passes",
            ours=ours,
            peer=peer,
            spread=(max(ratios) - min(ratios)) / statistics.median(ratios),
            bound=1 / LEAST_SHARE,
            note=f"{size:.2f} GB of features, cached in {facts['load']:.0f} s; then {len(seconds)} passes: "
            f"{read:.2f} GB/s read from the disk, which gives {alone:.2f} GB/s with nothing computed ({read / alone:.0%}); "
            f"CPU {cpu[0]:.1f} s beside {cpu[1]:.1f} s",
        ),
        Figure(name=f"{name}: checksums, once", ours=facts["checksum"], peer=peer / len(seconds), spread=0, bound=0.5),
    ]


def side(name: str, rows: int, folder: str) -> None:
    """One side: each line of stdin asks for the next thing, and a line of stdout tells what it took. No folder: in memory."""
    from scalejob.api.v1alpha1 import Spec  # noqa: PLC0415 - after the number of threads is set
    from scaletrain.comm import SoloComm  # noqa: PLC0415
    from scaletrain.data.load import load  # noqa: PLC0415
    from scaletrain.estimators import estimator_for  # noqa: PLC0415
    from scaletrain.estimators.base import NO_CHECKPOINT  # noqa: PLC0415
    from scaletrain.malloc import keep_freed_memory  # noqa: PLC0415

    def quiet(step: int, **figures: object) -> None: ...

    workload, synthetic = WORKLOADS[name]
    keep_freed_memory()  # as in a rank
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # to read ahead costs time of the same core
    shape = {kind: options | {"rows": rows} for kind, options in synthetic.items()}
    cache = {"mode": "always", "path": folder} if folder else {"mode": "never"}
    spec = Spec.model_validate(
        {"workload": workload, "data": {"synthetic": shape, "cache": cache}, "output": {"uri": "/nowhere"}}
    )
    with asked() as facts:
        started = time.perf_counter()
        train = load(SoloComm(), spec, 1, quiet).train
        facts["load"] = time.perf_counter() - started
        facts["bytes"] = rows * FEATURES * 4
        facts["checksum"] = _checksum_seconds(train)
    _pace(_probes(train.blocks) if folder else repeat(0.0))
    estimator_for(spec.workload).fit(
        SoloComm(), train, getattr(spec.workload, name), seed=0, progress=quiet, checkpoint=NO_CHECKPOINT
    )
    with asked() as facts:
        facts["peak_rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _pace(probes: Iterator[float]) -> None:
    """Makes every pass over all blocks wait until it is asked for, and tell its seconds and those of a probe."""
    from scaletrain.data.blocks import Blocks  # noqa: PLC0415

    unpaced = Blocks.map

    def paced(self: Any, fn: Callable[[Any], Any]) -> Iterator[Any]:
        if len(self.blocks) < self.num_blocks:  # a sample
            yield from unpaced(self, fn)
            return
        with asked() as facts:
            started, used, read = time.perf_counter(), time.process_time(), _own("io", "read_bytes")
            yield from unpaced(self, fn)
            facts["seconds"] = time.perf_counter() - started
            facts["cpu"] = time.process_time() - used
            facts["read"] = _own("io", "read_bytes") - read  # that the kernel fetched from disks
            facts["anonymous"] = _own("status", "RssAnon") / 1024
            facts["probe"] = next(probes)

    Blocks.map = paced  # type: ignore[method-assign]


def _own(file: str, name: str) -> int:
    """A number that the kernel keeps of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self", file).read_text().splitlines())
    return int(lines[name].removesuffix("kB"))


def _probes(blocks: Any) -> Iterator[float]:
    """Seconds of reading PROBE_BYTES of the cache past the page cache with nothing computed: each time others of its bytes."""
    from scaletrain.data.direct import Buffers  # noqa: PLC0415

    while hasattr(blocks, "_base"):
        blocks = blocks._base
    file = blocks._file._past
    source = Buffers()
    buffers = [memoryview(source.take(PROBE_READ)) for _ in range(PROBE_READS)]

    def read(offsets: range, buffer: memoryview) -> None:
        for offset in offsets:
            os.preadv(file, [buffer], offset)

    for start in cycle(range(0, os.fstat(file).st_size - PROBE_BYTES + 1, PROBE_BYTES)):
        started = time.perf_counter()
        turns = [
            range(start + n * PROBE_READ, start + PROBE_BYTES, PROBE_READS * PROBE_READ) for n in range(PROBE_READS)
        ]
        with ThreadPoolExecutor(PROBE_READS) as pool:
            list(pool.map(read, turns, buffers))
        yield time.perf_counter() - started


def _checksum_seconds(blocks: Any) -> float:
    """Of the checksums of all blocks, which the first pass computes; from one of them."""
    from scaletrain.data.cache import checksum_of  # noqa: PLC0415

    values = blocks.blocks[0].X_ND.numpy()
    started = time.process_time()
    for _ in range(10):
        checksum_of(values)
    return (time.process_time() - started) / 10 * len(blocks.blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit-mib", type=int, default=1024, help="memory limit of the side that reads from the disk")
    parser.add_argument("--times", type=float, default=4, help="size of the features, in limits")
    parser.add_argument("--only", choices=WORKLOADS)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    asked_for = parser.parse_args()
    if asked_for.side is not None:
        side(asked_for.only, asked_for.rows, asked_for.side)
        return
    if reason := why_not():
        print(f"skipped: {reason}")
        return
    figures = []
    for name in [asked_for.only] if asked_for.only else WORKLOADS:
        for figure in compare(name, asked_for.limit_mib * MIB, asked_for.times):
            print(figure, flush=True)
            figures.append(figure)
    if asked_for.json:
        write(asked_for.json, {"larger than memory": figures})
    sys.exit(not all(figure.is_met for figure in figures))


if __name__ == "__main__":
    main()
