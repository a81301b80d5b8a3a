"""What the command writes, and how: answers on standard output, failures and progress on standard error.

Names of files come from anywhere, so control characters in them are shown as escapes and move no cursor.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from .redaction import redact, secret_values

DONE = 0
FAILED = 1
WRONG_USAGE = 2

_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


def prepare_streams() -> None:
    """Let no name of a file break a line of output, whatever the terminal's encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """A line of the answer. Raises BrokenPipeError where nobody reads it any more."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line to standard error, without secrets; nothing happens where that is closed."""
    text = redact(text, [secret for secret in secret_values(os.environ) if len(secret) >= 8])
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def say_json(found: Any) -> None:
    """One line of JSON, in ASCII: a name that is no UTF-8 keeps its bytes as `\\udcXX`."""
    say(json.dumps(found))


def close_output() -> None:
    """Nobody reads standard output any more: let what Python still flushes at its end go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at it, on a terminal that can move its cursor."""
    with contextlib.suppress(ValueError):
        return stream.isatty() and os.environ.get("TERM", "") != "dumb"
    return False


def shown(text: str) -> str:
    r"""A name as it can stand in a line.

    >>> shown("line\nbreak \x1b[2J.png")
    'line\\nbreak \\x1b[2J.png'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(count: int) -> str:
    """Bytes for people, in powers of 1,000.

    >>> size(1), size(999), size(1_500_000)
    ('1 byte', '999 bytes', '1.5 MB')
    """
    if abs(count) < 1000:
        return "1 byte" if count == 1 else f"{count} bytes"
    amount, power = float(count), 0
    while abs(amount) >= 999.95 and power < len(_UNITS) - 1:
        amount, power = amount / 1000, power + 1
    return f"{amount:.1f} {_UNITS[power]}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "file"), counted(2, "file"), counted(1200, "file")
    ('1 file', '2 files', '1,200 files')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def table(rows: Sequence[Sequence[str]], *, gap: str = "  ") -> list[str]:
    """Lines of plain text with their columns aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
