"""The figures of the operator, on a real control plane whose nodes are objects only.

    python -m tests.bench.operator [--only CASE ...] [--share 0.1] [--repeats 3] [--json FILE]

Each case takes about a minute and a half. Exit status 1 if a bound is missed. With --only, cases that FILE has already stay in it.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from tests.bench.figure import Line
from tests.bench.operator.cases import CASES, Case
from tests.bench.operator.stage import open_stage
from tests.bench.results import write


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES, action="append", help="a case; may be given several times")
    parser.add_argument("--share", type=float, default=1.0, help="of the full sizes (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of which the median counts (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    args = parser.parse_args()
    found = {}
    for name in args.only or CASES:
        print(f"\n{name}", flush=True)
        found[name] = asyncio.run(_lines(CASES[name], args.share, args.repeats))
        print(*found[name], sep="\n", flush=True)
        if args.json:
            write(args.json, found, is_part=bool(args.only))
    return int(not all(line.is_met for lines in found.values() for line in lines))


async def _lines(case: Case, scale: float, repeats: int) -> list[Line]:
    """On a control plane of its own."""
    async with open_stage() as stage:
        return await case(stage, scale, repeats)


if __name__ == "__main__":
    sys.exit(main())
