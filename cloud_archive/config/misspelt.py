"""Find misspelt names of settings, and misspelt placeholders in the prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

_PREFIXES = ("CLOUD_ARCHIVE_", "S3_")
_SIMILARITY = 0.8  # of two names without their prefix, from 0 to 1
_STRFTIME = re.compile("%([YymHMSj])")  # not `%d` and others, which may begin an encoded byte such as `%d8`


def misspelt_settings(environ: Mapping[str, str], known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each variable that is no setting, but nearly has the name of one that is not set.

    Args:
        known: the names of all settings.
    """
    unset = set(known) - set(environ)
    for name in sorted(set(environ) - set(known)):
        meant = _longer(name, unset) or _similar(name, unset)
        if meant:
            yield f"{name} is not a setting: correct the name if {meant} is meant."


def misspelt_placeholder(prefix: str) -> Iterator[str]:
    """Yield a sentence if the prefix has a placeholder of strftime, which stays in the keys as it is."""
    if found := _STRFTIME.search(prefix):
        yield f"S3_PREFIX contains {found[0]}, which stays as it is: write {{{found[1]}}} if the time is meant."


def _longer(name: str, unset: set[str]) -> str:
    """Return the setting that `name` begins with, also in lower case or after AWS_; empty if there is none."""
    begin = f"{name.upper().removeprefix('AWS_')}_"
    return max((each for each in unset if begin.startswith(f"{each}_")), key=len, default="")


def _similar(name: str, unset: set[str]) -> str:
    prefix = next((each for each in _PREFIXES if name.startswith(each)), None)
    if prefix is None:
        return ""
    import difflib  # rarely needed

    ends = [each.removeprefix(prefix) for each in unset if each.startswith(prefix)]
    close = difflib.get_close_matches(name.removeprefix(prefix), ends, 1, _SIMILARITY)
    return prefix + close[0] if close else ""
