"""Threads of a fit inside a program that has threads of its own: blocks in parallel, and one BLAS thread for each."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

from scaletrain.threads import REPRODUCIBLE, asked_for, cpu_limit, share_of_limit

# Read by the libraries at their first product, which may be long after they were imported.
for _name, _value in REPRODUCIBLE.items():
    os.environ.setdefault(_name, _value)


def num_threads(n_jobs: int | None) -> int:
    """`n_jobs`; for None and -1 what a rank of a job would take: OMP_NUM_THREADS, or else the CPUs that the process may use."""
    if n_jobs is not None and n_jobs > 0:
        return n_jobs
    return asked_for(os.environ) or share_of_limit(cpu_limit(), os.environ.get("LOCAL_WORLD_SIZE", "1"))


@cache
def _libraries() -> ThreadpoolController:
    """Looking for them takes ten milliseconds."""
    return ThreadpoolController()


class _OneBlasThread:
    """Fits may overlap: the first one sets the limit of the process, the last one takes it away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before, self._limits = torch.get_num_threads(), _libraries().limit(limits=1)
                torch.set_num_threads(1)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._limits.restore_original_limits()
                    torch.set_num_threads(self._before)


one_blas_thread = _OneBlasThread()
