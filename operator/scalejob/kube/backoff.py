"""How long to wait before trying again."""

import random


def backoff(failures: int, first: float, last: float) -> float:
    """Seconds to wait after the n-th failure in a row: min(last, first * 2^(n-1)), times 0.5 to 1.

    The jitter keeps many clients of a server that comes back from asking all at once.
    """
    return min(last, first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
