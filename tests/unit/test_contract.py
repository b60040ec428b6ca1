"""What one side writes the other reads, and what a stranger writes harms nobody."""

import pytest

from scalejob.contract import LastWord, ProgressLine

LINE = ProgressLine(phase="fit", step=3, of=9, metric="inertia", value=1.5, eta_seconds=7, digest="c0ffee")


def test_a_progress_line_survives_its_way() -> None:
    """Every field of it."""
    assert ProgressLine.from_json(LINE.to_json()) == LINE
    assert None not in [getattr(LINE, name) for name in ProgressLine.__slots__]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fit 3",
        '{"progress"',
        '{"progress": 3}',
        '{"progress": {"phase": "fit"}}',
        '{"progress": {"step": 1}}',
        '{"progress": ' + "[" * 4000,
    ],
)
def test_what_is_no_progress_is_passed_over(text: str) -> None:
    """A program prints what it likes."""
    assert ProgressLine.from_json(text) is None


def test_fields_of_a_wrong_type_are_left_out() -> None:
    """The rest is still worth showing."""
    text = '{"progress": {"phase": "fit", "step": 3, "of": "nine", "value": [1], "eta_seconds": 0.5}}'
    assert ProgressLine.from_json(text) == ProgressLine(phase="fit", step=3)
    assert LastWord.from_json('{"rank": 0, "seconds": ' + "9" * 400 + "}") == LastWord(rank=0)


def test_half_a_character_does_not_spoil_a_message() -> None:
    """A file name that is not UTF-8 is in the words of Python's errors: what is read can be sent on."""
    found = LastWord.from_json(LastWord(rank=0, message="no such file: a\udcff.csv").to_json())
    assert found == LastWord(rank=0, message="no such file: a?.csv")


def test_a_long_message_is_cut_to_what_the_kubelet_keeps() -> None:
    """The rest of the word stays whole."""
    found = LastWord.from_json(LastWord(rank=1, error="ValueError", message="x" * 9000).to_json())
    assert (found.rank, found.error) == (1, "ValueError")
    assert 3900 < len(found.message) < 4096
