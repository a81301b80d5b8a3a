"""From a path and a prefix template to an object key. Pure: no clock, no locale, no file is looked at.

>>> template = PrefixTemplate.parse("outputs/{Y}-{m}-{d}")
>>> prefix = template.render(datetime(2026, 4, 1, 12, 34, 56), session_id="")
>>> object_key(prefix, "video/cat.mp4")
'outputs/2026-04-01/video/cat.mp4'
>>> conflict_key("outputs/2026-04-01/video/cat.mp4", 1)
'outputs/2026-04-01/video/cat (1).mp4'
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from .errors import KeyRejected

MAX_KEY_BYTES = 1024
"""The longest key in bytes of UTF-8 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)."""

MAX_CONFLICTS = 100
"""The highest number that a conflict name may carry."""

# `strftime` would give these in the user's language, and the same month would then have two names in one bucket.
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _week_of_year(moment: datetime, days_since_week_start: int) -> str:
    """The C library's rule for %U and %W: days before the year's first such weekday are in week 00."""
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
        "B": lambda moment: _MONTHS[moment.month - 1],
        "b": lambda moment: _MONTHS[moment.month - 1][:3],
        "A": lambda moment: _WEEKDAYS[moment.weekday()],
        "a": lambda moment: _WEEKDAYS[moment.weekday()][:3],
    }
)
"""What each placeholder but `{session_id}` stands for: as in strftime, in English."""

_SESSION = "session_id"
_ACCEPTED = " ".join(f"{{{name}}}" for name in (*PLACEHOLDERS, _SESSION))

# A placeholder, or a brace that belongs to none.
_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class PrefixTemplate:
    """A key prefix with placeholders, checked: `render` cannot fail. Made by `parse`.

    Attributes:
        text: the template with single slashes between its parts and none around them; may be empty.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> PrefixTemplate:
        """Check a prefix as the user wrote it. Slashes too many are dropped; an empty prefix is fine.

        Raises:
            ValueError: what is wrong and what is accepted, as a sentence.
        """
        if "://" in text:
            raise ValueError("the prefix alone is accepted, without s3:// and without the bucket")
        if "\\" in text:
            raise ValueError("a backslash is not accepted: write `/` between the parts")
        if _CONTROL.search(text):
            raise ValueError("line breaks and other control characters are not accepted")
        if _SURROGATES.search(text):
            raise ValueError("only text that is valid UTF-8 is accepted")
        for brace in _BRACES.finditer(text):
            name = brace.group(1)
            if name is None:
                raise ValueError(f"a brace that belongs to no placeholder; accepted are {_ACCEPTED}")
            if name != _SESSION and name not in PLACEHOLDERS:
                raise ValueError(f"{{{name}}} is not a placeholder; accepted are {_ACCEPTED}")
        parts = _parts(text)
        if "." in parts or ".." in parts:
            raise ValueError("`.` and `..` are not accepted as parts of a prefix")
        template = cls("/".join(parts))
        # A day in May, the shortest month: what is too long then is so all year.
        if _size_bytes(template.render(datetime(2000, 5, 5), "")) > MAX_KEY_BYTES - len("/a"):
            raise ValueError(f"it leaves no room for a name: a key may have {MAX_KEY_BYTES:,} bytes")
        return template

    def render(self, moment: datetime, session_id: str) -> str:
        """The prefix at `moment`, without slashes around it.

        Args:
            moment: naive is taken as local time; aware is converted to local time.
            session_id: what `{session_id}` stands for.
        """
        local = moment if moment.tzinfo is None else moment.astimezone()

        def value(match: re.Match[str]) -> str:
            name: str = match.group(1)
            return session_id if name == _SESSION else PLACEHOLDERS[name](local)

        return "/".join(_parts(_BRACES.sub(value, self.text)))

    @property
    def static_head(self) -> str:
        """What every rendering starts with: empty, or ending in `/`, so that a listing meets no neighbour.

        `outputs/{Y}/x` has `outputs/`, `comfy-{Y}` has nothing, `comfyui-outputs` has `comfyui-outputs/`.
        """
        if not self.text:
            return ""
        literal = (self.text + "/").split("{", 1)[0]
        return literal[: literal.rfind("/") + 1]

    @property
    def uses_session(self) -> bool:
        """Whether `{session_id}` is in it."""
        return f"{{{_SESSION}}}" in self.text


def object_key(prefix: str, path: str) -> str:
    """The key of the file at `path`, relative to the watched directory, below a rendered `prefix`.

    Two valid paths never share a key. Bytes of a name that are no UTF-8 become `%XX`, because a key is UTF-8;
    such a name can then meet a file that is really called so, and conflict naming keeps them apart.

    Raises:
        KeyRejected: the key has more than 1,024 bytes, or `path` is empty or has a part `.` or `..`.
    """
    parts = _parts(path)
    if not parts:
        raise KeyRejected(path, "there is no file name to make an object key of")
    if "." in parts or ".." in parts:
        # Servers and proxies resolve these in a URL, and the object would land elsewhere.
        raise KeyRejected(path, "a path with a part `.` or `..` cannot be an object key")
    joined = "/".join((*_parts(prefix), *parts))
    if not joined.isascii():
        joined = _SURROGATES.sub(_percent, joined)
    return _within_limit(joined)


def conflict_key(key: str, number: int) -> str:
    """The key to try when `number` names before it are taken: 0 is `key` itself, 1 `name (1).ext`.

    Only the last extension counts as one (`photo.tar (1).gz`), and a leading dot starts none (`.env (1)`).

    Raises:
        KeyRejected: the new key has more than 1,024 bytes, or `number` is over `MAX_CONFLICTS`.
        ValueError: `number` is negative.
    """
    if number < 0:
        raise ValueError(f"a conflict number cannot be negative: {number}")
    if number > MAX_CONFLICTS:
        raise KeyRejected(
            key,
            f"the name and its numbers up to ({MAX_CONFLICTS}) are all taken in the bucket: "
            "rename the file, or set another S3_PREFIX",
        )
    if number == 0:
        return _within_limit(key)
    folder, slash, name = key.rpartition("/")
    stem, extension = posixpath.splitext(name)
    if extension == ".":
        stem, extension = name, ""
    return _within_limit(f"{folder}{slash}{stem} ({number}){extension}")


def _parts(text: str) -> list[str]:
    return [part for part in text.split("/") if part]


def _percent(match: re.Match[str]) -> str:
    """A lone surrogate as `%XX`: the one byte that surrogateescape hid in it, else (Windows) its own bytes."""
    character = match.group()
    if "\udc80" <= character <= "\udcff":
        return f"%{ord(character) - 0xDC00:02X}"
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _size_bytes(key: str) -> int:
    return len(key.encode("utf-8"))


def _within_limit(key: str) -> str:
    size_bytes = _size_bytes(key)
    if size_bytes > MAX_KEY_BYTES:
        raise KeyRejected(
            key,
            f"the object key would have {size_bytes:,} bytes of UTF-8 and {MAX_KEY_BYTES:,} are allowed: "
            "shorten the file's name, its folders or S3_PREFIX",
        )
    return key
