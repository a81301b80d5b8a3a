"""Parse the text of each setting: one function for each kind of value.

Each returns the parsed value, or raises ValueError with a message for users that says what is accepted. A message may
quote a pattern, a placeholder, or a bare host and port; settings.py masks credentials in them.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..keys import PrefixTemplate
from ..redaction import MASK

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_OFF = frozenset({"off", "none"})
# Windows allows these characters in names, so there too a backslash before one may be an escape.
_WINDOWS_SEPARATOR = re.compile(r"\\(?![\[\]!# ])")
# Limited, so that no number is too long for int() or Decimal.
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_POWERS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_POWERS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
# "Mb" means bits, so a lower-case b is accepted only if the whole unit is lower case.
_SIZES: dict[str, int] = {}
for _power, _factor in _POWERS.items():
    for _unit in (_power, f"{_power}B"):
        _SIZES |= dict.fromkeys((_unit, _unit.lower(), _unit.upper(), _unit.replace("K", "k")), _factor)
# No upper-case M: a user who means months must not get minutes, because files are deleted at that age.
_AGES = {"s": 1, "m": 60, "h": 3600, "H": 3600, "d": 86400, "D": 86400, "w": 604800, "W": 604800}


def parse_boolean(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError("accepted are true, false, 1, 0, yes, no, on and off")


def parse_choice(*accepted: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() in accepted:
            return text.lower()
        raise ValueError(f"accepted are {', '.join(accepted[:-1])} and {accepted[-1]}")

    return parse


def parse_workers(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,3}", text) and 1 <= int(text) <= 64:
        return int(text)
    raise ValueError("accepted is a whole number from 1 to 64")


def parse_seconds(text: str) -> float:
    if re.fullmatch(_NUMBER, text) and float(text) <= 86400:
        return float(text)
    raise ValueError("accepted is a number of seconds without a unit, from 0 to 86400, such as 10 or 0.5")


def _amount(text: str, pattern: str, units: Mapping[str, int]) -> Decimal | None:
    match = re.fullmatch(pattern, text)
    if match is None or match.group(2) not in units:
        return None
    return Decimal(match.group(1)) * units[match.group(2)]


def refuse_missing_unit(text: str, unit: str) -> None:
    """Raise ValueError for a number of bytes that is too small to be meant. `unit`: one to suggest, such as `GB`."""
    if re.fullmatch(_NUMBER + r"\s*", text) and 1 <= float(text) < 1000:
        raise ValueError(f"a number alone is in bytes: add the unit, such as {text}{unit}")


def parse_bandwidth(text: str) -> int | None:
    if text.lower() in _OFF:
        return None
    refuse_missing_unit(text, "MB/s")
    amount = _amount(text, _NUMBER + r"\s*([A-Za-z]*)(?:\s*/\s*[sS])?", _SIZES)
    if amount is None or amount < 1:
        raise ValueError(
            "accepted is bytes a second, such as 10MB/s, 500 KB/s, 1.5MiB/s or 2000000 (bytes, not bits); "
            "leave it unset for no limit"
        )
    return int(amount)


def parse_size(text: str) -> int | None:
    if text.lower() in _OFF:
        return None
    amount = _amount(text, _NUMBER + r"\s*([A-Za-z]*)", _SIZES)
    if amount is None or amount < 1:
        raise ValueError("accepted is a size, such as 20GB, 1.5TiB or 500000000 (bytes)")
    return int(amount)


def parse_age(text: str) -> float | None:
    if text.lower() in _OFF:
        return None
    amount = _amount(text, _NUMBER + r"\s*([A-Za-z]+)", _AGES)
    if amount is None or amount <= 0:
        raise ValueError(
            "accepted is an age above 0 with its unit, such as 7d, 36h or 90m (w, d, h, m for minutes, s)"
        )
    return float(amount)


def parse_patterns(text: str, *, windows: bool = os.name == "nt") -> tuple[str, ...]:
    patterns = tuple(part.strip() for part in re.split(r"[,\n\r]", text) if part.strip())
    for pattern in patterns:
        if re.search(r"[\ud800-\udfff]", pattern):
            raise ValueError("accepted is text in UTF-8")
        if windows and _WINDOWS_SEPARATOR.search(pattern):
            raise ValueError(f"{pattern!r} holds a backslash: write `/` between the parts")
        if pattern.lstrip("!").startswith("@") and pattern.lstrip("!") != "@media":
            raise ValueError(f"{pattern!r} is not a known group; the only group is @media")
        from pathspec import GitIgnoreSpec  # 40 ms, which most users need not pay

        try:
            GitIgnoreSpec.from_lines([pattern]).match_file("x")
        except (ValueError, re.error):
            raise ValueError(
                f"{pattern!r} is not a gitignore-style pattern; accepted are patterns such as *.png, "
                "drafts/ or @media, one per line or separated by commas"
            ) from None
    return patterns


def parse_prefix(text: str) -> str:
    return PrefixTemplate.parse(text).text


def _parse_required_credential(value: str, what: str, earlier: Mapping[str, Any]) -> str | None:
    if not value:
        if earlier.get("credentials") == "aws":
            return None
        raise ValueError(f"{what} is required, unless S3_CREDENTIALS=aws")
    return parse_credential(value)


def parse_credential(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("accepted is ASCII without spaces and without invisible characters")
    return text


def parse_access_key(value: str, earlier: Mapping[str, Any]) -> str | None:
    return _parse_required_credential(value, "the access key (or R2_ACCESS_KEY_ID or R2_ACCESS_KEY)", earlier)


def parse_secret_key(value: str, earlier: Mapping[str, Any]) -> str | None:
    return _parse_required_credential(
        value, "the secret key (or R2_SECRET_ACCESS_KEY or R2_SECRET_KEY)", earlier
    )


def parse_bucket(text: str) -> str:
    if not text:
        raise ValueError("the bucket's name is required (or R2_BUCKET)")
    # botocore.handlers.VALID_BUCKET, without access point ARNs.
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", text) or not text.strip("."):
        raise ValueError(
            "accepted is the bucket's name alone (letters, digits, `-`, `.` and `_`), without s3://, slashes or "
            "a path; a folder in the bucket goes in S3_PREFIX"
        )
    return text


def parse_region(text: str) -> str:
    # botocore.utils.validate_region_name
    if not re.fullmatch(r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)", text):
        raise ValueError("accepted is a region's name, such as us-east-1, eu-central-1 or auto")
    return text


def parse_store_value(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("accepted is a value from the store's documentation, without spaces (ASCII only)")
    return text


def parse_kms_key(text: str, earlier: Mapping[str, Any]) -> str:
    parse_store_value(text)
    # It is missing if it is invalid, which is an error of its own.
    encryption = earlier.get("server_side_encryption", "aws:kms")
    if encryption is None or not encryption.startswith("aws:kms"):
        raise ValueError("accepted only together with S3_SERVER_SIDE_ENCRYPTION=aws:kms")
    return text


# No underscore, because botocore.utils.is_valid_endpoint_url refuses it in a host name.
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])"
_HOST_PORT = re.compile(rf"{_HOST}(?::[0-9]{{1,5}})?")
# A host as Backblaze's console shows it: https is meant. With a port, as `minio.lan:9000`, it may well be http.
_BARE_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.[A-Za-z]{{2,}}(?=/|$)")
_ENDPOINT_FORM = "accepted is http://host[:port] or https://host[:port]"


def parse_endpoint(text: str, earlier: Mapping[str, Any]) -> str:
    """Return the endpoint that a provider's console shows, with the bucket removed from it; another base path stays."""
    if re.search(r"[\s\x00-\x1f\x7f\\]", text):
        raise ValueError(f"{_ENDPOINT_FORM}, without spaces or backslashes")
    if "@" in text:
        raise ValueError(
            f"{_ENDPOINT_FORM}, without user and password: those go in S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY"
        )
    text = _with_scheme(text)
    if _HOST_PORT.fullmatch(text.rstrip("/")):
        bare = text.rstrip("/")
        raise ValueError(f"{_ENDPOINT_FORM}; write https://{bare}, or http://{bare} for a store without TLS")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{_ENDPOINT_FORM}, with a valid host and a port from 1 to 65535") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(_ENDPOINT_FORM)
    if "?" in text or "#" in text:
        raise ValueError(f"{_ENDPOINT_FORM}, without a query or fragment")
    if port == 0 or not _HOST_PORT.fullmatch(parts.netloc):
        raise ValueError(f"{_ENDPOINT_FORM}, with a host name of letters, digits, `-` and `.`")
    folders = [folder for folder in parts.path.split("/") if folder]
    if not all(re.fullmatch(r"[A-Za-z0-9._~-]+", folder) and folder.strip(".") for folder in folders):
        raise ValueError(
            f"{_ENDPOINT_FORM}, with a base path of letters, digits, `-`, `.`, `_` and `~` at most"
        )
    host, folders = _without_bucket(parts.netloc, folders, str(earlier.get("bucket", "")))
    return "/".join([f"{parts.scheme}://{host}", *folders])


def names_bucket(url: str, bucket: str) -> bool:
    """Return whether `parse_endpoint` removes the bucket from this URL."""
    parts = urlsplit(_with_scheme(url))
    folders = [folder for folder in parts.path.split("/") if folder]
    return _without_bucket(parts.netloc, folders, bucket) != (parts.netloc, folders)


def _with_scheme(text: str) -> str:
    return f"https://{text}" if _BARE_NAME.match(text) else text


def _without_bucket(host: str, folders: list[str], bucket: str) -> tuple[str, list[str]]:
    """Remove the bucket from the end of the path, or else from the start of the host."""
    if bucket and folders and folders[-1] == bucket:
        return host, folders[:-1]
    name, rest = host[: len(bucket)], host[len(bucket) + 1 :]
    # In 10.0.0.1, a bucket named `10` is not the first part of the host.
    if (
        bucket
        and name.lower() == bucket.lower()
        and host[len(bucket) :].startswith(".")
        and not _is_address(host)
    ):
        return rest, folders
    return host, folders


def _is_address(host: str) -> bool:
    return re.fullmatch(r"[0-9.]+(?::[0-9]+)?", host) is not None


def mask_password(url: str) -> str:
    """Return an invalid URL, masked after `://` if it may hold a password without an @ (`https://user:password`)."""
    for start in [match.end() for match in re.finditer("://", url)] or [0]:
        authority = re.split(r"[/?#]", url[start:], maxsplit=1)[0]
        if re.search(r":(?=.*[^0-9])", re.sub(r"^\[[^\]]*\]", "", authority)):
            return url[:start] + MASK
    return url


def parse_machine_name(text: str) -> str:
    if len(text) > 100 or not text.isprintable():
        raise ValueError("accepted is a name of at most 100 printable characters, on one line")
    return text


def parse_webhook_url(text: str) -> str | None:
    if text.lower() in _OFF:
        return None
    form = "accepted is a URL such as https://host/path, without user and password"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(form) from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or "@" in parts.netloc:
        raise ValueError(form)
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"{form}, and without spaces (ASCII only)")
    return text


def parse_webhook_secret(text: str) -> str | None:
    if text.lower() in _OFF:
        return None
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    parse_credential(text)
    name, separator, key = text.partition("_")
    if name == "whsec" and separator:
        try:
            decoded = base64.b64decode(key, validate=True)
        except ValueError:
            decoded = b""
        if not decoded:
            raise ValueError("accepted after whsec_ is a key in base64 (not empty)")
    return text


def _path(text: str) -> Path:
    try:
        # Absolute, because the engine has another current directory.
        path = Path(text).expanduser().absolute()
    except (RuntimeError, OSError):
        raise ValueError("accepted is a path; the home or current directory is not known") from None
    if "\0" in text:
        raise ValueError("accepted is a path")
    return path


_MOST_CA_BYTES = 1 << 24  # S3_CA_BUNDLE may be /dev/zero


def parse_ca_file(text: str) -> Path:
    path = _path(text)
    try:
        with path.open("rb") as file:
            head = file.read(_MOST_CA_BYTES)
        # X509 CERTIFICATE and TRUSTED CERTIFICATE are accepted too.
        if re.search(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----", head):
            return path
        reason = "it holds no certificate"
    except OSError as error:
        reason = (error.strerror or "it can't be read").lower()
    raise ValueError(f"accepted is a file of CA certificates (PEM); this one: {reason}")


def parse_directory(text: str) -> Path:
    path = _path(text)
    try:
        is_file = path.is_file()
    except OSError:
        is_file = False  # reported when the directory is used
    if is_file:
        raise ValueError("accepted is a directory, and this is a file")
    return path
