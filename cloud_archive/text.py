"""Format sizes, counts and file names for people, and parse times."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime, timedelta

_TIME = re.compile(r"\d{4}-\d\d-\d\d([Tt ].*)?")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_MAX_FILE_NAME_BYTES = 200  # of 255, so that a number fits behind it
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file; COM and LPT with superscript digits are devices too.
_WINDOWS_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(?:\..*)?",
    re.IGNORECASE,
)


def make_printable(text: str) -> str:
    r"""Return `text` with each character that is not printable as its escape sequence, so that it fits one line.

    >>> make_printable("line\nbreak \x1b[2J.png")
    'line\\nbreak \\x1b[2J.png'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clean_text(text: str) -> str:
    """Return `text` as SQLite takes it: without lone surrogates, and without NUL."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")


def spellings(word: str) -> tuple[str, ...]:
    """Return `word` as it is, and with accents joined and apart, each form once: macOS may split them in names.

    >>> [len(word) for word in spellings("café")]
    [4, 5]
    """
    if word.isascii():
        return (word,)
    return tuple(dict.fromkeys((word, *(unicodedata.normalize(form, word) for form in ("NFC", "NFD")))))


def safe_file_name(name: str) -> str:
    """Return the last part of `name` as a file name for every system, of 201 bytes at most.

    >>> safe_file_name("../a\\\\b:c.png"), safe_file_name("con.png"), safe_file_name("..")
    ('b_c.png', '_con.png', 'file')
    """
    clean = _FORBIDDEN.sub("_", re.split(r"[/\\]", name)[-1]).strip(" .")
    if len(clean.encode()) > _MAX_FILE_NAME_BYTES:
        stem, dot, ending = clean.rpartition(".")
        ending = ending[:20] if dot else ""
        cut = (stem or clean).encode()[: _MAX_FILE_NAME_BYTES - 21 * 4].decode("utf-8", "ignore")
        clean = f"{cut}{dot}{ending}".rstrip(" .")
    return f"_{clean}" if is_windows_device(clean) else clean or "file"


def is_windows_device(name: str) -> bool:
    """Return whether Windows takes a file name for a device: it ignores all after the first dot, and blanks before it.

    >>> is_windows_device("NUL .txt"), is_windows_device("null.txt")
    (True, False)
    """
    return _WINDOWS_DEVICE.fullmatch(name) is not None


def format_bytes(count: int) -> str:
    """Return a number of bytes with its unit, in powers of 1,000, as the panel shows it (web/format.js).

    >>> format_bytes(999), format_bytes(20_000), format_bytes(1_500_000), format_bytes(41_234_567)
    ('999 B', '20 kB', '1.5 MB', '41 MB')
    """
    amount, power = float(count), 0
    while abs(amount) >= 999.5 and power < len(_UNITS) - 1:
        amount, power = amount / 1000, power + 1
    digits = 1 if power and abs(amount) < 9.95 else 0
    return f"{amount:.{digits}f}".removesuffix(".0") + f" {_UNITS[power]}"


def parse_time(text: str, *, end: bool = False) -> datetime:
    """Parse a day, or a day with a time, in ISO 8601. Raises ValueError if it is neither.

    >>> parse_time("2026-11-25T18:30:00Z").isoformat(), parse_time("2026-11-25").isoformat()
    ('2026-11-25T18:30:00+00:00', '2026-11-25T00:00:00')

    Args:
        end: a day alone means its end; default: its beginning.
    """
    # Python reads 2026-11-25-05:00 as 5 o'clock, and newer versions read other forms, such as 20261125.
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    # Python 3.10 does not read the Z.
    moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text)
    is_day = len(text) == len("2026-11-25")
    return moment + timedelta(days=1) if end and is_day and moment.date() < date.max else moment


def end_sentence(text: str) -> str:
    """Return `text` with a full stop, unless it is empty or ends in one, `!` or `?`.

    >>> end_sentence("disk full"), end_sentence("Disk full."), end_sentence("")
    ('disk full.', 'Disk full.', '')
    """
    return text if not text or text.endswith((".", "!", "?")) else text + "."


def format_duration(seconds: float) -> str:
    """Return a time in seconds, minutes, hours or days.

    >>> format_duration(20), format_duration(200), format_duration(7_800), format_duration(90_000)
    ('20 s', '3 min', '2 h 10 min', '1 d')
    """
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours >= 24:
        return f"{round(hours / 24)} d"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def count_noun(count: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun; the plural `many` is by default `one` with an s.

    >>> count_noun(1, "file"), count_noun(2, "file"), count_noun(1200, "file")
    ('1 file', '2 files', '1,200 files')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def left_out_words(older_files: int, pruned_files: int) -> str:
    """Return which files "every file is in the bucket" leaves out; empty if it leaves out none.

    >>> left_out_words(2, 1)
    ' except 2 older files and files whose objects `cloud-archive prune` deleted'
    """
    kinds = [
        count_noun(older_files, "older file") if older_files else "",
        "files whose objects `cloud-archive prune` deleted" if pruned_files else "",
    ]
    named = " and ".join(filter(None, kinds))
    return f" except {named}" if named else ""
