"""Choose objects by the patterns of `restore`, and note which patterns chose none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pathspec import GitIgnoreSpec


class RestorePatterns:
    """gitignore patterns over the path below the prefix, or whole keys. Threads may share it.

    Args:
        patterns: empty chooses everything.

    Raises ValueError if a pattern is invalid.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._spec = _compiled(patterns) if patterns else None
        self._keys = frozenset(patterns)
        self._unmatched = {one: _compiled([one]) for one in patterns if not one.startswith("!")}

    def choose(self, key: str, path: str) -> bool:
        """Return whether a pattern chooses the object."""
        if self._spec is None:
            return True
        chosen = key in self._keys or bool(self._spec.match_file(path))
        if chosen and self._unmatched:
            for pattern, spec in self._unmatched.copy().items():
                if pattern == key or spec.match_file(path):
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
