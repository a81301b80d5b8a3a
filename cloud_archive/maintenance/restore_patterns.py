"""Choose objects by the patterns of `restore`, and note which patterns chose none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pathspec import GitIgnoreSpec
from pathspec.util import normalize_file


class RestorePatterns:
    """gitignore patterns over the path below the prefix, or whole keys. Threads may share it.

    Args:
        patterns: empty chooses everything.

    Raises ValueError if a pattern is invalid.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._spec = _compiled(patterns) if patterns else None
        self._keys = frozenset(patterns)
        self._unmatched = {one: _regex(one) for one in patterns if not one.startswith("!")}

    def choose(self, key: str, path: str) -> bool:
        """Return whether a pattern chooses the object."""
        if self._spec is None:
            return True
        chosen = key in self._keys or bool(self._spec.match_file(path))
        if chosen and self._unmatched:
            file = normalize_file(path)
            for pattern in [
                one
                for one, regex in self._unmatched.copy().items()
                if one == key or (regex is not None and regex.search(file))
            ]:
                self._unmatched.pop(pattern, None)
        return chosen

    def unmatched(self) -> list[str]:
        """Return the patterns that have chosen no object so far, without those that negate."""
        return list(self._unmatched)


def _compiled(patterns: Sequence[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except re.error as error:  # such as `[z-a]`
        raise ValueError(error.msg) from error


def _regex(pattern: str) -> re.Pattern[str] | None:
    """Return what matches a path as `pattern` alone does, ten times as fast as a spec. None: it matches none."""
    return next((getattr(one, "regex", None) for one in _compiled([pattern]).patterns), None)
