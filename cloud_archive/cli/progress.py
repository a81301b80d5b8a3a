"""Draw a progress bar."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..terminal import is_terminal
from ..text import format_bytes, format_duration, make_printable
from .common import notice_if_silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def describe_rate(bytes_per_second: int, seconds_left: int | None) -> list[str]:
    """Return the rate (if not 0) and the time left (if known) in words."""
    rate = [f"{format_bytes(bytes_per_second)}/s"] if bytes_per_second else []
    return [*rate, f"about {format_duration(seconds_left)}"] if seconds_left else rate


class Progress:
    """A progress bar on standard error; log lines appear above it.

    Args:
        drawn: False draws nothing, and does not load rich.
        asks_store: without a call of `draw`, say after `SILENT_SECONDS` that the command waits for the store.
    """

    def __init__(self, drawn: bool, title: str = "Archiving", *, asks_store: bool = False) -> None:
        self._title = title
        self._asks_store = asks_store
        self._cancel_notice: Callable[[], None] = lambda: None
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
                # Rich would write a pipe's lines to standard error.
                redirect_stdout=is_terminal(sys.stdout),
            )
            self._task = self._bar.add_task(self._title, total=None, words="")
            self._stack.enter_context(self._bar)
        if self._asks_store:
            self._cancel_notice = self._stack.enter_context(notice_if_silent())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def show(self, status: Mapping[str, Any]) -> None:
        finished = status["uploaded_files"] + status["already_archived_files"] + status["failed_files"]
        total = status["total_files"]
        unsent = status.get("unsent_bytes", status["pending_bytes"])
        parts = [
            f"{finished:,}/{total:,}" if total else "",
            f"{format_bytes(unsent)} left" if unsent else "",
            *describe_rate(status["rate_bytes_per_second"], status["seconds_left"]),
            "waiting for the next try" if status["state"] == "retrying" else "",
        ]
        self.draw(finished, total or None, ", ".join(part for part in parts if part))

    def draw(self, done: float, total: float | None, words: str) -> None:
        """Draw `done` of `total`, and `words` after the bar; `total`: None if unknown."""
        self._cancel_notice()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, words=make_printable(words))
