"""How the files that are made here are written, or compared with what they should be."""

import sys
from pathlib import Path


def keep(target: Path, text: str) -> int:
    """Write `text` to `target` if it differs; with `--check` on the command line only say so. Returns the exit status."""
    if target.exists() and target.read_text() == text:
        return 0
    if "--check" in sys.argv:
        print(f"{target.name}: out of date; run make generate")
        return 1
    target.write_text(text)
    print(f"{target.name}: written")
    return 0
