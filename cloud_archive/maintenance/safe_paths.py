"""From an object key to a path that stays inside the target directory, whatever the key says. Pure.

A key is text that anybody with the right to write may have chosen. Parts that no file may be called are not refused
but written as `%XX`, so that every object comes back and none leaves the target. The rules for Windows are those of
https://learn.microsoft.com/windows/win32/fileio/naming-a-file.

>>> local_parts("../../etc/passwd", windows=False)
('%2E%2E', '%2E%2E', 'etc', 'passwd')
>>> local_parts("a/NUL.png", windows=True), local_parts("c:\\\\x. ", windows=True)
(('a', '%4EUL.png'), ('c%3A%5Cx.%20',))
"""

from __future__ import annotations

import re

_WINDOWS_SIGNS = re.compile(r'[\x00-\x1f<>:"\\|?*]')
_POSIX_SIGNS = re.compile(r"[\x00]")
# COM and LPT with the superscript digits are devices too.
_DEVICES = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)


def local_parts(path: str, *, windows: bool) -> tuple[str, ...]:
    """The parts of a relative path, each one a plain name on that system.

    Empty parts are dropped: `/etc/passwd` and `a//b` are `etc/passwd` and `a/b` below the target.

    Args:
        path: what is left of a key behind its prefix.
        windows: by the rules of Windows; else those of POSIX, where a backslash is a sign like any other.

    Returns:
        No parts where the path names nothing.
    """
    return tuple(_plain(part, windows=windows) for part in path.split("/") if part)


def _plain(part: str, *, windows: bool) -> str:
    part = (_WINDOWS_SIGNS if windows else _POSIX_SIGNS).sub(lambda sign: _quoted(sign.group()), part)
    if part in (".", ".."):
        return _quoted(part)
    if windows:
        # Windows drops dots and blanks at the end, and so `..  ` would be `..`.
        body = part.rstrip(". ")
        if body != part:
            tail = part[len(body) :]
            part = body + tail[:-1] + _quoted(tail[-1]) if body else _quoted(part)
        # `NUL .txt` is the device as well: all up to the first dot counts, blanks at its end do not.
        stem = part.partition(".")[0].rstrip(" ")
        if _DEVICES.fullmatch(stem):
            part = _quoted(part[0]) + part[1:]
    return part


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
