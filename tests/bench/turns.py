"""Two processes that take turns: each does its next thing when it is asked for, and tells in a line of JSON what it took."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

# What a machine may set to have equal bytes with others: people have the kernels that the libraries choose for their CPU.
_PINNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}


def environment() -> dict[str, str]:
    """Of both sides."""
    return {name: value for name, value in os.environ.items() if name not in _PINNED} | _ONE_THREAD


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A side, which is ended with the context."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the side did next."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        print("go", file=process.stdin, flush=True)
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a side ended with {process.wait()}: {process.args}")
    return json.loads(line)


@contextmanager
def asked() -> Iterator[dict[str, Any]]:
    """In a side: waits for the question, and answers with what has been put in."""
    sys.stdin.readline()
    facts: dict[str, Any] = {}
    yield facts
    print(json.dumps(facts), flush=True)
