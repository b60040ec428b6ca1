"""What can happen to an attempt, and what must follow: a table."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from scalejob.contract import ExitCode
from scaletrain.checkpoint import NAME
from tests.dist.attempts import Attempt
from tests.dist.cached_rows import cut_rows, has_rows
from tests.dist.fault_jobs import JOBS, KMEANS, ON_DISK, Spec, few_rows, sorted_by_class
from tests.dist.raising import STRIKE

TMPFS_BYTES = 4 << 20


@dataclass(slots=True, kw_only=True)
class Scene:
    """A job, the attempt that is disturbed, and who is hit."""

    spec: Spec
    folder: Path  # of this run
    rng: Random
    workers: int
    victim: int
    attempt: Attempt = field(init=False)
    phase: str = "start"  # when it was hit
    step: int = 0

    @property
    def others(self) -> list[int]:
        return [rank for rank in range(self.workers) if rank != self.victim]

    @property
    def output(self) -> Path:
        return Path(self.spec["output"]["uri"])

    @property
    def checkpoint(self) -> Path:
        return Path(self.spec["checkpoint"].get("uri", self.output), NAME)

    @property
    def cache(self) -> Path | None:
        """Where ranks keep their rows. None: in memory."""
        given = self.spec["data"].get("cache")
        return Path(given["path"]) if given else None

    @property
    def has_succeeded(self) -> bool:
        """The fault came too late, or did no harm."""
        return self.is_written and self.attempt.codes.get(0) == 0

    @property
    def is_written(self) -> bool:
        """The model is complete: a rank that is struck then may end when the others have done so well."""
        return (self.output / "_SUCCESS").exists()


def nothing(scene: Scene) -> None:
    """The job itself is the fault."""


def send(number: int) -> Callable[[Scene], None]:
    return lambda scene: scene.attempt.send(scene.victim, number)


def stop_and_continue(scene: Scene) -> None:
    """A rank that is slow: three times it stands still for up to three seconds."""
    for _ in range(3):
        scene.attempt.send(scene.victim, signal.SIGSTOP)
        time.sleep(scene.rng.uniform(0.2, 3))
        scene.attempt.send(scene.victim, signal.SIGCONT)
        time.sleep(0.2)


def freeze(scene: Scene) -> None:
    """All ranks stand still, for longer than one of them might alone."""
    ranks = range(scene.workers)
    for number, pause in ((signal.SIGSTOP, 11.0), (signal.SIGCONT, 0.0)):
        for rank in ranks:
            scene.attempt.send(rank, number)
        time.sleep(pause)


def cut_rows_of_one(scene: Scene) -> None:
    """Of the victim, or of another rank if that has none: the file in which its rows are is cut."""
    assert scene.cache
    pids = scene.attempt.pids
    with_rows = [rank for rank in range(scene.workers) if has_rows(pids[rank], scene.cache)]
    if with_rows:
        scene.victim = scene.rng.choice(with_rows)
        cut_rows(pids[scene.victim], scene.cache)


def fill(folder: Callable[[Scene], Path]) -> Callable[[Scene], None]:
    """Leaves no byte free where the folder is."""

    def strike(scene: Scene) -> None:
        with suppress(OSError), folder(scene).joinpath("filler").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    return strike


def kill_all_and_damage(scene: Scene) -> None:
    """After a checkpoint was written: what is found then is torn, changed, empty or something else."""
    until = time.monotonic() + 20
    while not scene.checkpoint.exists() and not scene.attempt.wait(0.01) and time.monotonic() < until:
        pass
    for rank in range(scene.workers):
        scene.attempt.send(rank, signal.SIGKILL)
    scene.attempt.wait(10)
    if scene.checkpoint.exists():
        content = bytearray(scene.checkpoint.read_bytes())
        place = scene.rng.randrange(len(content))
        content[place] ^= 1 << scene.rng.randrange(8)
        damaged = [bytes(content), bytes(content[:place]), b"", b"\x80\x05something else"]
        scene.checkpoint.write_bytes(scene.rng.choice(damaged))


def expect(code: int | None, words: str = "") -> Callable[[Scene], list[str]]:
    """Of all ranks but the victim: the exit code and a part of the message, with {victim} for its number."""

    def complaints(scene: Scene) -> list[str]:
        wanted, said = words.format(victim=scene.victim), scene.attempt.messages()
        codes = {rank: scene.attempt.codes.get(rank) for rank in scene.others}
        return [f"rank {rank} ended with {found}, not {code}" for rank, found in codes.items() if found != code] + [
            f"rank {rank} says {said[rank]!r}, not {wanted!r}" for rank in scene.others if wanted not in said[rank]
        ]

    return complaints


def fails_alone(error: str, words: str, *, code: int = 1) -> Callable[[Scene], list[str]]:
    """The victim with that message, in which {cache} is the folder of the rows; the others, with exit code 1, say so."""

    def complaints(scene: Scene) -> list[str]:
        wanted = f"{error}: {words.format(cache=scene.cache)}"
        mine, said = scene.attempt.codes.get(scene.victim), scene.attempt.messages()[scene.victim]
        is_right = mine == code and said.startswith(wanted)
        own = [] if is_right else [f"rank {scene.victim} ended with {mine}, says {said!r}, not {wanted!r}"]
        return own + expect(1, f"rank {scene.victim} failed: {wanted}")(scene)

    return complaints


def saved_or_at_once(scene: Scene) -> list[str]:
    """In the fit the state is saved; else the rank ends as without a checkpoint, and the others say that it was told to."""
    if scene.phase == "fit" and scene.step > 0:
        mine = scene.attempt.codes.get(scene.victim)
        alone = [] if mine == ExitCode.PREEMPTED else [f"rank {scene.victim} ended with {mine}"]
        return alone + expect(ExitCode.PREEMPTED, "state saved after SIGTERM at step")(scene)
    if set(scene.attempt.codes.values()) == {ExitCode.PREEMPTED}:
        return []
    return fails_alone("Terminated", "ended by signal 15", code=128 + signal.SIGTERM)(scene)


def refused(words: str) -> Callable[[Scene], list[str]]:
    """By all ranks, with exit code 2."""

    def complaints(scene: Scene) -> list[str]:
        said = scene.attempt.messages()
        wrong = [f"rank {rank} ended with {code}" for rank, code in scene.attempt.codes.items() if code != 2]
        return wrong + [f"a rank says {text!r}, not {words!r}" for text in said if words not in text]

    return complaints


def repair_nothing(scene: Scene) -> None:
    """The next attempt finds all as it is."""


def remove_filler(scene: Scene) -> None:
    for folder in (scene.output, scene.checkpoint.parent):
        (folder / "filler").unlink(missing_ok=True)


@contextmanager
def on_tmpfs(folder: Path) -> Iterator[None]:
    """The folder is a small file system of its own."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "none", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def spoil_a_row(scene: Scene) -> None:
    """A value is missing in the last row, which only the last rank reads; `mend` puts it back."""
    path = Path(scene.spec["data"]["files"]["uri"])
    table = pq.read_table(path)
    bad = table["c3"].to_numpy().copy()
    bad[-1] = float("nan")
    place = table.schema.get_field_index("c3")
    pq.write_table(table.set_column(place, "c3", pa.array(bad)), path, row_group_size=4096)


def mend(scene: Scene) -> None:
    path = Path(scene.spec["data"]["files"]["uri"])
    path.unlink()
    sorted_by_class(path.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One line of the table. A fault that an attempt survives must leave the result as it is; after any other, the next
    attempt, on another number of ranks, must come to it."""

    name: str
    strike: Callable[[Scene], None] = nothing
    wrong: Callable[[Scene], list[str]] = field(default=lambda scene: [])
    survives: bool = False
    spares_victim: bool = False  # it is not waited for: it is stopped
    jobs: Sequence[str] = ()  # one of these; none: of JOBS
    before: Callable[[Scene], None] = repair_nothing
    repair: Callable[[Scene], None] = repair_nothing
    small: str | None = None  # "output" or "checkpoint": lies on a small file system
    only_in_fit: bool = False  # strikes after its first step


OWN_JOBS = {"one class on each rank": sorted_by_class, "few rows": few_rows}
ALL_JOBS = JOBS | ON_DISK | OWN_JOBS
LOST = expect(1, "PeerLost")

KINDS = (
    Kind(name="SIGKILL", strike=send(signal.SIGKILL), wrong=LOST),
    Kind(
        name="SIGSTOP",
        strike=send(signal.SIGSTOP),
        wrong=expect(1, "rank {victim} gave no sign of life"),
        spares_victim=True,
    ),
    Kind(name="SIGTERM", strike=send(signal.SIGTERM), wrong=saved_or_at_once),
    Kind(
        name="exception in the fit",
        strike=send(STRIKE),
        wrong=fails_alone("Struck", "struck by a test ("),  # and the place
        only_in_fit=True,
    ),
    Kind(name="slow rank", strike=stop_and_continue, survives=True),
    Kind(name="all ranks stopped and continued", strike=freeze, survives=True),
    Kind(
        name="bad row",
        before=spoil_a_row,
        wrong=refused("c3"),
        repair=mend,
        jobs=["one class on each rank"],
    ),
    Kind(
        name="one class on each rank, SIGKILL",
        strike=send(signal.SIGKILL),
        wrong=LOST,
        jobs=["one class on each rank"],
    ),
    Kind(
        name="ranks without rows, k above a rank's rows, SIGKILL",
        strike=send(signal.SIGKILL),
        wrong=LOST,
        jobs=["few rows"],
    ),
    Kind(
        name="disk of the checkpoint full",
        strike=fill(lambda scene: scene.checkpoint.parent),
        survives=True,
        small="checkpoint",
    ),
    Kind(
        name="disk of the model full",
        strike=fill(lambda scene: scene.output),
        wrong=refused("No space left"),
        repair=remove_filler,
        small="output",
    ),
    Kind(name="checkpoint damaged", strike=kill_all_and_damage, jobs=[KMEANS], only_in_fit=True),
    Kind(
        name="cache damaged",
        strike=cut_rows_of_one,
        wrong=fails_alone("CacheLost", "the cache of rows in {cache} is damaged"),
        jobs=tuple(ON_DISK),
        only_in_fit=True,
    ),
)
