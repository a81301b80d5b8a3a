"""Turn an object key into a path that stays inside the target directory.

Anybody who may write to the bucket chooses its keys. Names that a file can't have are not refused: `%XX` makes them
valid. It also changes the name of a state directory, whose files an archive would trust. Names that are too long are
shortened. For Windows the rules are https://learn.microsoft.com/windows/win32/fileio/naming-a-file.

>>> local_parts("../../etc/passwd", windows=False)
('%2E%2E', '%2E%2E', 'etc', 'passwd')
>>> local_parts("a/NUL.png", windows=True), local_parts("c:\\\\x. ", windows=True)
(('a', '%4EUL.png'), ('c%3A%5Cx.%20',))
"""

from __future__ import annotations

import os
import re
import sys

from ..keys import MAX_NAME_BYTES, shorten_name
from ..state import FALLBACK_NAME
from ..text import is_windows_device

_WINDOWS_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"\\|?*]')
_POSIX_FORBIDDEN = re.compile(r"[\x00]")


def local_parts(path: str, *, windows: bool) -> tuple[str, ...]:
    """Return the parts of a relative path, each a valid name, without the empty ones.

    Args:
        path: a key without its prefix.
        windows: apply the rules of Windows; else those of POSIX, where a backslash is an ordinary character.
    """
    return tuple(_safe_name(part, windows=windows) for part in path.split("/") if part)


def _safe_name(part: str, *, windows: bool) -> str:
    name = _valid_name(part, windows=windows)
    # Windows and macOS count UTF-16 units, so their names may be too long for other systems.
    in_units = windows or sys.platform == "darwin"
    length = len(name.encode("utf-16-le", "surrogatepass")) // 2 if in_units else len(os.fsencode(name))
    return name if length <= MAX_NAME_BYTES else shorten_name(name, part)


def _valid_name(part: str, *, windows: bool) -> str:
    part = (_WINDOWS_FORBIDDEN if windows else _POSIX_FORBIDDEN).sub(
        lambda match: _percent_encode(match.group()), part
    )
    if part in (".", ".."):
        return _percent_encode(part)
    if windows:
        # Windows drops dots and blanks at the end, so `..  ` would be `..`.
        body = part.rstrip(". ")
        if body != part:
            tail = part[len(body) :]
            part = body + tail[:-1] + _percent_encode(tail[-1]) if body else _percent_encode(part)
        if is_windows_device(part):
            part = _percent_encode(part[0]) + part[1:]
    if part.casefold() == FALLBACK_NAME:  # as macOS compares names
        part = _percent_encode(part[0]) + part[1:]
    return part


def _percent_encode(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
