"""Attempts of jobs whose ranks are forks of one process, so that hundreds can be started, disturbed and watched."""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalejob.contract import LastWord, ProgressLine
from tests.dist.forked import the_forks
from tests.dist.world import rank_environments


@dataclass(slots=True, kw_only=True)
class Attempt:
    """Some ranks, by rank."""

    pids: list[int]
    folder: Path
    codes: dict[int, int] = field(default_factory=dict)  # of the ranks that have ended

    @classmethod
    def start(cls, spec: Mapping[str, Any], workers: int, folder: Path) -> "Attempt":
        folder.mkdir(parents=True)
        environments = rank_environments(spec, workers, folder)
        pids = [the_forks().start(env, folder / f"{rank}.out") for rank, env in enumerate(environments)]
        return cls(pids=pids, folder=folder)

    @property
    def is_over(self) -> bool:
        return len(self.codes) == len(self.pids)

    def wait(self, timeout: float, *, but: int | None = None) -> bool:
        """Until all ranks (`but` one) have ended. False if one has not."""
        waited = [pid for rank, pid in enumerate(self.pids) if rank != but]
        found = the_forks().wait(waited, timeout)
        self.codes |= {self.pids.index(pid): code for pid, code in found.items()}
        return len(found) == len(waited)

    def wait_for(self, phase: str, step: int, timeout: float = 60) -> bool:
        """Until rank 0 tells of that step. False if the attempt has ended before."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if any((line.phase, line.step) >= (phase, step) for line in self.progress() if line.phase == phase):
                return True
            if self.wait(0.005, but=None) or self.codes:
                return False
        raise AssertionError(f"no progress to {phase} {step}: {self.text(0)}")

    def send(self, rank: int, number: int) -> None:
        if rank in self.codes:
            return
        with suppress(ProcessLookupError):
            os.kill(self.pids[rank], number)

    def end(self) -> None:
        """Kills what is left."""
        for rank in range(len(self.pids)):
            self.send(rank, signal.SIGKILL)
        self.wait(10)

    def text(self, rank: int) -> str:
        path = self.folder / f"{rank}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def progress(self) -> list[ProgressLine]:
        lines = map(ProgressLine.from_json, self.text(0).splitlines())
        return [line for line in lines if line is not None]

    def word(self, rank: int) -> LastWord | None:
        path = self.folder / f"{rank}.word"
        return LastWord.from_json(path.read_text()) if path.exists() else None

    def messages(self) -> list[str]:
        """What the ranks said at their ends."""
        words = [self.word(rank) for rank in range(len(self.pids))]
        return [f"{word.error}: {word.message}" if word and word.error else "" for word in words]
