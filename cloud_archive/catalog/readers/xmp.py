"""XMP packets: texts of elements and attributes. No XML parser reads them, because entities can fill its memory."""

from __future__ import annotations

import html
import re

from .facts import FactsBuilder

_MAX_PACKET = 1024 * 1024
_CHARGE_PER_CHARACTER = 10  # in bytes, because finding tags costs more than keeping a text
_ELEMENT = re.compile(r"<([\w.-]{1,40}:[\w.-]{1,64})(?:\s[^<>]*)?>([^<]*)")
_ATTRIBUTE = re.compile(r"\s[\w.-]{1,40}:([\w.-]{1,64})=(?:\"([^\"]+)\"|'([^']+)')")
_CONTAINERS = ("rdf:li", "rdf:alt", "rdf:bag", "rdf:seq")
_WANTED = (
    "description",
    "usercomment",
    "comment",
    "parameters",
    "prompt",
    "workflow",
    "make",
    "model",
    "title",
)


def read_xmp(packet: str, facts: FactsBuilder) -> None:
    """Add the texts of an XMP packet under their local names, such as `description` or `usercomment`."""
    packet = packet[:_MAX_PACKET]
    facts.charge(len(packet) * _CHARGE_PER_CHARACTER)
    parent = ""
    for match in _ELEMENT.finditer(packet):
        name = match.group(1).lower()
        if name not in _CONTAINERS:
            parent = name.partition(":")[2]
        _add(parent, match.group(2), facts)
    for match in _ATTRIBUTE.finditer(packet):
        _add(match.group(1).lower(), match.group(2) or match.group(3), facts)


def _add(name: str, text: str, facts: FactsBuilder) -> None:
    if text.strip() and (name in _WANTED or "{" in text):
        facts.add_text(name, html.unescape(text))
