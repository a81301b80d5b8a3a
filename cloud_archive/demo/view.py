"""Show the demo's uploads: a live table on a terminal, else a line for each change."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from ..intake.settle_rules import QUIET_TIME
from ..terminal import format_table, is_terminal
from ..text import format_bytes, make_printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

_STATE_NAMES = {"pending": "queued", "archived": "proven"}
_STYLES = {
    "being written": "dim",
    "detected": "cyan",
    "queued": "cyan",
    "uploading": "yellow",
    "proven": "green",
    "failed": "bold red",
}
_BAR_CELLS = 10
_STATE_CELLS = 20
_SIZE_CELLS = 9


@dataclass(frozen=True, slots=True)
class FileLine:
    """One version of a file.

    Attributes:
        id: the same until the version gets a row in the ledger, then that of the row.
        state: as the view shows it.
        sent: the part that was sent, from 0 to 1.
    """

    id: str
    path: str
    size_bytes: int
    state: str
    sent: float = 0.0
    key: str = ""


def file_lines(status: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[FileLine]:
    """Return a line for each version, the oldest first.

    Args:
        status: the status object.
        rows: the rows of `/files`, newest first.
    """
    active = {entry["path"]: entry for entry in status["active"]}
    lines: list[FileLine] = []
    for row in reversed(rows):
        state, sent = _STATE_NAMES.get(row["state"], row["state"]), 0.0
        key = row["s3_key"] or ""
        if state == "uploading" and row["path"] in active:
            entry = active[row["path"]]
            sent, key = entry["sent_bytes"] / max(1, row["size_bytes"]), entry["s3_key"] or key
        lines.append(FileLine(f"row {row['id']}", row["path"], row["size_bytes"], state, sent, key))
    for entry in status["waiting"]:
        state = "detected" if entry["reason"] == QUIET_TIME else "being written"
        lines.append(FileLine(f"file {entry['path']}", entry["path"], entry["size_bytes"], state))
    return lines


class View:
    """Show lines as they change.

    Args:
        out: the stream to write to.
        live: draw a table that stays in place; default: True on a terminal.
    """

    def __init__(self, out: TextIO, *, live: bool | None = None) -> None:
        self._out = out
        self._live_wanted = is_terminal(out) if live is None else live
        self._begun = time.monotonic()
        self._known: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._console: Console | None = None
        self._live: Live | None = None

    def __enter__(self) -> View:
        if self._live_wanted:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=self._out, highlight=False)
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, lines: Sequence[FileLine]) -> None:
        """Draw these lines in place of the previous ones, or print those whose state has changed."""
        lines = [self._with_growth(line) for line in lines]
        ids = {line.id for line in lines}
        self._sizes = {line_id: size for line_id, size in self._sizes.items() if line_id in ids}
        if self._live is not None and self._console is not None:
            room = max(3, self._console.height - 8)
            content = _make_table(lines[-room:], lines[:-room], self._console.width)
            self._live.update(content if lines else "", refresh=True)
            return
        for line in lines:
            if self._known.get(line.id) != line.state:
                self._known[line.id] = line.state
                self._print_change(line)

    def _with_growth(self, line: FileLine) -> FileLine:
        """Return the line as `being written` if the file has grown since it was first seen."""
        if line.state != "detected":
            return line
        first = self._sizes.setdefault(line.id, line.size_bytes)
        return line if line.size_bytes == first else replace(line, state="being written")

    def _print_change(self, line: FileLine) -> None:
        moment = f"{time.monotonic() - self._begun:5.1f} s"
        what = f"{make_printable(line.path)} ({format_bytes(line.size_bytes)})"
        as_key = f" as {make_printable(line.key)}" if line.state == "proven" else ""
        self.say(f"{moment}  {line.state:<14} {what}{as_key}")

    def say(self, text: str = "") -> None:
        self._out.write(text + "\n")
        self._out.flush()


def _make_table(lines: Sequence[FileLine], hidden: Sequence[FileLine], width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    all_proven = all(line.state == "proven" for line in hidden)
    title = f"… {len(hidden)} more above{', all in the bucket' if all_proven else ''}" if hidden else None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_style="dim", title_justify="left")
    left = width - _SIZE_CELLS - _STATE_CELLS - 12
    for_file = max(12, min(max((len(line.path) for line in lines), default=12), left // 2))
    for_key = max(12, left - for_file)
    table.add_column("File", no_wrap=True, width=for_file)
    table.add_column("Size", justify="right", no_wrap=True, width=_SIZE_CELLS)
    table.add_column("State", no_wrap=True, width=_STATE_CELLS)
    table.add_column("Object key", no_wrap=True, width=for_key)
    for line in lines:
        key = line.key if line.state in ("proven", "uploading") else ""
        table.add_row(
            Text(_keep_end(make_printable(line.path), for_file)),
            format_bytes(line.size_bytes),
            Text(_format_state(line), _STYLES.get(line.state, "")),
            Text(_keep_end(make_printable(key), for_key), "dim"),
        )
    return table


def _keep_end(text: str, cells: int) -> str:
    """Shorten a name at its start, because its end says more."""
    return text if len(text) <= cells else "…" + text[1 - cells :]


def _format_state(line: FileLine) -> str:
    if line.state == "uploading":
        full = round(_BAR_CELLS * min(1.0, line.sent))
        return f"{'━' * full}{'┄' * (_BAR_CELLS - full)} uploading"
    return f"{'✓ ' if line.state == 'proven' else ''}{line.state}"


def bucket_table(objects: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table of the objects that were read back."""
    head = ("Object", "Size", "SHA-256 of what was read back", "")
    rows = [
        (
            make_printable(one["key"]),
            format_bytes(one["size_bytes"]),
            one["sha256"][:24] + "…",
            "same" if one["same"] else "DIFFERENT",
        )
        for one in objects
    ]
    return format_table([head, *rows])
