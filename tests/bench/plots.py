"""The plots of the results page: SVG that follows the reader's colours, light or dark."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

Line = dict[str, Any]  # a Figure as JSON
STYLE = """<style>
.paper { fill: #ffffff } text { fill: #1f2328 } .grid { stroke: #d8dee4 } .one { stroke: #59636e }
.met { fill: #4c956c } .missed { fill: #d1603d } .bound { stroke: #1f2328; stroke-width: 2 } .curve { stroke: #4c956c; stroke-width: 2; fill: none }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #30363d } .one { stroke: #9198a1 } .bound { stroke: #e6edf3 }
}
text { font: 11px sans-serif } .end { text-anchor: end } .middle { text-anchor: middle }
</style>"""
BAR, LABEL, WIDTH, VALUE = 18, 380, 360, 60  # pixels: a line, and the three columns of the ratios
SIDE, MARGIN = (420, 220), 44


def ratios(lines: Sequence[Line]) -> str:
    """Bars from 1, which is the peer, to ours / peer on a logarithmic axis; a mark is the bound."""
    values = [1.0, *(line[key] for line in lines for key in ("ratio", "bound"))]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    bottom = BAR * (len(lines) + 1)

    def x(value: float) -> float:
        return LABEL + WIDTH * (math.log10(value) - low) / max(1, high - low)

    parts = []
    for power in range(low, high + 1):
        kind = "one" if power == 0 else "grid"
        parts.append(_line((x(10**power), BAR), (x(10**power), bottom), kind))
        parts.append(_text((x(10**power), BAR - 5), f"{10.0**power:g}", "middle"))
    for place, line in enumerate(lines, 1):
        parts += _bar(BAR * place, line, x)
    return _svg((LABEL + WIDTH + VALUE, bottom + 6), parts)


def _bar(top: int, line: Line, x: Any) -> Iterator[str]:
    left, right = sorted((x(1), x(line["ratio"])))
    kind = "met" if line["is_met"] else "missed"
    yield _text((LABEL - 8, top + 13), line["name"], "end")
    yield f'<rect class="{kind}" x="{left:.1f}" y="{top + 4}" width="{right - left:.1f}" height="{BAR - 7}"/>'
    yield _line((x(line["bound"]), top + 1), (x(line["bound"]), top + BAR - 1), "bound")
    yield _text((LABEL + WIDTH + 8, top + 13), f"{line['ratio']:.3g}", "")


def scaling(lines: Sequence[Line]) -> str:
    """Efficiency, which is the CPU time of one rank beside that of all, by the number of ranks; a mark is the bound."""
    width, height = SIDE
    most = max(line["ranks"] for line in lines)
    top = max(1.1, *(1 / line["ratio"] for line in lines))

    def at(ranks: float, efficiency: float) -> tuple[float, float]:
        across = (ranks - 1) / (most - 1) * (width - 2 * MARGIN)
        return MARGIN + across, height - MARGIN - efficiency / top * (height - 2 * MARGIN)

    points = [at(1, 1.0), *(at(line["ranks"], 1 / line["ratio"]) for line in lines)]
    parts = [_text((MARGIN, 20), "CPU-time efficiency by number of ranks", "")]
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            _line(at(1, level), at(most, level), "grid"),
            _text((MARGIN - 8, at(1, level)[1] + 4), f"{level:g}", "end"),
        ]
    for ranks in (1, *(line["ranks"] for line in lines)):
        parts.append(_text((at(ranks, 0)[0], height - MARGIN + 18), str(ranks), "middle"))
    parts.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    for (x, y), line in zip(points[1:], lines, strict=True):
        kind, bound = "met" if line["is_met"] else "missed", at(1, 1 / line["bound"])[1]
        parts += [
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
            _line((x - 8, bound), (x + 8, bound), "bound"),
        ]
        parts.append(_text((x, y - 9), f"{1 / line['ratio']:.2f}", "middle"))
    return _svg(SIDE, parts)


def _line(start: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    return f'<line class="{kind}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'


def _text(at: tuple[float, float], text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{at[0]:.1f}" y="{at[1]:.1f}">{escape(text)}</text>'


def _svg(size: tuple[int, int], parts: Sequence[str]) -> str:
    shape = f'width="{size[0]}" height="{size[1]}"'
    paper = f'<rect class="paper" {shape} rx="6"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {shape}>', STYLE, paper, *parts, "</svg>", ""])
