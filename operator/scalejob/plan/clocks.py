"""Stored times that are still to come: a clock has been set back since, or this operator's goes behind that of another.

Within one process time passes evenly; between two of them it may jump. A back-off would last as long as the jump, and a deadline
come as late. A jump forward looks like time that has passed, so nothing can be done about that.
"""

from datetime import timedelta

from scalejob.api.v1alpha1 import Status

from .gang import MAX_AWAY_SECONDS
from .times import from_text, to_text
from .view import View, change

# Clocks of two hosts that are kept in time differ by less.
_TOLERANCE = timedelta(seconds=60)
_STARTS = ("start_time", "created_time", "running_time", "waiting_time", "hold_time")
_NEXT = ("attempt_time", "scheduling_time")


def believe_no_future(view: View, status: Status) -> Status:
    """What starts in the future starts now. The next attempt may lie ahead by the longest back-off."""
    latest = view.now + _TOLERANCE
    backoff = timedelta(seconds=view.spec.restarts.backoff_max_seconds + MAX_AWAY_SECONDS)
    limits = dict.fromkeys(_STARTS, latest) | dict.fromkeys(_NEXT, latest + backoff)
    wrong = [name for name, limit in limits.items() if (text := getattr(status, name)) and from_text(text) > limit]
    return change(status, **dict.fromkeys(wrong, to_text(view.now)))
