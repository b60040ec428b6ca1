"""What a fit is given to offer its steps to: each gets a digest, and from time to time one is saved."""

from collections.abc import Callable

from scalejob.api.v1alpha1 import Spec

from .checkpoint import Saved, Vault, parse, task_of
from .comm import Comm
from .data.blocks import Blocks
from .data.exchange import broadcast_bytes
from .digests import chained, digest_of, digest_of_rows
from .errors import Preempted
from .estimators.base import State
from .preemption import Preemption
from .progress import Teller


def open_steps(comm: Comm, spec: Spec, train: Blocks, told: Teller, preemption: Preemption) -> "Steps":
    """Reads the rows once, and the state of an earlier attempt if the job keeps one."""
    rows = digest_of_rows(comm, train)
    vault = Vault(spec, task_of(spec, train.num_features, rows)) if spec.checkpoint else None
    return Steps(comm, told, rows, vault, preemption)


class Steps:
    """A `Checkpoint` of estimators. Rank 0 writes, and all ranks resume from what it reads."""

    def __init__(self, comm: Comm, told: Teller, rows: str, vault: Vault | None, preemption: Preemption) -> None:
        """`rows`: the digest of the prepared rows; `vault`: None without a checkpoint."""
        self._comm, self._told, self._vault, self._preemption = comm, told, vault, preemption
        self._saved = _load(comm, vault) if vault else None
        self._rows, self._digest = rows, self._saved.header.digest if self._saved else ""

    @property
    def digests(self) -> dict[str, str]:
        """Of the rows, and on rank 0 of all steps so far."""
        return {"data": self._rows, "steps": self._digest}

    def forget(self) -> None:
        """Nobody needs the state any more."""
        if self._vault and self._comm.rank == 0:
            self._vault.remove()

    def resume(self) -> State | None:
        return self._saved.state if self._saved else None

    def offer(self, step: int, model: State, rest: Callable[[], State] | None = None) -> None:
        if self._comm.rank != 0:
            return
        digest = digest_of(model)
        self._digest = chained(self._digest, digest)
        self._told.digest = digest[:16]
        is_wished = self._preemption.wished.is_set()
        if self._vault is None or rest is None or not (is_wished or self._vault.is_due):
            return
        is_saved = self._vault.save(step, self._digest, {**model, **rest()})
        if is_wished and is_saved:
            raise Preempted(f"state saved after SIGTERM at step {step}: the next attempt goes on from there")


def _load(comm: Comm, vault: Vault) -> Saved | None:
    content = broadcast_bytes(comm, vault.load() if comm.rank == 0 else b"")
    return parse(content) if content else None
