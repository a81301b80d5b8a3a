"""Which files the archive wants: gitignore-style patterns over paths relative to the watched directory.

Never wanted, whatever the patterns say: a path with a hidden part (`.cache/x.png`, `.DS_Store`), a file whose name
says that its writer is not done with it (`x.part`, `x.tmp`, `x~`), and this program's own files.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from pathspec import GitIgnoreSpec

from ..files import SkipReason

MEDIA_EXTENSIONS = (
    *("png", "jpg", "jpeg", "webp", "gif", "mp4", "webm", "mkv", "mov"),
    *("wav", "mp3", "flac", "ogg", "opus"),
)
"""What `@media` stands for, in any case."""

_TEMPORARY = (".part", ".tmp", "~")
_LONGEST_TEMPORARY = max(map(len, _TEMPORARY))
_MEDIA_SUFFIXES = tuple(f".{extension}" for extension in MEDIA_EXTENSIONS)
_LONGEST_MEDIA = max(map(len, _MEDIA_SUFFIXES))


class Selection:
    """What is wanted: all that `include` matches (everything where it is empty), less what `exclude` matches.

    Within a list the last pattern that matches decides, and `!pattern` takes back, as in a .gitignore. A list
    of nothing but `!patterns` takes back from everything: `!*.wav` as include is "all but *.wav".

    Args:
        include: patterns; empty wants everything.
        exclude: patterns; they win over `include`.
        own: the relative paths of this program's own files and folders.

    Raises:
        ValueError: a pattern cannot be one; `load_settings` refuses these, with the variable's name.
    """

    def __init__(
        self, include: Sequence[str] = (), exclude: Sequence[str] = (), own: Container[str] = ()
    ) -> None:
        self._own = own or None  # nearly always there is none: asked for every file of a scan
        self._include = _Patterns(include) if _effective(include) else None
        self._exclude = _Patterns(exclude) if _effective(exclude) else None
        self._unmatched = {line: _Patterns([line]) for line in _effective(include) if line[0] != "!"}

    def wants(self, path: str) -> bool:
        """Return whether the file at `path` is to be archived. Asked for every file of a scan, so it is quick."""
        return self.skip_reason(path) is None

    def skip_reason(self, path: str) -> SkipReason | None:
        """Return why the file at `path` is left out; None where it is wanted."""
        if path.startswith(".") or "/." in path:
            return SkipReason.HIDDEN
        if path[-_LONGEST_TEMPORARY:].lower().endswith(_TEMPORARY):
            return SkipReason.TEMPORARY
        if self.is_own(path):
            return SkipReason.OWN
        if self._unmatched:
            self.note(path)
        if self._include is not None and not self._include.match(path):
            return SkipReason.NOT_INCLUDED
        if self._exclude is not None and self._exclude.match(path):
            return SkipReason.EXCLUDED
        return None

    def note(self, path: str) -> None:
        """Remember which include patterns match `path`; see `unmatched`."""
        for line in [line for line, patterns in list(self._unmatched.items()) if patterns.match(path)]:
            self._unmatched.pop(line, None)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The include patterns that have matched no file so far: perhaps they are misspelt."""
        return tuple(self._unmatched)

    def wants_directory(self, path: str) -> bool:
        """Whether anything below the directory can be wanted: False for hidden ones and our own.

        Excluded directories are walked as well, because a later `!pattern` may take back a file in one.
        """
        return not (path.startswith(".") or "/." in path or self.is_own(path))

    def is_own(self, path: str) -> bool:
        """Return whether this is a file or folder of this program; a folder may have a `/` at its end."""
        return self._own is not None and path.removesuffix("/") in self._own


class _Patterns:
    """One list of patterns, compiled."""

    def __init__(self, patterns: Sequence[str]) -> None:
        lines = _effective(patterns)
        if all(line.startswith("!") for line in lines):
            lines.insert(0, "*")
        # Alone, `@media` is by far the most common list, and one look at the name answers almost all of it.
        self._media_only = lines == ["@media"]
        self._spec = GitIgnoreSpec.from_lines(expanded for line in lines for expanded in _expand(line))

    def match(self, path: str) -> bool:
        if self._media_only and path[-_LONGEST_MEDIA:].lower().endswith(_MEDIA_SUFFIXES):
            return True
        if not path.isascii():
            # pathspec may match with a library that takes only UTF-8 (re2), which lone surrogates are not.
            path = path.encode("utf-8", "replace").decode("utf-8")
        return self._spec.match_file(path)


def _effective(patterns: Sequence[str]) -> list[str]:
    """The lines that say something: no blank ones and no comments."""
    return [line for line in patterns if line.strip() and not line.startswith("#")]


def _expand(pattern: str) -> list[str]:
    """The gitignore lines of a pattern: `@media` is one for each extension, in any case."""
    negation, name = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if name != "@media":
        return [pattern]
    return [
        negation + "*." + "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in extension)
        for extension in MEDIA_EXTENSIONS
    ]
