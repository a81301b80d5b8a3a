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


def table(rows: Sequence[Sequence[str]], *, gap: str = "  ") -> list[str]:
    """Lines of plain text with their columns aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
