"""TIFF: the texts of its first directory, and the size of the picture."""

from __future__ import annotations

from ..source import BoundedSource
from .exif import read_exif
from .facts import MAX_TEXT_BYTES, FactsBuilder


def read_tiff(source: BoundedSource, facts: FactsBuilder) -> None:
    """Read the first directory if it lies within the first 2 MiB."""
    read_exif(source.read(0, min(source.size, MAX_TEXT_BYTES)), facts, sizes=True)
