"""Format sizes, counts and file names for people."""

from __future__ import annotations

_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


def make_printable(text: str) -> str:
    r"""Return `text` with each control character as its escape sequence, so that it fits one line.

    >>> make_printable("line\nbreak \x1b[2J.png")
    'line\\nbreak \\x1b[2J.png'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def format_bytes(count: int) -> str:
    """Return a number of bytes with its unit, in powers of 1,000.

    >>> format_bytes(1), format_bytes(999), format_bytes(1_500_000)
    ('1 byte', '999 bytes', '1.5 MB')
    """
    if abs(count) < 1000:
        return "1 byte" if count == 1 else f"{count} bytes"
    amount, power = float(count), 0
    while abs(amount) >= 999.95 and power < len(_UNITS) - 1:
        amount, power = amount / 1000, power + 1
    return f"{amount:.1f} {_UNITS[power]}"


def count_noun(count: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    Args:
        many: the plural; default: `one` with an s.

    >>> count_noun(1, "file"), count_noun(2, "file"), count_noun(1200, "file")
    ('1 file', '2 files', '1,200 files')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
