"""Remove secrets from texts: the values of known variables, and anything that looks like a secret.

ComfyUI's own process loads this module: standard library only.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

MASK = "***"
"""Replaces a secret."""

SECRET_VARIABLES = (
    "S3_SECRET_ACCESS_KEY",
    "S3_SESSION_TOKEN",
    "R2_SECRET_ACCESS_KEY",
    "R2_SECRET_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "CLOUD_ARCHIVE_SERVE_TOKEN",
    "CLOUD_ARCHIVE_WEBHOOK_SECRET",
    "CLOUD_ARCHIVE_WEBHOOK_URL",  # the path of a chat service's webhook is its password
)
"""The only list of variables whose values are secret."""

ACCESS_KEY_VARIABLES = ("S3_ACCESS_KEY_ID", "R2_ACCESS_KEY_ID", "R2_ACCESS_KEY", "AWS_ACCESS_KEY_ID")
"""Their values are masked too, unless they are short, because those may be common words."""

_SHORTEST_SECRET = 4  # characters; shorter ones occur in any log line
_SHORTEST_ACCESS_KEY = 16
_SHORTEST_PATH = 16  # shorter ones, such as /webhook/test, hold no token
_SHORTEST_MISPLACED = 8  # shorter ones don't count in another variable: `test` may also be the bucket's name
_ENTROPY_CHARACTERS = 40  # as many as an AWS secret key has

_ACCESS_KEY_ID = re.compile(r"(?<![A-Za-z0-9])A[KS]IA[A-Z0-9]{12,}")
_SIGNATURE = re.compile(r"(?i)((?:signature|security-token|credential)(?:=|%3d))[^&\s,]+")
# A request header, as a proxy's error page or a repr shows it.
_HEADER = re.compile(
    r"""(?i)((?:authorization|x-amz-security-token)["']?: ?(?:b?["'])?(?:basic |bearer )?)[^\s"',<]{8,}"""
)
# User info in a text that ends in an @. A colon before any `/`, `?` or `#`, with more than a port behind it, precedes a
# password, which may hold `@` and `/`: user info ends at the last @. Else it ends at the last @ before `/`, `?` or `#`.
_USER_INFO = re.compile(r"(?<=://)(?:[^/?#:]*:(?=[^/?#]*[^/?#0-9]).*|[^/?#]*)@")
_WORD = re.compile(r"\S+")
# An @, but not that of `@media` in a list of patterns.
_AT = r"(?:(?<![\s,!])@|@(?!media(?![^\s,])))"
_SHORT_USER_INFO = re.compile(rf"(?<![^\s,;])[^\s/\\:@]+:[^\s/\\@]+{_AT}(?=[^\s@])")
# In a setting's value everything between `://` and the last @ is user info, even with blanks in it. A slash or the
# scheme may be missing.
_ANY_USER_INFO = re.compile(rf"(?s)(:/+|\A//+).*(?:{_AT}|%40)")
_ODD_PAIR = re.compile(r"(?=[a-z][A-Z]|[A-Za-z][0-9]|[0-9][A-Za-z])")
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{30,}")


def strip_quotes(text: str) -> str:
    """Return `text` without blanks around it and without one pair of matching quotes.

    >>> strip_quotes(' "my-bucket" '), strip_quotes("it's"), strip_quotes('""')
    ('my-bucket', "it's", '')
    """
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return text


def secret_values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return every secret in the environment, even if settings are invalid."""
    found: dict[str, None] = {}
    for names, shortest in (
        (SECRET_VARIABLES, _SHORTEST_SECRET),
        (ACCESS_KEY_VARIABLES, _SHORTEST_ACCESS_KEY),
    ):
        for name in names:
            text = environ.get(name, "").strip()
            found |= dict.fromkeys(value for value in (text, strip_quotes(text)) if len(value) >= shortest)
    webhook = strip_quotes(environ.get("CLOUD_ARCHIVE_WEBHOOK_URL", ""))
    # An error may name the path alone, or the host in another case.
    path = re.sub(r"(?:.*?://)?[^/]*", "", webhook, count=1)
    return (*found, path) if len(path) >= _SHORTEST_PATH else tuple(found)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with `***` for secrets, user info of URLs, access key ids, signatures and authorization headers."""
    pattern = _secret_pattern(tuple(secrets))
    if pattern is not None:
        text = pattern.sub(MASK, text)
    # Most lines hold nothing that could match, and every log line comes here.
    if "://" in text and "@" in text:
        text = _WORD.sub(_without_user_info, text)
    if "=" in text or "%3" in text:
        text = _SIGNATURE.sub(rf"\1{MASK}", text)
    if ":" in text:
        text = _HEADER.sub(rf"\1{MASK}", text)
    return _ACCESS_KEY_ID.sub(MASK, text) if "IA" in text else text


def _without_user_info(word: re.Match[str]) -> str:
    """Return a word without the user info of URLs in it; an @ at its end belongs to none."""
    text = word.group()
    # What follows the last @ is not searched, so that this takes linear time, even for a hostile text.
    end = text.rfind("@", 0, -1) + 1
    return _USER_INFO.sub(f"{MASK}@", text[:end]) + text[end:]


def mask_value(text: str, secrets: Iterable[str], *, is_path: bool = False) -> str:
    """Return a setting's value without secrets and without what looks like a credential.

    Args:
        is_path: keep everything else of a value that begins like a path (`/`, `~`, `.`, `\\`, a drive): its long random
            names may be container layers.
    """
    text = redact(text, secrets)
    if is_path and re.match(r"[/~.\\]|[A-Za-z]:[\\/]", text):
        return text
    text = _SHORT_USER_INFO.sub(f"{MASK}@", text)
    text = _ANY_USER_INFO.sub(rf"\1{MASK}@", text)
    return _RUN.sub(lambda match: MASK if _looks_random(match.group()) else match.group(), text)


def holds_credential(text: str, secrets: Iterable[str], *, is_path: bool = False) -> bool:
    """Return whether a setting's value holds what looks like a credential; see `mask_value`."""
    long = [secret for secret in secrets if len(secret) >= _SHORTEST_MISPLACED]
    return mask_value(text, long, is_path=is_path) != text


def _looks_random(run: str) -> bool:
    """Return whether 30 or more base64 characters are a secret, and not words or a UUID."""
    if re.fullmatch(r"(?=.*[a-f])(?=.*[0-9])[0-9a-f]{64}", run):  # the form of R2's secret keys
        return True
    return any(_is_random(part) for part in {run, run[:_ENTROPY_CHARACTERS], run[-_ENTROPY_CHARACTERS:]})


def _is_random(text: str) -> bool:
    """Return whether a text is random: unlike words it rarely repeats letters, and mixes cases and digits."""
    if not all(re.search(kind, text) for kind in ("[A-Z]", "[a-z]", "[0-9]")):
        return False
    odd_pairs = len(_ODD_PAIR.findall(text)) / len(re.findall("[A-Za-z0-9]", text))
    shares = [count / len(text) for count in Counter(text).values()]
    entropy = -sum(share * math.log2(share) for share in shares) / math.log2(len(text))
    return odd_pairs >= 0.16 and entropy >= 0.82


@lru_cache(maxsize=32)
def _secret_pattern(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    # The longest first, because one secret may be the start of another.
    longest_first = sorted(filter(None, secrets), key=len, reverse=True)
    patterns = ["".join(map(_forms_of, secret)) for secret in longest_first]
    return re.compile("|".join(patterns)) if patterns else None


def _forms_of(character: str) -> str:
    """Return a pattern of a character as it is, and as a URL (once or twice quoted), JSON, HTML or a repr has it."""
    if character.isascii() and character.isalnum():
        return character
    quoted = {json.dumps(character)[1:-1], repr(character)[1:-1], html.escape(character), f"\\{character}"}
    if character == " ":
        quoted.add("+")
    forms = [re.escape(form) for form in sorted({character, *quoted}, key=len, reverse=True)]
    forms.append("".join(f"%(?:25)?{octet:02x}" for octet in character.encode("utf-8", "replace")))
    forms.append(f"&#(?:{ord(character)}|x{ord(character):x});")
    return f"(?:{'|'.join(forms[:-2])}|(?i:{'|'.join(forms[-2:])}))"
