"""A progress bar on a terminal, drawn from the status; nothing where nobody looks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..text import format_bytes, make_printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Progress:
    """Draws on standard error, so that standard output holds answers only; log lines appear above it.

    Args:
        drawn: False does nothing, and loads nothing.
        title: what is being done.
    """

    def __init__(self, drawn: bool, title: str = "Archiving") -> None:
        self._title = title
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._stack = contextlib.ExitStack()
        self._drawn = drawn

    def __enter__(self) -> Progress:
        if self._drawn:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[words]}", markup=False),
                console=Console(stderr=True, highlight=False),
                transient=True,
            )
            self._task = self._bar.add_task(self._title, total=None, words="")
            self._stack.enter_context(self._bar)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def show(self, status: Mapping[str, Any]) -> None:
        """Draw this status object."""
        finished = status["uploaded_files"] + status["already_archived_files"] + status["failed_files"]
        words = f"{finished:,}/{status['total_files']:,}"
        if status["pending_bytes"]:
            words += f", {format_bytes(status['pending_bytes'])} left"
        if status["rate_bytes_per_second"]:
            words += f", {format_bytes(status['rate_bytes_per_second'])}/s"
        if status["state"] == "retrying":
            words += ", waiting for the store"
        self.draw(finished, status["total_files"] or None, words)

    def draw(self, done: float, total: float | None, words: str) -> None:
        """Draw any other progress."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, words=make_printable(words))
