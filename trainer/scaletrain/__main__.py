"""`python -m scaletrain`: one rank of one job, as the environment says."""

import os

from . import malloc, signals, threads


def run() -> None:
    signals.hold()
    num_threads = threads.decide(os.environ)
    malloc.keep_freed_memory()
    # torch's own warnings about peers that are gone are pages long; the last word says it in a line.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from .main import main  # noqa: PLC0415 - imports torch, which reads the environment at import

    main(os.environ, num_threads)


if __name__ == "__main__":
    run()
