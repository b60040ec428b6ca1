"""What can go wrong, by what the caller should do about it.

TrainerError                a message for the user; the job ends
├── UserFault (exit 2)      a retry cannot help
│   ├── InvalidSpec         the task cannot be done as asked: more clusters than rows, label missing in the spec
│   └── InvalidData         the data or the output: file, column, row
├── Unreachable             an object store or a web server does not answer; a new attempt may help (exit 1)
├── RendezvousTimeout       ranks are missing; a new attempt may help (exit 1)
├── CacheLost               rows on a local disk are not what was written; a new attempt writes them anew (exit 1)
├── PeerLost                another rank ended first: this one is a victim, its message tells of the other
└── Preempted (exit 85)     the cluster asked for the end, and the state is saved: a new attempt goes on from there
"""

from typing import ClassVar

from scalejob.contract import ExitCode, Reason


class TrainerError(Exception):
    """A failure with a message for the user."""

    reason: ClassVar[Reason | None] = Reason.USER_ERROR
    exit_code: ClassVar[int] = 1


class UserFault(TrainerError):
    """The user has to change something first."""

    exit_code = ExitCode.INVALID


class InvalidSpec(UserFault):
    """The task cannot be done as asked."""

    reason = Reason.INVALID_SPEC


class InvalidData(UserFault):
    """The data cannot be learned from, or the output cannot be written. The message names file, row and column."""

    reason = Reason.INVALID_DATA


class Unreachable(TrainerError):
    """A place that is not on this machine does not answer, after several tries. The message names the file or folder."""

    reason = Reason.STORAGE_UNREACHABLE


class RendezvousTimeout(TrainerError):
    """Not all ranks came; the message names the missing ones."""

    reason = Reason.RENDEZVOUS_TIMEOUT


class CacheLost(TrainerError):
    """What a local disk gave back is not what was written to it."""


class PeerLost(TrainerError):
    """Another rank ended, or does not answer. Who reads last words looks for the cause elsewhere first."""


class Preempted(TrainerError):
    """The end of an attempt that nobody is to blame for."""

    reason = None
    exit_code = ExitCode.PREEMPTED
