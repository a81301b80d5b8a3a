"""Select the files to archive, by gitignore patterns over paths relative to the watched directory.

Some files are never selected, even if a pattern matches: paths with a hidden part (`.cache/x.png`, `.DS_Store`),
files that Windows writes and hides (`desktop.ini`, `Thumbs.db`), temporary files (`x.part`, `x.tmp`, `x~`), and this
program's own files.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Protocol

from ..files import SkipReason

MEDIA_EXTENSIONS = (
    *("png", "jpg", "jpeg", "webp", "gif", "mp4", "webm", "mkv", "mov"),
    *("wav", "mp3", "flac", "ogg", "opus"),
)
"""The file name extensions of `@media`, in any case."""

_TEMPORARY_SUFFIXES = (".part", ".tmp", "~")
_LONGEST_TEMPORARY = max(map(len, _TEMPORARY_SUFFIXES))
_TEMPORARY_LAST_LETTERS = frozenset(
    letter for each in _TEMPORARY_SUFFIXES for letter in (each[-1], each[-1].upper())
)
_HIDDEN_BY_WINDOWS = frozenset(("desktop.ini", "thumbs.db", "ehthumbs.db"))
_MEDIA_SUFFIXES = tuple(f".{extension}" for extension in MEDIA_EXTENSIONS)
_LONGEST_MEDIA = max(map(len, _MEDIA_SUFFIXES))


class OwnPaths(Protocol):
    """This program's own files and folders in the watched directory."""

    def refresh(self) -> None:
        """Include the files that other processes of this program have begun to write."""

    def __contains__(self, path: object, /) -> bool:
        """Return whether the relative path is one of them, or below one."""


class Selection:
    """Select the files that `include` matches and `exclude` does not.

    In each list the last matching pattern decides, and `!pattern` negates, as in a .gitignore. If all patterns of a
    list are negated, it starts from all files: `!*.wav` as include means all files but *.wav.

    Args:
        include: patterns; empty selects everything.
        exclude: patterns, which take precedence over `include`.
        own: this program's own files and folders; None = no such files.

    Raises ValueError if a pattern is invalid.

    Attributes:
        patterns: those of `include` and of `exclude` that have an effect.
    """

    def __init__(
        self, include: Sequence[str] = (), exclude: Sequence[str] = (), own: OwnPaths | None = None
    ) -> None:
        self._own = own
        self.patterns = (tuple(_effective(include)), tuple(_effective(exclude)))
        self._include = _Patterns(include) if _effective(include) else None
        self._exclude = _Patterns(exclude) if _effective(exclude) else None
        self._unmatched = {line: _Patterns([line]) for line in _effective(include) if line[0] != "!"}

    def wants(self, path: str) -> bool:
        """Return whether to archive the file at `path`."""
        return self.skip_reason(path) is None

    def skip_reason(self, path: str) -> SkipReason | None:
        """Return why the file at `path` is left out; None if it is selected."""
        if path.startswith(".") or "/." in path:
            return SkipReason.HIDDEN
        if path[-1:] in _TEMPORARY_LAST_LETTERS and path[-_LONGEST_TEMPORARY:].lower().endswith(
            _TEMPORARY_SUFFIXES
        ):
            return SkipReason.TEMPORARY
        if path[-1:] in "iIbB" and path.rpartition("/")[2].lower() in _HIDDEN_BY_WINDOWS:
            return SkipReason.HIDDEN
        if self._own is not None and path in self._own:
            return SkipReason.OWN
        if self._unmatched:
            self.note_match(path)
        if self._include is not None and not self._include.match(path):
            return SkipReason.NOT_INCLUDED
        if self._exclude is not None and self._exclude.match(path):
            return SkipReason.EXCLUDED
        return None

    def note_match(self, path: str) -> None:
        """Remember which include patterns match `path`; see `unmatched`."""
        for line in [line for line, patterns in list(self._unmatched.items()) if patterns.match(path)]:
            self._unmatched.pop(line, None)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The include patterns that have matched no file yet."""
        return tuple(self._unmatched)

    def wants_folder(self, path: str) -> bool:
        """Return whether a file in the folder at `path` can be selected: False for hidden folders and our own."""
        # An excluded folder is scanned, because a later `!pattern` may select a file in it.
        return not (path.startswith(".") or "/." in path or self.is_own(path))

    def refresh_own(self) -> None:
        if self._own is not None:
            self._own.refresh()

    def is_own(self, path: str) -> bool:
        """Return whether this file or folder belongs to this program; a folder may end in `/`."""
        return self._own is not None and path.removesuffix("/") in self._own


class _Patterns:
    def __init__(self, patterns: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec  # 40 ms, which most users need not pay

        lines = _effective(patterns)
        if all(line.startswith("!") for line in lines):
            lines.insert(0, "*")
        # Comparing the ending is much faster than a pattern.
        self._media_only = lines == ["@media"]
        self._spec = GitIgnoreSpec.from_lines(expanded for line in lines for expanded in _expand(line))

    def match(self, path: str) -> bool:
        if self._media_only and path[-_LONGEST_MEDIA:].lower().endswith(_MEDIA_SUFFIXES):
            return True
        if not path.isascii():
            # pathspec may use a library (re2) that accepts only UTF-8, so no lone surrogates.
            path = _composed(path.encode("utf-8", "replace").decode("utf-8"))
        return self._spec.match_file(path)


def _composed(text: str) -> str:
    # macOS lists `é` or `が` as two characters in some names, and keyboards type one.
    return unicodedata.normalize("NFC", text)


def _effective(patterns: Sequence[str]) -> list[str]:
    return [line for line in patterns if line.strip() and not line.startswith("#")]


def _expand(pattern: str) -> list[str]:
    negation, name = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if name != "@media":
        return [_composed(pattern)]
    return [
        negation + "*." + "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in extension)
        for extension in MEDIA_EXTENSIONS
    ]
