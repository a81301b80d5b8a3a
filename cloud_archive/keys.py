"""Make object keys from file paths and prefix templates. Pure: no clock, no locale, no files.

>>> template = PrefixTemplate.parse("outputs/{Y}-{m}-{d}")
>>> prefix = template.render(datetime(2026, 4, 1, 12, 34, 56), session_id="")
>>> object_key(prefix, "video/cat.mp4")
'outputs/2026-04-01/video/cat.mp4'
>>> conflict_key("outputs/2026-04-01/video/cat.mp4", 1)
'outputs/2026-04-01/video/cat (1).mp4'
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from .errors import KeyRejected

MAX_KEY_BYTES = 1024
"""In UTF-8 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)."""

MAX_NAME_BYTES = 255
"""The longest name that usual filesystems take, in bytes of UTF-8."""

MAX_CONFLICTS = 100
"""The highest number in a conflict name; the names after it carry digits of the file's SHA-256."""

HASH_DIGITS = (8, 16, 32, 64)
"""The number of digits in the names after `MAX_CONFLICTS`; a longer one is used if the shorter is taken too."""

LAST_CONFLICT = MAX_CONFLICTS + len(HASH_DIGITS)
"""The highest number that `conflict_key` accepts."""

RESERVED_FOLDER = ".cloud-archive"
"""The folder below the constant part of the prefix for catalog, shares and the connection check; not outputs."""

VERSION_FOLDER = "v1/"
"""The folder in the reserved one that holds the catalog."""

OLD_PROBE_NAME = ".cloud-archive-check"
"""The object that the connection check of earlier versions wrote beside the outputs."""

MAX_PATH_BYTES = 1500
"""The longest path in an object's metadata, percent-encoded; S3 limits all metadata to 2 KiB."""

# Not `strftime`, which uses the user's language.
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _week_of_year(moment: datetime, days_since_week_start: int) -> str:
    """Return the week as %U and %W of the C library: the days before the first Sunday or Monday are in week 00."""
    day_of_year = moment.timetuple().tm_yday - 1
    return f"{(day_of_year + 7 - days_since_week_start) // 7:02d}"


PLACEHOLDERS: Mapping[str, Callable[[datetime], str]] = MappingProxyType(
    {
        "Y": lambda moment: f"{moment.year:04d}",
        "y": lambda moment: f"{moment.year % 100:02d}",
        "m": lambda moment: f"{moment.month:02d}",
        "d": lambda moment: f"{moment.day:02d}",
        "H": lambda moment: f"{moment.hour:02d}",
        "M": lambda moment: f"{moment.minute:02d}",
        "S": lambda moment: f"{moment.second:02d}",
        "j": lambda moment: f"{moment.timetuple().tm_yday:03d}",
        "W": lambda moment: _week_of_year(moment, moment.weekday()),
        "w": lambda moment: str(moment.isoweekday() % 7),
        "U": lambda moment: _week_of_year(moment, moment.isoweekday() % 7),
        "V": lambda moment: f"{moment.isocalendar()[1]:02d}",
        "B": lambda moment: MONTHS[moment.month - 1],
        "b": lambda moment: MONTHS[moment.month - 1][:3],
        "A": lambda moment: WEEKDAYS[moment.weekday()],
        "a": lambda moment: WEEKDAYS[moment.weekday()][:3],
    }
)
"""How to render each placeholder except `{session_id}`: as strftime does, in English."""

_SESSION = "session_id"
_SESSION_BYTES = 36  # of a UUID
_ACCEPTED = " ".join(f"{{{name}}}" for name in (*PLACEHOLDERS, _SESSION))

# A placeholder, or a brace that belongs to none.
PLACEHOLDER_PATTERN = re.compile(r"\{([^{}]*)\}|[{}]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
# Characters that a listing, which is XML, can't hold or may change: control characters, U+FFFE, U+FFFF and surrogates.
# And the backslash, because SeaweedFS makes it a slash.
_ENCODED = re.compile(r"[\x00-\x1f\\\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_CUT_ESCAPE = re.compile(r"%[0-9A-F]?\Z")
_CONFLICT = re.compile(
    rf"(.+) \(([1-9][0-9]?|{MAX_CONFLICTS}|{'|'.join(f'[0-9a-f]{{{digits}}}' for digits in HASH_DIGITS)})\)",
    re.DOTALL,
)
# A name that is shortened to 255 bytes keeps at least this many of its bytes. (Its number doesn't count.)
_SHORTENED_BYTES = MAX_NAME_BYTES - 75
# An extension that is too long to be kept whole keeps at least this many bytes.
_SHARED_BYTES = 100
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class PrefixTemplate(NamedTuple):
    """A valid key prefix with placeholders, made by `parse`; `text` has no slashes around it, and may be empty."""

    text: str

    @classmethod
    def parse(cls, text: str) -> PrefixTemplate:
        """Return the template for a prefix that a user wrote, without extra slashes.

        Raises ValueError, which says what is accepted, if the prefix is invalid.
        """
        if "://" in text:
            raise ValueError("the prefix alone is accepted, without s3:// and without the bucket")
        if "\\" in text:
            raise ValueError("a backslash is not accepted: write `/` between the parts")
        if _SURROGATES.search(text):
            raise ValueError("only text that is valid UTF-8 is accepted")
        if forbidden := _ENCODED.search(text):
            code = f"U+{ord(forbidden.group()):04X}"
            raise ValueError(
                f"line breaks, control characters and their like are not accepted: remove {code}"
            )
        for brace in PLACEHOLDER_PATTERN.finditer(text):
            name = brace.group(1)
            if name is None:
                raise ValueError(f"a brace that belongs to no placeholder; accepted are {_ACCEPTED}")
            if name != _SESSION and name not in PLACEHOLDERS:
                raise ValueError(f"{{{name}}} is not a placeholder; accepted are {_ACCEPTED}")
        parts = _parts(text)
        if "." in parts or ".." in parts:
            raise ValueError("`.` and `..` are not accepted as parts of a prefix")
        if RESERVED_FOLDER in parts:
            raise ValueError(
                f"`{RESERVED_FOLDER}` is reserved for what Cloud Archive itself keeps in the bucket"
            )
        template = cls("/".join(parts))
        # May has the shortest name, so a prefix that is too long then is too long all year.
        shortest = template.render(datetime(2000, 5, 5), "-" * _SESSION_BYTES)
        if _utf8_bytes(shortest) > MAX_KEY_BYTES - len("/a"):
            raise ValueError(f"it leaves no room for a name: a key may have {MAX_KEY_BYTES:,} bytes")
        return template

    def render(self, moment: datetime, session_id: str) -> str:
        """Return the prefix at `moment`, without slashes around it.

        Args:
            moment: naive = local time; aware = converted to local time.
            session_id: the value of `{session_id}`.
        """
        if "{" not in self.text:
            return self.text
        local = moment if moment.tzinfo is None else moment.astimezone()

        def value(match: re.Match[str]) -> str:
            name: str = match.group(1)
            return session_id if name == _SESSION else PLACEHOLDERS[name](local)

        return "/".join(_parts(PLACEHOLDER_PATTERN.sub(value, self.text)))

    @property
    def static_head(self) -> str:
        """The folder that every rendering starts with: empty, or ending in `/`.

        `outputs/` for `outputs/{Y}/x`, empty for `comfy-{Y}`, `comfyui-outputs/` for `comfyui-outputs`.
        """
        if not self.text:
            return ""
        literal = (self.text + "/").split("{", 1)[0]
        return literal[: literal.rfind("/") + 1]

    @property
    def reserved_folder(self) -> str:
        """The reserved folder in the bucket, ending in `/`, which holds no outputs."""
        return f"{self.static_head}{RESERVED_FOLDER}/"


def object_key(prefix: str, path: str) -> str:
    """Return the key of the file at `path`, relative to the watched directory, below a rendered `prefix`.

    Control characters and bytes that are not UTF-8 become `%XX`, because a listing can't hold them; backslashes too,
    because SeaweedFS makes them slashes. If that makes a name longer than 255 bytes, it is shortened and gets eight
    digits of its own hash. The first part `.cloud-archive` becomes `%2Ecloud-archive`, because that folder is reserved.
    Two paths share a key only if one contains literally what the other is encoded as; conflict names then keep them
    apart.

    Raises KeyRejected if the key is too long, or if `path` is empty or has a part `.` or `..`.
    """
    parts = _parts(path)
    if not parts:
        raise KeyRejected(path, "There is no file name to make an object key of.")
    if "." in parts or ".." in parts:
        # Servers and proxies would resolve them in the URL, so the object would get another key.
        raise KeyRejected(path, "A path with a part `.` or `..` can't be an object key.")
    parts = [_encoded_part(part) for part in parts]
    if parts[0] == RESERVED_FOLDER:
        parts[0] = f"%2E{RESERVED_FOLDER[1:]}"
    return _check_length("/".join((*_parts(prefix), *parts)))


def conflict_key(key: str, number: int, sha256: str = "") -> str:
    """Return the key with a conflict number: 0 is `key` itself, 1 is `name (1).ext`.

    Numbers over `MAX_CONFLICTS` are names with digits of the file's SHA-256: `name (1a2b3c4d).ext`. Only the last
    extension counts (`photo.tar (1).gz`), and a leading dot starts none (`.env (1)`). The stem is shortened if the
    name would be longer than 255 bytes, or the key longer than 1,024.

    Raises:
        KeyRejected: the key is too long, even with a shortened stem.
        ValueError: `number` is negative or over `LAST_CONFLICT`, or it needs `sha256` and that is missing.
    """
    if not 0 <= number <= LAST_CONFLICT:
        raise ValueError(f"a conflict number is 0 to {LAST_CONFLICT}: {number}")
    if number == 0:
        return _check_length(key)
    label = str(number)
    if number > MAX_CONFLICTS:
        digits = HASH_DIGITS[number - MAX_CONFLICTS - 1]
        if len(sha256) < digits:
            raise ValueError(f"conflict number {number} needs the file's SHA-256")
        label = sha256[:digits]
    folder, slash, name = key.rpartition("/")
    room = min(MAX_NAME_BYTES, MAX_KEY_BYTES - _utf8_bytes(folder + slash))
    return _check_length(f"{folder}{slash}{_insert_label(name, f' ({label})', room)}")


def conflict_number(base_key: str, key: str, sha256: str) -> int | None:
    """Return the number for which `conflict_key` makes `key` of `base_key`; None if there is none."""
    for number in range(LAST_CONFLICT + 1):
        try:
            if conflict_key(base_key, number, sha256) == key:
                return number
        except KeyRejected:
            return None
    return None


def strip_conflict(name: str) -> str | None:
    """Return a name or key without the conflict number of its stem; None if it has none."""
    stem, extension = _split(name)
    numbered = _CONFLICT.fullmatch(stem)
    if numbered is None and extension.startswith(". ("):  # the name ends in a dot
        numbered, extension = _CONFLICT.fullmatch(name), ""
    return None if numbered is None else numbered[1] + extension


def conflict_family(name: str) -> str:
    """Return a text that a name shares with nearly all of its conflict names, and with few others."""
    while (plain := strip_conflict(name)) is not None:
        name = plain
    if _utf8_bytes(name) < _SHORTENED_BYTES:
        return name
    # Shortening keeps the extension and the start of the stem.
    stem, extension = (text.encode("utf-8", "surrogatepass") for text in _split(name))
    return (stem[: max(0, _SHORTENED_BYTES - len(extension))] + extension[:_SHARED_BYTES]).hex()


def path_metadata(path: str, base_key: str, key: str) -> str | None:
    """Return the path to store in an object's metadata, percent-encoded; None if `key` shows the same path.

    The stored path is the file's name with as many of its folders as the key has too. One longer than `MAX_PATH_BYTES`
    loses its first folders; if even the name is too long, the result is None.

    Args:
        base_key: the key that `object_key` returned for the path.
        key: the object's key, which may have a conflict number.
    """
    if f"/{key}".endswith(f"/{path}"):  # the key ends in the whole path
        return None
    names, parts = _parts(path), _parts(base_key)
    count = 1
    while count < min(len(names), len(parts)) and parts[-count - 1] in _encoded_forms(names[-count - 1]):
        count += 1
    names = names[-count:]
    if _parts(key)[-count:] == names:
        return None
    text = quote(os.fsencode("/".join(names)), safe=_PRINTABLE)
    while len(text) > MAX_PATH_BYTES:
        _, slash, text = text.partition("/")
        if not slash:
            return None
    return text


def object_path(tail: str, metadata_path: str) -> str:
    """Return an object's path from `tail` (its key without the prefix) and the path in its metadata, if any.

    The metadata counts only if its folders match the key's. Otherwise a user who may write to one folder of the bucket
    could place files in another.
    """
    try:
        names = _parts(os.fsdecode(unquote_to_bytes(metadata_path)))
    except UnicodeDecodeError:  # on Windows, for a name that is not UTF-8
        return tail
    parts = _parts(tail)
    names = names[-len(parts) :]
    first = len(parts) - len(names)
    folders = zip(parts[first:-1], names[:-1], strict=True)
    if (
        not names
        or not parts
        or names[-1] in (".", "..")
        or any(part not in _encoded_forms(name) for part, name in folders)
    ):
        return tail
    return "/".join((*parts[:first], *names))


def shorten_name(name: str, original: str) -> str:
    """Return `name`, shortened to 255 bytes of UTF-8, with eight digits of the hash of `original`."""
    digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()
    return _insert_label(name, f"~{digest[: HASH_DIGITS[0]]}", MAX_NAME_BYTES)


def _parts(text: str) -> list[str]:
    return [part for part in text.split("/") if part]


def _percent(match: re.Match[str]) -> str:
    """Return a character as `%XX`; a lone surrogate becomes the byte that surrogateescape stored in it."""
    character = match.group()
    if "\udc80" <= character <= "\udcff":
        return f"%{ord(character) - 0xDC00:02X}"
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _encoded_part(part: str) -> str:
    encoded = _ENCODED.sub(_percent, part)
    if encoded == part or _utf8_bytes(encoded) <= MAX_NAME_BYTES:
        return encoded
    return shorten_name(encoded, part)


def _encoded_forms(part: str) -> tuple[str, ...]:
    """Return how keys may hold this part of a path; also unescaped, because older versions kept backslashes."""
    encoded = _encoded_part(part)
    return (part, encoded, f"%2E{encoded[1:]}") if encoded == RESERVED_FOLDER else (part, encoded)


def _split(name: str) -> tuple[str, str]:
    """Return stem and extension; a dot at the end starts no extension."""
    stem, extension = posixpath.splitext(name)
    return (name, "") if extension == "." else (stem, extension)


def _insert_label(name: str, label: str, max_bytes: int) -> str:
    stem, extension = _split(name)
    whole = f"{stem}{label}{extension}"
    if _utf8_bytes(whole) <= max_bytes:
        return whole
    room = max_bytes - _utf8_bytes(label + extension)
    if room < _utf8_bytes(stem[:1]):  # the text after the last dot is too long for an extension
        stem, extension = name, ""
        room = max_bytes - _utf8_bytes(label)
    cut, used = "", 0
    for character in stem:
        used += _utf8_bytes(character)
        if used > room and cut:
            break
        cut += character
    return f"{_CUT_ESCAPE.sub('', cut) or cut}{label}{extension}"


def _utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _check_length(key: str) -> str:
    size_bytes = _utf8_bytes(key)
    if size_bytes > MAX_KEY_BYTES:
        raise KeyRejected(
            key,
            f"The object key would have {size_bytes:,} bytes of UTF-8 and {MAX_KEY_BYTES:,} are allowed:"
            " shorten the file's name, its folders or S3_PREFIX.",
        )
    return key
