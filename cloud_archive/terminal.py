"""Write the command's output: answers to standard output, failures and progress to standard error.

Control characters in file names must be escaped before printing, so that no name moves the cursor.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO
from unicodedata import category, east_asian_width, normalize

from .redaction import redact, secret_values

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


def prepare_streams() -> None:
    """Escape characters that a stream's encoding lacks, and replace a closed stream."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_line(text: str = "") -> None:
    """Print a line of the answer. Raises OSError if the reader closed the pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_error(text: str) -> None:
    """Print a line to standard error, without secrets. Do nothing if standard error is closed."""
    # A shorter secret, as a test store has, may be a common word of this line.
    text = redact(text, [secret for secret in secret_values(os.environ) if len(secret) >= 8])
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def report_interruption() -> int:
    """Print that Ctrl-C ended the command, and return the exit status."""
    print_error("Interrupted.")
    return EXIT_FAILED


def print_json(value: Any) -> None:
    """Print one line of ASCII JSON. Bytes of a file name that are not UTF-8 stay as `\\udcXX`."""
    print_line(json.dumps(value))


def redirect_to_devnull(descriptor: int) -> None:
    """Make what is written to this descriptor from now on vanish."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, descriptor)
    os.close(devnull)


def discard_unwritten() -> None:
    """Discard what standard output and error do not take; otherwise Python reports it at exit, with status 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                redirect_to_devnull(stream.fileno())


@contextlib.contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Treat the first SIGTERM, SIGHUP or Ctrl-Break as Ctrl-C while the block runs, unless it is ignored (nohup).

    `timeout` and a terminal that closes may send it twice, which must not interrupt the reaction to the first.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] is not signal.SIG_IGN]

    def interrupt(*_: object) -> None:
        for number in handled:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def is_terminal(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal that can move its cursor."""
    with contextlib.suppress(ValueError):
        return stream.isatty() and os.environ.get("TERM", "") != "dumb"
    return False


def format_table(rows: Sequence[Sequence[str]], *, gap: str = "  ") -> list[str]:
    """Return lines of plain text with left-aligned columns, and `gap` between two columns."""
    widths = [max(map(_columns_of, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(
            cell + " " * (width - _columns_of(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a Chinese character, none for an accent."""
    if text.isascii():
        return len(text)
    return sum(
        0 if category(each) in ("Mn", "Me") else 2 if east_asian_width(each) in "WF" else 1
        for each in normalize("NFC", text)  # macOS may split a Korean syllable into its letters
    )
