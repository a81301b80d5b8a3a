"""Tell texts that look like a key from prompts and names of files."""

from __future__ import annotations

import math
import re

from .graph.nodes import MEDIA_FILE, MODEL_FILE

# Not the names of LoRAs and embeddings in a prompt.
_LONG_RUN = re.compile(r"(?<![A-Za-z0-9_-])(?<!<lora:)(?<!embedding:)[A-Za-z0-9_-]{10,}")
_PLAIN_PART = re.compile(r".{0,3}|\d{0,4}(?:(?:[A-Z]?[a-z]+(?:[A-Z][a-z]+){0,3}|[A-Z]+)\d{0,4})?")
_MAX_WORD_CHARACTERS = 20


def looks_random(value: str) -> bool:
    """Return whether `value` is one long word without a pattern, as keys are."""
    if len(value) < 20 or re.search(r"\s", value):
        return False
    value = value[:500]
    shares = [value.count(character) / len(value) for character in set(value)]
    return -sum(share * math.log2(share) for share in shares) > 3.3


def may_hold_key(text: str) -> bool:
    """Return whether `text` holds a long run that consists of more than words, and is not in the name of a file."""
    return any(
        len(part) > _MAX_WORD_CHARACTERS or not _PLAIN_PART.fullmatch(part)
        for word in text.split()
        if "=" in word or not (MODEL_FILE.search(word) or MEDIA_FILE.search(word))
        for run in _LONG_RUN.findall(word)
        for part in re.split("[_-]", run)
    )
