"""Drop keys, tokens and passwords from graphs and texts before anything is stored."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Collection
from typing import Any

from .graph.widgets import named_widgets, shown_widgets
from .key_likeness import looks_random, may_hold_key
from .secret_sources import SecretSources, is_link

# In place of a key or token in a text. A widget with the name of a secret becomes empty.
REMOVED = "[removed]"
_MAX_DEPTH = 60
# Names of widgets, and endings, that often hold something harmless: only a value that looks random counts as secret.
_RANDOM_NAMES = ("auth", "login")
_RANDOM_ENDING = "key"

# Not plain words, because a prompt may be about a bearer.
_NOT_ONLY_WORDS = r"(?![A-Z]?[a-z]+(?:-[A-Z]?[a-z]+)*[.-]*(?![A-Za-z0-9._~+/=-]))[A-Za-z0-9._~+/=-]{12,}"

# How each kind of key starts, and what follows. Searching for the start first is faster.
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
        ("Bearer ", _NOT_ONLY_WORDS),
        ("bearer ", _NOT_ONLY_WORDS),
        ("-----BEGIN", r" [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"),
        ("X-Amz-Signature=", r"[^&\s\"']{4,}"),
        ("X-Amz-Credential=", r"[^&\s\"']{4,}"),
        ("X-Amz-Security-Token=", r"[^&\s\"']{4,}"),
        ("api_key=", r"[^&\s\"']{4,}"),
        ("apikey=", r"[^&\s\"']{4,}"),
        ("apiKey=", r"[^&\s\"']{4,}"),
        ("access_token=", r"[^&\s\"']{4,}"),
        ("accessToken=", r"[^&\s\"']{4,}"),
        ("token=", r"[^&\s\"']{4,}"),
        ("password=", r"[^&\s\"']{4,}"),
        ("key=", r"[^&\s\"']{16,}"),
        ("sig=", r"[^&\s\"']{16,}"),
        ("KEY=", r"[^&\s\"']{16,}"),
        ("TOKEN=", r"[^&\s\"']{8,}"),
        ("SECRET=", r"[^&\s\"']{8,}"),
        ("PASSWORD=", r"[^&\s\"']{4,}"),
        ("hooks.slack.com/services/", r"[A-Za-z0-9/]{16,}"),
        ("/api/webhooks/", r"[0-9]+/[A-Za-z0-9_-]{16,}"),
        ("signature=", r"[^&\s\"']{4,}"),
        ("Signature=", r"[^&\s\"']{4,}"),
        ("secret=", r"[^&\s\"']{8,}"),
    )
)
# Which kinds of keys a text may hold, by the signs in it (1: a hyphen, 2: an underscore, 4: an equals sign).
_KEYS_BY_SIGNS = tuple(
    tuple(
        (start, pattern)
        for start, pattern in _KEYS
        if all(signs & bit or sign not in start for sign, bit in (("-", 1), ("_", 2), ("=", 4)))
    )
    for signs in range(8)
)
_RUN = re.compile(r"[A-Za-z0-9_-]*")
_WORD = re.compile(r"[A-Za-z0-9]*")
_USER_INFO = re.compile(r"://[^\s/:@\"']{1,200}:[^\s/@\"']{1,200}(?=@)")
_MAX_PLACES = 100  # where a key may begin, in one text
# For one graph. What goes beyond counts as secret, so that no graph can make the search slow.
_MAX_ALL_PLACES = 2_000
_MAX_TEXTS_WITH_SIGNS = 15_000
_MAX_NAMES_LIKE_SECRETS = 500
_MAX_CHARACTERS_LIKE_KEYS = 50_000  # searched for what looks like a key
_SECRET_WORDS = {
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "cookie",
    "cookies",
    "secret",
    "secrets",
    "credential",
    "credentials",
    "bearer",
}
_SECRET_WORDS |= {"authorization", "apikey", "apitoken", "authtoken", "accesskey", "secretkey", "privatekey"}
# In a title these words may describe the next one, and so a picture, as in "Secret Sauce".
_WORDS_OF_PICTURES = {"secret", "secrets", "cookie", "cookies", "bearer", "token"}
# Not before these words, as in "Secret for S3" and "Cookie header".
_WORDS_OF_VALUES = {"for", "from", "value", "text", "string", "phrase", "code", "header", "id", "do"}
_WORDS_OF_VALUES |= {"input", "data", "here", "api", "auth"}
_TITLE_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|\s-+\s|[^\w\s-]")
# Nodes whose inputs say by their names what they hold: whatever the title says, only what looks like a key is dropped.
_NAMED_INPUTS = re.compile(
    r"(?:clip|text|wildcard)[ _]?encode|sampler|^[gs]etnode$| [gs]etnode$", re.IGNORECASE
)
_KEY_KINDS = {"api", "access", "private", "secret", "auth", "license", "service", "account", "openai", "hf"}
# Every name of a secret holds one of these parts.
_MAY_BE_SECRET = re.compile("key|token|pass|pwd|cookie|secr|cred|bearer|auth", re.IGNORECASE)
_LONG_NAME_CHARACTERS = 200
_MIN_KNOWN_CHARACTERS = 12  # a shorter secret of one graph may be an ordinary value in the other
_HARMLESS = ("", "none", "null", "default", "auto", "disabled", "disable")


def drop_secrets(value: Any) -> Any:
    """Return a graph (API or UI) without secrets, as JSON that browsers can parse: NaN and Infinity become null."""
    return _Cleaner(value).drop(value, "", 0)


def drop_secrets_in_both(prompt: Any, workflow: Any) -> tuple[Any, Any]:
    """Return the API graph and the workflow of one job or file without secrets.

    A workflow does not name all its widgets, and hidden links may lead to an input. An API graph lacks the names of
    subgraphs' inputs. So what is a secret by its name or a link in one of them is dropped from the other too.
    """
    of_prompt = _Cleaner(prompt)
    cleaned = of_prompt.drop(prompt, "", 0)
    of_workflow = _Cleaner(workflow, of_prompt.found)
    cleaned_workflow = of_workflow.drop(workflow, "", 0)
    if of_workflow.found:
        cleaned = _Cleaner(prompt, of_workflow.found).drop(prompt, "", 0)
    return cleaned, cleaned_workflow


def drop_secrets_in_text(text: str, prompt: Any = None) -> str:
    """Return `text` with what looks like a key or token replaced, and what is a secret in the API graph `prompt`."""
    cleaner = _Cleaner(prompt)
    cleaner.drop(prompt, "", 0)
    for secret in sorted(cleaner.found, key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, REMOVED)
    return _Cleaner().text(text)


def is_secret_name(name: str) -> bool:
    """Return whether a widget of this name holds a key, token or password."""
    return _may_be_secret(name) and _is_secret(_shortened(name))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONG_NAME_CHARACTERS else f"{name[:100]}_{name[-100:]}"


def _may_be_secret(name: str) -> bool:
    return _MAY_BE_SECRET.search(_shortened(name)) is not None


@functools.lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    words = _words(name)
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return bool(words) and (_speaks_of(_SECRET_WORDS, words) or words[-1] == "token")


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]


def _speaks_of(secrets: Collection[str], words: list[str]) -> bool:
    """Return whether `words` hold one of `secrets`, or a kind of key such as `api key`."""
    return any(word in secrets for word in words) or any(
        kind in _KEY_KINDS and word in ("key", "keys", "token", "tokens")
        for kind, word in itertools.pairwise(words)
    )


def _is_random_name(name: str) -> bool:
    return name in _RANDOM_NAMES or name.endswith(_RANDOM_ENDING)


def _describes_next_word(title: str) -> bool:
    """Return whether a title uses words of secrets only to describe the next word, as "Secret Sauce" does."""
    title = _shortened(title)
    if _speaks_of(_SECRET_WORDS - _WORDS_OF_PICTURES, _words(title)):
        return False
    parts = " ".join(_TITLE_PARTS.findall(title)).lower().replace("trigger token", "trigger word").split()
    return all(
        len(after) > 1 and after.isalpha() and after not in _WORDS_OF_VALUES
        for word, after in zip(parts, [*parts[1:], ""], strict=True)
        if word in _WORDS_OF_PICTURES
    )


class _Cleaner:
    """Drops secrets from one graph, in a number of steps that grows with its size and not with what is in it."""

    def __init__(self, graph: Any = None, known: Collection[str] = ()) -> None:
        self._known = known
        self.found: set[str] = set()  # texts that were secrets by a name or link
        self._places_left = _MAX_ALL_PLACES
        self._texts_left = _MAX_TEXTS_WITH_SIGNS
        self._names_left = _MAX_NAMES_LIKE_SECRETS
        self._characters_left = _MAX_CHARACTERS_LIKE_KEYS
        self._secret_names: dict[str, bool] = {}
        self._sources = SecretSources(graph, self._is_secret)

    def drop(self, value: Any, name: str, depth: int) -> Any:
        """Return `value`, which stands under `name`, without secrets."""
        if isinstance(value, str):
            return self._string(value, name)
        if depth > _MAX_DEPTH:
            return None
        if isinstance(value, dict):
            return self._object(value, name, depth)
        if isinstance(value, list):
            return [
                item
                if type(item) is int
                else self._string(item, name)
                if type(item) is str
                else self.drop(item, name, depth + 1)
                for item in value
            ]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    def text(self, text: str) -> str:
        signs = ("-" in text) | ("_" in text) << 1 | ("=" in text) << 2
        if signs:
            self._texts_left -= 1
            if self._texts_left < 0:
                return REMOVED
        for start, pattern in _KEYS_BY_SIGNS[signs]:
            if start in text:
                text = self._replaced(text, start, pattern, REMOVED)
        return self._replaced(text, "://", _USER_INFO, f"://{REMOVED}") if "@" in text else text

    def _replaced(self, text: str, start: str, pattern: re.Pattern[str], by: str) -> str:
        parts = []
        done = 0
        position = text.find(start)
        places = 0
        while position >= 0:
            places += 1
            self._places_left -= 1
            if places > _MAX_PLACES or self._places_left < 0:
                return REMOVED
            before = text[position - 1 : position]
            is_within_word = start[0].isalpha() and before.isalnum()
            match = None if is_within_word else pattern.match(text, position)
            following = position + 1
            if match:
                parts += [text[done:position], by]
                following = done = match.end()
            elif start == "eyJ":  # a later one in this word or run can't begin a token either
                following = max(following, _end_of(_WORD if is_within_word else _RUN, text, position))
            position = text.find(start, following)
        return "".join([*parts, text[done:]]) if parts else text

    def _is_secret(self, name: str) -> bool:
        found = self._secret_names.get(name)
        if found is None:
            found = _may_be_secret(name)
            if found:
                self._names_left -= 1
                found = self._names_left < 0 or is_secret_name(name)
            self._secret_names[name] = found
        return found

    def _secrets_by_title(self, node: dict[str, Any], secret_name: str) -> Callable[[str], bool] | None:
        """Return which texts of a node are secrets by its titles, or by its id in an API graph; None: none is.

        Args:
            secret_name: the name that `node` stands under, if it is that of a secret; else empty.
        """
        titles = [secret_name] if secret_name and "class_type" in node else []
        if "title" in node and self._is_secret_title(node["title"]):
            titles.append(node["title"])
        if "_meta" in node and self._is_secret_title(_meta_title(node)):
            titles.append(_meta_title(node))
        if not titles:
            return None
        kind = node.get("class_type", node.get("type"))
        has_named_inputs = isinstance(kind, str) and _NAMED_INPUTS.search(kind[:_LONG_NAME_CHARACTERS])
        return self._may_hold_key if has_named_inputs or all(map(_describes_next_word, titles)) else bool

    def _may_hold_key(self, text: str) -> bool:
        self._characters_left -= len(text)
        return self._characters_left < 0 or may_hold_key(text)

    def _is_secret_title(self, title: Any) -> bool:
        return isinstance(title, str) and self._is_secret(title)

    def _string(self, value: str, name: str) -> str:
        if value in self._known:
            return ""
        if name and (self._is_secret(name) or _is_random_name(name.lower())):
            if value.strip().lower() in _HARMLESS:
                return value
            if self._is_secret(name) or looks_random(value):
                return self._dropped(value)
        # Most values are shorter, and too short for a key that matters.
        return self.text(value) if len(value) >= 12 else value

    def _dropped(self, secret: str) -> str:
        if len(secret) >= _MIN_KNOWN_CHARACTERS:
            self.found.add(secret)
        return ""

    def _object(self, value: dict[str, Any], name: str, depth: int) -> dict[str, Any]:
        # Below a name such as `credentials`, every text counts as a secret.
        secret_name = name if name and self._is_secret(name) else ""
        below = "" if secret_name and _is_named_like_picture(value, name) else secret_name
        cleaned: dict[str, Any] = {}
        for key, item in value.items():
            if type(item) is str:
                cleaned[key] = self._string(item, below or key)
            elif type(item) is int:
                cleaned[key] = item
            else:
                cleaned[key] = self.drop(item, "" if is_link(item) else below or key, depth + 1)
        into_secret = id(value) in self._sources.nodes
        is_secret = bool if into_secret else self._secrets_by_title(value, secret_name)
        if isinstance(cleaned.get("widgets_values"), list) and "type" in value:
            linked = self._sources.texts.get(id(value), set())
            cleaned["widgets_values"] = self._widgets(value, cleaned["widgets_values"], is_secret, linked)
        for key in ("inputs", "widgets_values"):
            if is_secret and isinstance(cleaned.get(key), dict):
                cleaned[key] = self._emptied(value[key], cleaned[key], is_secret)
        return cleaned

    def _emptied(self, original: Any, cleaned: Any, is_secret: Callable[[str], bool]) -> Any:
        """Return `cleaned` without the texts of `original` that are secrets, at any depth. Links stay."""
        if isinstance(original, str):
            return self._dropped(original) if is_secret(original) else cleaned
        if isinstance(cleaned, dict):
            return {key: self._emptied(original[key], item, is_secret) for key, item in cleaned.items()}
        if isinstance(cleaned, list) and not is_link(original):
            return [self._emptied(*pair, is_secret) for pair in zip(original, cleaned, strict=True)]
        return cleaned

    def _widgets(
        self,
        node: dict[str, Any],
        cleaned: list[Any],
        is_secret: Callable[[str], bool] | None,
        linked: set[str],
    ) -> list[Any]:
        """Empty the texts of a UI node's widgets that have a secret's name, are `linked` to one or are `is_secret`."""
        named = [*named_widgets(node).items(), *((name, item) for _, name, item in shown_widgets(node))]
        secret = {item for name, item in named if isinstance(item, str) and item and is_secret_name(name)}
        secret |= linked
        if not secret and is_secret is None:
            return cleaned

        def is_one(text: str) -> bool:
            return text in secret or (is_secret is not None and is_secret(text))

        return [self._emptied(*pair, is_one) for pair in zip(node["widgets_values"], cleaned, strict=True)]


def _end_of(run: re.Pattern[str], text: str, position: int) -> int:
    match = run.match(text, position)
    return match.end() if match else position


def _is_named_like_picture(value: dict[str, Any], name: str) -> bool:
    """Return whether `value` is a node of an API graph, or a group node, with a name such as "Secret Sauce"."""
    is_named_freely = isinstance(value.get("class_type"), str) or isinstance(value.get("nodes"), list)
    return is_named_freely and _describes_next_word(name)


def _meta_title(node: dict[str, Any]) -> Any:
    meta = node.get("_meta")
    return meta.get("title") if isinstance(meta, dict) else None
