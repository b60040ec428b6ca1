"""Times of the API: RFC 3339 in UTC."""

import math
from datetime import UTC, datetime, timedelta


def to_text(time: datetime) -> str:
    """With whole seconds, as Kubernetes writes them."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_text_after(time: datetime, seconds: float) -> str:
    """The first whole second at or after `time + seconds`; `time` itself if nothing is to be waited for."""
    if not seconds:
        return to_text(time)
    return to_text(datetime.fromtimestamp(math.ceil((time + timedelta(seconds=seconds)).timestamp()), UTC))


def from_text(text: str) -> datetime:
    """Raises ValueError if it is not RFC 3339."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def seconds_between(start: datetime, end: datetime) -> float:
    """Never negative: clocks of two machines may differ."""
    return max(0.0, (end - start).total_seconds())


def in_words(seconds: float) -> str:
    """For people, as kubectl shows an age: 42s, 3m7s, 2h5m, 3d4h."""
    total = int(seconds)
    days, hours, minutes, rest = total // 86_400, total // 3600 % 24, total // 60 % 60, total % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    first = next((i for i, (value, _) in enumerate(parts) if value), len(parts) - 1)
    return "".join(f"{value}{unit}" for value, unit in parts[first : first + 2] if value or first == len(parts) - 1)
