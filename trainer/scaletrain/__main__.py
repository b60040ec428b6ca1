"""`python -m scaletrain`: one rank of one job, as the environment says."""

import os

from . import malloc, signals, threads


def hush_torch() -> None:
    """Before its import. Its warnings about peers that are gone are pages long; the last word says it in a line."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def run() -> None:
    signals.hold()
    num_threads = threads.decide(os.environ)
    malloc.keep_freed_memory()
    hush_torch()
    from .main import main  # noqa: PLC0415 - imports torch, which reads the environment at import

    main(os.environ, num_threads)


if __name__ == "__main__":
    run()
