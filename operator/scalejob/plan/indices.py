"""Sets of worker indices as text: `0-3,5`, the form of batch/v1's completedIndexes."""

from collections.abc import Iterable


def to_ranges(indices: Iterable[int]) -> str:
    """{0, 1, 2, 3, 5} -> "0-3,5"."""
    ranges: list[tuple[int, int]] = []
    for index in sorted(indices):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def from_ranges(text: str) -> frozenset[int]:
    """The inverse of `to_ranges`. Raises ValueError on other text."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return frozenset(found)
