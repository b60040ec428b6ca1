"""The blocks of shell or Python of a Markdown page that are marked to be run: `<!-- run: NAME -->` on the line before the block."""

import re
from pathlib import Path

BLOCK = re.compile(r"<!-- run: (?P<name>\w+) -->\n```(?:sh|python)\n(?P<script>.*?)```", re.DOTALL)


def shell_block(page: Path, name: str) -> str:
    """The script of the block called `name`; KeyError if the page has none."""
    return {m["name"]: m["script"] for m in BLOCK.finditer(page.read_text())}[name]
