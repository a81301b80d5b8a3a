"""Drop keys, tokens and passwords from graphs and texts before anything is stored."""

from __future__ import annotations

import functools
import itertools
import math
import re
from typing import Any

from .graph.widgets import named_widgets

REMOVED = "[removed]"
"""What stands in a text where a key or token was. A widget that held nothing else becomes empty."""
_MAX_DEPTH = 60
_HOLDERS = (str, dict, list, float)

# What each kind of key starts with, and how it goes on. Searching for the start first keeps long texts cheap.
_KEYS = tuple(
    (start, re.compile(re.escape(start) + rest))
    for start, rest in (
        ("sk-", r"[A-Za-z0-9_-]{16,}"),
        ("sk_", r"[A-Za-z0-9_]{20,}"),
        ("AKIA", r"[0-9A-Z]{16}\b"),
        ("ASIA", r"[0-9A-Z]{16}\b"),
        ("hf_", r"[A-Za-z0-9]{20,}"),
        ("ghp_", r"[A-Za-z0-9]{20,}"),
        ("gho_", r"[A-Za-z0-9]{20,}"),
        ("ghu_", r"[A-Za-z0-9]{20,}"),
        ("ghs_", r"[A-Za-z0-9]{20,}"),
        ("ghr_", r"[A-Za-z0-9]{20,}"),
        ("github_pat_", r"[A-Za-z0-9_]{20,}"),
        ("glpat-", r"[A-Za-z0-9_-]{16,}"),
        ("xox", r"[abeprs]-[A-Za-z0-9-]{10,}"),
        ("AIza", r"[0-9A-Za-z_-]{30,}"),
        ("r8_", r"[A-Za-z0-9]{24,}"),
        ("comfyui-", r"[A-Za-z0-9]{24,}"),
        ("eyJ", r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        ("Bearer ", r"[A-Za-z0-9._~+/=-]{12,}"),
        ("bearer ", r"[A-Za-z0-9._~+/=-]{12,}"),
        ("-----BEGIN", r" [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"),
        ("X-Amz-Signature=", r"[^&\s\"']{4,}"),
        ("X-Amz-Credential=", r"[^&\s\"']{4,}"),
        ("X-Amz-Security-Token=", r"[^&\s\"']{4,}"),
        ("api_key=", r"[^&\s\"']{4,}"),
        ("apikey=", r"[^&\s\"']{4,}"),
        ("access_token=", r"[^&\s\"']{4,}"),
        ("token=", r"[^&\s\"']{4,}"),
        ("signature=", r"[^&\s\"']{4,}"),
    )
)
_USER_INFO = re.compile(r"://[^\s/:@\"']{1,200}:[^\s/@\"']{1,200}(?=@)")
_MAX_PLACES = 100
_SECRET_WORDS = {
    "password",
    "passwd",
    "passphrase",
    "secret",
    "secrets",
    "credential",
    "credentials",
    "bearer",
}
_SECRET_WORDS |= {"authorization", "apikey", "apitoken", "authtoken", "accesskey", "secretkey", "privatekey"}
_KEY_KINDS = {"api", "access", "private", "secret", "auth", "license", "service", "account", "openai", "hf"}
_HARMLESS = ("", "none", "null", "default", "auto", "disabled", "disable")


def drop_secrets(value: Any) -> Any:
    """Return a graph (API or UI) without secrets, as JSON any browser can parse: NaN and Infinity become null."""
    return _drop(value, "", 0)


def drop_secrets_in_text(text: str) -> str:
    """Return `text` with what looks like a key or token replaced."""
    for start, pattern in _KEYS:
        if start in text:
            text = _replaced(text, start, pattern, REMOVED)
    return _replaced(text, "://", _USER_INFO, f"://{REMOVED}") if "@" in text else text


def _replaced(text: str, start: str, pattern: re.Pattern[str], by: str) -> str:
    parts = []
    done = 0
    position = text.find(start)
    places = 0
    while position >= 0:
        places += 1
        if places > _MAX_PLACES:
            return REMOVED
        before = text[position - 1 : position]
        match = None if start[0].isalpha() and before.isalnum() else pattern.match(text, position)
        if match:
            parts += [text[done:position], by]
            done = match.end()
        position = text.find(start, match.end() if match else position + 1)
    return "".join([*parts, text[done:]]) if parts else text


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Return whether a widget of this name holds a key, token or password."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    if not words:
        return False
    if any(word in _SECRET_WORDS for word in words):
        return True
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    pairs = itertools.pairwise(words)
    return words[-1] == "token" or any(
        kind in _KEY_KINDS and word in ("key", "keys", "token") for kind, word in pairs
    )


def _looks_random(value: str) -> bool:
    """Return whether `value` is one long word without a pattern, as keys are."""
    if len(value) < 20 or re.search(r"\s", value):
        return False
    shares = [value.count(character) / len(value) for character in set(value)]
    return -sum(share * math.log2(share) for share in shares) > 3.3


def _drop(value: Any, name: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, str):
        return _drop_in_string(value, name)
    if isinstance(value, dict):
        return _drop_in_object(value, name, depth)
    if isinstance(value, list):
        return [_drop(item, name, depth + 1) if isinstance(item, _HOLDERS) else item for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _drop_in_string(value: str, name: str) -> str:
    if name and value.strip().lower() not in _HARMLESS:
        if is_secret_name(name):
            return ""
        if name.lower() in ("key", "auth", "user_key", "login") and _looks_random(value):
            return ""
    # No key is shorter, and most values are.
    return drop_secrets_in_text(value) if len(value) >= 12 else value


def _drop_in_object(value: dict[str, Any], name: str, depth: int) -> dict[str, Any]:
    # Below a name such as `credentials`, every text counts as a secret.
    below = name if name and is_secret_name(name) else ""
    cleaned = {
        key: _drop(item, "" if _is_link(item) else below or str(key), depth + 1)
        for key, item in value.items()
    }
    titled = ("title" in value and is_secret_name(str(value["title"]))) or is_secret_name(_meta_title(value))
    if isinstance(value.get("widgets_values"), list) and "type" in value:
        cleaned["widgets_values"] = _drop_in_widgets(value, cleaned["widgets_values"], titled)
    if titled and isinstance(cleaned.get("inputs"), dict):
        cleaned["inputs"] = {
            key: "" if isinstance(item, str) else item for key, item in cleaned["inputs"].items()
        }
    return cleaned


def _drop_in_widgets(node: dict[str, Any], cleaned: list[Any], titled: bool) -> list[Any]:
    """Drop the values of a UI node's list whose widget has a secret's name, or whose node is titled so."""
    named = named_widgets(node)
    secret = {item for name, item in named.items() if isinstance(item, str) and item and is_secret_name(name)}
    return [
        "" if isinstance(original, str) and (titled or original in secret) else item
        for original, item in zip(node["widgets_values"], cleaned, strict=True)
    ]


def _is_link(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


def _meta_title(node: dict[str, Any]) -> str:
    meta = node.get("_meta")
    return str(meta.get("title", "")) if isinstance(meta, dict) else ""
