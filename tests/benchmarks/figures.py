"""What a row gives: figures with a goal, and how they are printed."""

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
        ours, peer: what was measured, in turns; the medians are shown.
        most: what is allowed.
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
        """Of turns where both took as many, so that a slow minute counts for neither; else of the medians."""
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
        """As a line of a Markdown table."""
        cells = (
            self.work,
            _shown(self.ours, self.unit),
            _shown(self.peer, self.unit),
            self.against,
            f"{self.ratio:.2f}",
            self.goal,
            "" if self.most == math.inf else "yes" if self.met else "**no**",
        )
        return f"| {' | '.join(cells)} |"


def no_slower(
    work: str, ours: Sequence[float], peer: Sequence[float], against: str, most: float, unit: str = "s"
) -> Figure:
    """The goal is a ratio to the peer."""
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
    """The goal is a number; where there is no peer, that is what the ratio is to."""
    goal = f"≤ {most:g} {unit}"
    return Figure(work, ours, peer or (most,), against or "the goal", goal, most, unit, absolute=True)


def known(work: str, ours: Sequence[float], peer: Sequence[float], against: str, unit: str = "s") -> Figure:
    """Worth knowing, without a goal."""
    return Figure(work, ours, peer, against, "", math.inf, unit)


@dataclass(frozen=True)
class Row:
    """One measurement: the lines that it gives, in order, and how."""

    works: tuple[str, ...]
    measure: Callable[[S3Server, Path, int], list[Figure]]


def _shown(values: Sequence[float], unit: str) -> str:
    """The median, and where it moved the least and the most."""
    middle = _three(statistics.median(values))
    if len(values) < 2 or min(values) == max(values):
        return f"{middle} {unit}"
    return f"{middle} {unit} ({_three(min(values))}–{_three(max(values))})"


def _three(value: float) -> str:
    """Three digits that matter, never as a power of ten."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - _magnitude(value))}f}"


def _magnitude(value: float) -> int:
    return int(f"{abs(value):e}".partition("e")[2]) if value else 0
