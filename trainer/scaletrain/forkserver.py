"""`python -m scaletrain.forkserver FD`: ranks on one machine as forks of one process, which imports torch once for all of them.

Whoever asks for them is at the other end of FD, a Unix socket that keeps messages apart:

    asked       "start", with two open files: the rank's environment as JSON, and where its output goes
    answered    {"pid": 7} when it has started, {"pid": 7, "code": -9} when it is over

The end of the socket ends this process. Forks are safe here: there is no other thread, and no GPU is in use yet.
"""

import json
import os
import selectors
import socket
import sys
import traceback
from contextlib import suppress
from typing import NamedTuple, NoReturn

from . import threads
from .__main__ import hush_torch, run


class Asked(NamedTuple):
    """Two open files."""

    environ: int
    output: int


def main(fd: int) -> None:
    threads.decide(os.environ)
    hush_torch()
    with socket.socket(fileno=fd) as channel:
        first = receive(channel)
        if first:
            _import(first.output)
            serve(channel, first)


def _import(output: int) -> None:
    """Whatever is wrong with the installation is said in the log of the first rank."""
    before = os.dup(1)
    _set_output(output)
    from . import main  # noqa: F401, PLC0415 - imports torch

    _set_output(before)
    os.close(before)


def serve(channel: socket.socket, first: Asked) -> None:
    """Starts ranks and tells of their ends, until nobody is there who could ask."""
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        asked: Asked | None = first
        while asked:
            pid = start(channel, asked)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
            asked = next_asked(channel, selector)


def next_asked(channel: socket.socket, selector: selectors.BaseSelector) -> Asked | None:
    """Tells of ends meanwhile. None if the channel has ended."""
    while True:
        for key, _ in selector.select():
            if key.fileobj is channel:
                return receive(channel)
            selector.unregister(key.fileobj)
            os.close(key.fd)
            _, status = os.waitpid(key.data, 0)
            tell(channel, pid=key.data, code=os.waitstatus_to_exitcode(status))


def receive(channel: socket.socket) -> Asked | None:
    message, files, _, _ = socket.recv_fds(channel, 64, 2)
    return Asked(*files) if message else None


def tell(channel: socket.socket, **facts: int) -> None:
    with suppress(OSError):  # nobody is there any more: the next look says so
        channel.send(json.dumps(facts).encode())


def start(channel: socket.socket, asked: Asked) -> int:
    """The pid of the new rank."""
    pid = os.fork()
    if pid == 0:
        channel.close()  # its end must be that of the server
        become(asked)
    for file in asked:
        os.close(file)
    tell(channel, pid=pid)
    return pid


def become(asked: Asked) -> NoReturn:
    """This process as the rank that was asked for."""
    try:
        os.setsid()
        _set_output(asked.output)
        os.close(asked.output)
        with os.fdopen(asked.environ) as environ:
            os.environ.clear()
            os.environ.update(json.load(environ))
        run()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # a rank ends itself: whatever comes here must not go on as a second server


def _set_output(file: int) -> None:
    os.dup2(file, 1)
    os.dup2(file, 2)


if __name__ == "__main__":
    main(int(sys.argv[1]))
    os._exit(0)  # as every rank, without taking down torch
