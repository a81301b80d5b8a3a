"""Find settings that have no effect because their names are misspelt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

_PREFIXES = ("CLOUD_ARCHIVE_", "S3_")
_SIMILARITY = 0.8  # of two names without their prefix, from 0 to 1


def misspelt_settings(environ: Mapping[str, str], known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each variable that is no setting, but nearly has the name of one that is not set.

    Args:
        known: the names of all settings.
    """
    unset = set(known) - set(environ)
    for name in sorted(set(environ) - set(known)):
        prefix = next((each for each in _PREFIXES if name.startswith(each)), None)
        if prefix is None:
            continue
        import difflib  # rarely needed

        ends = [each.removeprefix(prefix) for each in unset if each.startswith(prefix)]
        for end in difflib.get_close_matches(name.removeprefix(prefix), ends, 1, _SIMILARITY):
            yield f"{name} is not a setting: correct the name if {prefix}{end} is meant."
