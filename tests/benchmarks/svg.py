"""Draw curves as an SVG file without a library: lines over a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 84, 24, 76, 56
COLOURS = ("#2f6fb2", "#c2571a", "#3d8b40", "#7a4fa3")
_Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One line: (x, y) pairs."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes:
        log_y: whether the y axis is logarithmic too; else it begins at zero.
    """

    title: str
    x_name: str
    y_name: str
    curves: Sequence[Curve]
    log_y: bool = False


def to_svg(chart: Chart) -> str:
    """Return the chart as one SVG document."""
    points = [point for curve in chart.curves for point in curve.points]
    xs = sorted({x for x, _ in points})
    low, high = _range([y for _, y in points], log=chart.log_y)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _share(x, xs[0], xs[-1], log=True)
        up = _share(y, low, high, log=chart.log_y)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' font-family="sans-serif" font-size="12">',
        f"<title>{escape(chart.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="#222">{escape(chart.title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 14}" text-anchor="middle" fill="#555">'
        f"{escape(chart.x_name)}</text>",
        f'<text x="8" y="{TOP - 12}" fill="#555">{escape(chart.y_name)}</text>',
    ]
    for y in _ticks(low, high, log=chart.log_y):
        _, top = place(xs[0], y)
        lines.append(f'<path d="M{LEFT} {top:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{top + 4:.1f}" text-anchor="end" fill="#555">{y:,g}</text>')
    for x in xs:
        left, _ = place(x, low)
        lines.append(
            f'<text x="{left:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#555">{x:,g}</text>'
        )
    for number, curve in enumerate(chart.curves):
        lines += _draw_curve(curve, COLOURS[number % len(COLOURS)], place)
        lines.append(
            f'<text x="{LEFT + number * 150}" y="46" fill="{COLOURS[number % len(COLOURS)]}">'
            f"● {escape(curve.name)}</text>"
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _number(value: float, digits: int) -> str:
    """Write a value for a label; a large one gets no exponent."""
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _draw_curve(curve: Curve, colour: str, place: _Place) -> list[str]:
    spots = [(place(x, y), x, y) for x, y in sorted(curve.points)]
    path = "L".join(f"{left:.1f} {top:.1f}" for (left, top), _, _ in spots)
    lines = [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for (left, top), x, y in spots:
        hint = escape(f"{curve.name}: {x:,g}, {_number(y, 4)}")
        lines.append(
            f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3.5" fill="{colour}"><title>{hint}</title></circle>'
        )
        lines.append(
            f'<text x="{left:.1f}" y="{top - 8:.1f}" text-anchor="middle" font-size="10" fill="{colour}">'
            f"{_number(y, 3)}</text>"
        )
    return lines


def _range(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    if log:
        return 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    step = 10 ** math.floor(math.log10(max(values)))
    return 0.0, math.ceil(max(values) * 1.05 / step * 2) / 2 * step


def _share(value: float, low: float, high: float, *, log: bool) -> float:
    if low == high:
        return 0.5
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    if log:
        return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    return [low + (high - low) * quarter / 4 for quarter in range(5)]
