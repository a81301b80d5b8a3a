"""The figures of a row, their goals, and their lines in the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import S3Server

HEADER = ("| work | ours | peer | against | ratio | goal | met |", "|---|---|---|---|---|---|---|")


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        ours, peer: the measured values, taken in turns; the medians are shown.
        most: the goal's limit.
        absolute: whether `most` bounds our figure itself and not its ratio to the peer's.
        at_least: the goal is to reach `most`, not to stay below it.
    """

    work: str
    ours: Sequence[float]
    peer: Sequence[float]
    against: str
    goal: str
    most: float
    unit: str = "s"
    absolute: bool = False
    at_least: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.ours)

    @property
    def ratio(self) -> float:
        """The median of the turns' ratios, so that a slow minute hits both; if counts differ, the medians' ratio."""
        if len(self.ours) == len(self.peer):
            return statistics.median(a / b if b else 0.0 for a, b in zip(self.ours, self.peer, strict=True))
        peer = statistics.median(self.peer)
        return self.median / peer if peer else 0.0

    @property
    def met(self) -> bool:
        found = self.median if self.absolute else self.ratio
        return found >= self.most if self.at_least else found <= self.most

    @property
    def line(self) -> str:
        """A line of a Markdown table."""
        cells = (
            self.work,
            _format_values(self.ours, self.unit),
            _format_values(self.peer, self.unit),
            self.against,
            f"{self.ratio:.2f}",
            self.goal,
            "" if self.most == math.inf else "yes" if self.met else "**no**",
        )
        return f"| {' | '.join(cells)} |"


def no_slower(
    work: str, ours: Sequence[float], peer: Sequence[float], against: str, most: float, unit: str = "s"
) -> Figure:
    """Return a figure whose goal is a ratio to the peer."""
    return Figure(work, ours, peer, against, f"≤ {most:g} ×", most, unit)


def within(
    work: str,
    ours: Sequence[float],
    most: float,
    unit: str = "s",
    *,
    peer: Sequence[float] = (),
    against: str = "",
) -> Figure:
    """Return a figure whose goal is a number; without a peer, the ratio is to the goal."""
    goal = f"≤ {most:g} {unit}"
    return Figure(work, ours, peer or (most,), against or "the goal", goal, most, unit, absolute=True)


def without_goal(
    work: str, ours: Sequence[float], peer: Sequence[float], against: str, unit: str = "s"
) -> Figure:
    """Return a figure without a goal."""
    return Figure(work, ours, peer, against, "", math.inf, unit)


@dataclass(frozen=True)
class Row:
    """One measurement: the names of its lines, in order, and the function that measures them."""

    works: tuple[str, ...]
    measure: Callable[[S3Server, Path, int], list[Figure]]


def _format_values(values: Sequence[float], unit: str) -> str:
    """Return the median with the smallest and the largest value."""
    middle = _three_digits(statistics.median(values))
    if len(values) < 2 or min(values) == max(values):
        return f"{middle} {unit}"
    return f"{middle} {unit} ({_three_digits(min(values))}–{_three_digits(max(values))})"


def _three_digits(value: float) -> str:
    """Format with three significant digits, never as a power of ten."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - _magnitude(value))}f}"


def _magnitude(value: float) -> int:
    return int(f"{abs(value):e}".partition("e")[2]) if value else 0
