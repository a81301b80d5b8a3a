"""Wording: sizes, counts and names as people read them."""

from __future__ import annotations

_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


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
