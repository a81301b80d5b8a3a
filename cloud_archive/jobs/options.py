"""Read what a prompt asks of the archive in `extra_data.cloud_archive`. No option changes a destination or a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..catalog.limits import MAX_NOTE_CHARACTERS, MAX_TAG_CHARACTERS, MAX_TAGS
from ..text import clean_text

_KNOWN = ("tags", "note", "urls")


class JobOptions(NamedTuple):
    """Options of one job.

    Attributes:
        tags, note: are added to each file that the job wrote.
        urls: the webhook holds links to the files.
    """

    tags: tuple[str, ...] = ()
    note: str = ""
    urls: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the options as they are stored."""
        return {"tags": list(self.tags), "note": self.note, "urls": self.urls}


def parse_options(given: Any) -> tuple[JobOptions, list[str]]:
    """Return the valid options, and a sentence for each invalid one.

    >>> parse_options({"bucket": "b"})[1]
    ['extra_data.cloud_archive.bucket is unknown: tags, note, urls are known.']
    """
    if given is None or given == {}:
        return JobOptions(), []
    if not isinstance(given, Mapping):
        return JobOptions(), ["extra_data.cloud_archive must be an object."]
    wrong = [
        f"extra_data.cloud_archive.{str(name)[:MAX_TAG_CHARACTERS]} is unknown: {', '.join(_KNOWN)} are known."
        for name in given
        if name not in _KNOWN
    ]
    tags, tags_wrong = _tags(given.get("tags", []))
    note = given.get("note", "")
    if not isinstance(note, str) or len(note) > MAX_NOTE_CHARACTERS:
        note = ""
        wrong.append(
            f"extra_data.cloud_archive.note must be a text of {MAX_NOTE_CHARACTERS} characters at most."
        )
    urls = given.get("urls", False)
    if not isinstance(urls, bool):
        urls = False
        wrong.append("extra_data.cloud_archive.urls must be true or false.")
    return JobOptions(tags, clean_text(note), urls), wrong + tags_wrong


def _tags(given: Any) -> tuple[tuple[str, ...], list[str]]:
    if not isinstance(given, list) or len(given) > MAX_TAGS:
        return (), [f"extra_data.cloud_archive.tags must be a list of {MAX_TAGS} texts at most."]
    tags = [tag.strip() for tag in given if isinstance(tag, str)]
    good = [tag for tag in tags if 0 < len(tag) <= MAX_TAG_CHARACTERS and '"' not in tag]
    wrong = []
    if len(good) < len(given):
        wrong.append(
            f"Each of extra_data.cloud_archive.tags must be a text of 1 to {MAX_TAG_CHARACTERS} characters"
            " without quotes."
        )
    return tuple(dict.fromkeys(map(clean_text, good))), wrong
