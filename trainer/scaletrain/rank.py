"""Who this process is in the job, from the environment contract. Alone if nothing is set."""

from collections.abc import Mapping
from dataclasses import dataclass

from scalejob.contract import DEFAULT_PORT, Env

from .errors import InvalidSpec

DEFAULTS = {
    Env.WORLD_SIZE: 1,
    Env.RANK: 0,
    Env.LOCAL_WORLD_SIZE: 1,
    Env.LOCAL_RANK: 0,
    Env.MASTER_PORT: DEFAULT_PORT,
    Env.ATTEMPT: 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """The identity of one process, and where the ranks meet."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    master_addr: str = "localhost"
    master_port: int = DEFAULT_PORT
    namespace: str = (
        "job/0/0"  # of keys in the store: job, attempt and restart, so that a straggler of another one stays apart
    )
    hosts_store: bool = True  # whether the store at master_port runs in rank 0, and not in the launcher

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Rank":
        """InvalidSpec names every variable that is not a number, and a rank that does not fit the world size."""
        number = _numbers(environ)
        restart = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return cls(
            rank=number[Env.RANK],
            world_size=number[Env.WORLD_SIZE],
            local_rank=number[Env.LOCAL_RANK],
            local_world_size=number[Env.LOCAL_WORLD_SIZE],
            master_addr=environ.get(Env.MASTER_ADDR, "localhost"),
            master_port=number[Env.MASTER_PORT],
            namespace=f"{environ.get(Env.UID, 'job')}/{number[Env.ATTEMPT]}/{restart}",
            hosts_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        )

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def _numbers(environ: Mapping[str, str]) -> dict[Env, int]:
    bad = [f"{n} is {environ[n]!r}, not a number" for n in DEFAULTS if n in environ and not environ[n].isdigit()]
    if bad:
        raise InvalidSpec("; ".join(bad))
    number = {name: int(environ.get(name, default)) for name, default in DEFAULTS.items()}
    if number[Env.WORLD_SIZE] > 1 and Env.RANK not in environ:
        raise InvalidSpec(
            f"WORLD_SIZE is {number[Env.WORLD_SIZE]} but RANK is not set: set both, or start with torchrun"
        )
    if not 0 <= number[Env.RANK] < number[Env.WORLD_SIZE]:
        raise InvalidSpec(
            f"RANK is {number[Env.RANK]}, but WORLD_SIZE is {number[Env.WORLD_SIZE]}: 0 <= RANK < WORLD_SIZE"
        )
    return number
