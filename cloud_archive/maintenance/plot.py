"""A report as one SVG file: bars, without a library, readable in any browser."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from .report import TIMES, Report, Row

WIDTH, HEIGHT = 960, 360
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 44, 60
MOST_BARS = 120
_POWERS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"), (1, "bytes"))


def to_svg(report: Report) -> str:
    """The report's bytes as bars: times from left to right, the newest 120; types and folders by size."""
    rows = report.rows[-MOST_BARS:] if report.by in TIMES else report.rows[:MOST_BARS]
    most = max((row.size_bytes for row in rows), default=0) or 1
    power, unit = next(entry for entry in _POWERS if most >= entry[0])
    title = f"{report.files:,} files, {report.size_bytes / 1e9:,.2f} GB, by {report.by}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="15" fill="#222">{escape(title)}</text>',
        *_axis(most / power, unit),
        *_bars(rows, most, timed=report.by in TIMES),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _axis(most: float, unit: str) -> list[str]:
    lines = []
    for quarter in range(5):
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * quarter / 4
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{most * quarter / 4:.3g} {unit}</text>'
        )
    return lines


def _bars(rows: Sequence[Row], most: int, *, timed: bool) -> list[str]:
    if not rows:
        return [f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle" fill="#555">nothing yet</text>']
    step = (WIDTH - LEFT - RIGHT) / len(rows)
    every = max(1, -(-len(rows) // 12))  # labels that do not run into each other
    lines = []
    for place, row in enumerate(rows):
        height = (HEIGHT - TOP - BOTTOM) * row.size_bytes / most
        x, y = LEFT + step * place, HEIGHT - BOTTOM - height
        shown = row.name.removesuffix("T00:00:00").replace("T", " ") if timed else row.name
        # XML has no sign for control characters, and no bytes that are no UTF-8.
        shown = "".join(sign if sign.isprintable() else "?" for sign in shown)
        hint = escape(f"{shown}: {row.files:,} files, {row.size_bytes:,} bytes")
        lines.append(
            f'<rect x="{x + step * 0.1:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" height="{height:.1f}"'
            f' fill="#2f6fb2"><title>{hint}</title></rect>'
        )
        if place % every == 0:
            label = escape(shown if len(shown) <= 16 else shown[:15] + "…")
            place_of = f'x="{x + step / 2:.1f}" y="{HEIGHT - BOTTOM + 18}"'
            lines.append(f'<text {place_of} text-anchor="middle" fill="#555">{label}</text>')
    return lines
