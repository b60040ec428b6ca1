"""The figures of speed that this project promises, each beside its peer.

    python -m tests.bench [--only SECTION ...] [--quick] [--repeats 5] [--json FILE]

Exit status 1 if a bound is missed. `python -m tests.bench.report` makes docs/performance.md of the JSON.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.bench.cases import SECTIONS as FITS
from tests.bench.contention import contention
from tests.bench.figure import Line
from tests.bench.pods import pods
from tests.bench.results import write
from tests.bench.scaling import scaling
from tests.bench.side_by_side import compare
from tests.bench.startup import startup

QUICK = 0.005  # share of the full sizes: whether it runs, not how fast
Section = Callable[[float, int], Iterable[Line]]


def _fits(name: str) -> Section:
    return lambda scale, repeats: (compare(case, scale, repeats) for case in FITS[name])


SECTIONS: dict[str, Section] = {
    **{name: _fits(name) for name in FITS},
    "scaling": scaling,
    "contention": contention,
    "startup": lambda _scale, repeats: startup(repeats),
    "pods": lambda _scale, repeats: pods(repeats),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="a section; may be given several times")
    parser.add_argument("--quick", action="store_true", help="tiny data: whether it runs, not how fast")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median counts (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, help="write the figures there, too; with --only, beside those of other sections"
    )
    args = parser.parse_args(arguments)
    print(f"Median of {args.repeats}, one thread unless said; ratio: ours / peer; load {os.getloadavg()[0]:.1f}")
    found: dict[str, list[Line]] = {}
    for name in args.only or SECTIONS:
        print(f"\n{name}", flush=True)
        found[name] = list(_shown(SECTIONS[name](QUICK if args.quick else 1.0, args.repeats)))
    if args.json:
        write(args.json, found, is_part=args.only is not None)
    return int(not all(line.is_met for lines in found.values() for line in lines))


def _shown(lines: Iterable[Line]) -> Iterable[Line]:
    for line in lines:
        print(line, flush=True)
        yield line


if __name__ == "__main__":
    sys.exit(main())
