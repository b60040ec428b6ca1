"""What a lost worker has left: its exit code, its last words, and what the cluster says of its Pod."""

import re
from dataclasses import dataclass

from scalejob.api.v1alpha1 import Spec
from scalejob.contract import NO_SIGN_OF_LIFE, LastWord, ProgressLine, Reason

from .model import Pod

# How torch, NCCL and the sockets below them say that a peer is gone. Lower case.
_PEER_LOST_TEXTS = (
    "peerlost",  # the trainer's own word for it
    "connection reset by peer",
    "connection closed by peer",
    "connection refused",
    "broken pipe",
    "remote process exited",
    "remote peer",
    "failed to recv, got 0 bytes",
    "timed out waiting",
    "socket timeout",
    "watchdog caught collective operation timeout",
    "distnetworkerror",
    "diststoreerror",
)
_EXCEPTION_LINE = re.compile(r"(\[\S+\]:? ?)?[\w.]*(Error|Exception)(: .+)?")  # a launcher may put [rank] before it
_TAINT_MANAGER = "DeletionByTaintManager"
_POD_GC = "DeletionByPodGC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A worker that is lost, and its last words. `error` is the type and text of its exception, or the end of its log."""

    spec: Spec
    pod: Pod
    exit_code: int | None
    word: LastWord | None
    error: str

    @property
    def said(self) -> str | None:
        return self.word.reason if self.word else None


def is_on_lost_node(evidence: Evidence) -> bool:
    """The taint manager also clears nodes that answer; but there a Pod is ready until it is told to stop."""
    pod = evidence.pod
    is_silent = pod.disruption == _TAINT_MANAGER and pod.phase == "Running" and not pod.is_ready
    return pod.is_node_lost or pod.disruption == _POD_GC or is_silent


def is_killed_for_memory(evidence: Evidence) -> bool:
    return evidence.pod.terminated is not None and evidence.pod.terminated.reason == "OOMKilled"


def missed_a_peer(evidence: Evidence) -> bool:
    return NO_SIGN_OF_LIFE in evidence.error


def lost_a_peer(evidence: Evidence) -> bool:
    error = evidence.error.lower()
    return any(text in error for text in _PEER_LOST_TEXTS)


def says(reason: Reason, is_repeated: bool, evidence: Evidence) -> bool:
    """Whether the worker names this reason; `is_repeated`: as that of another worker."""
    return evidence.said == reason and is_repeated == (evidence.word is not None and evidence.word.error == "PeerLost")


def examine(spec: Spec, pod: Pod) -> Evidence:
    end = pod.terminated
    word = LastWord.from_json(end.message) if end else None
    return Evidence(
        spec=spec, pod=pod, exit_code=end.exit_code if end else None, word=word, error=_last_words(pod, word)
    )


def _last_words(pod: Pod, word: LastWord | None) -> str:
    """The exception that the worker named; else the telling line of its log; else what the kubelet says."""
    if word is not None:
        error = None if word.error == word.reason else word.error  # the reason is told anyway
        return ": ".join(filter(None, (error, word.message)))
    line = _telling_line(pod.terminated.message) if pod.terminated else ""
    return line or pod.init_failure or ": ".join(filter(None, (pod.reason, pod.message)))


def _telling_line(log: str) -> str:
    """The last line in which Python names an exception; else the last one with a word in it: launchers end with rulers.

    A log that ends with progress is that of a rank which was killed at work, and says nothing about its end.
    """
    lines = [line.strip() for line in log.splitlines() if any(map(str.isalnum, line))]
    last = lines[-1] if lines else ""
    words = "" if ProgressLine.from_json(last) else last
    return next((line for line in reversed(lines) if _EXCEPTION_LINE.fullmatch(line)), words)
