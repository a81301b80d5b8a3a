"""TIFF: the texts of its first directory, and the size of the picture."""

from __future__ import annotations

from ..source import BoundedSource
from .exif import read_exif
from .facts import MAX_TEXT_BYTES, FactsBuilder


def read_tiff(source: BoundedSource, facts: FactsBuilder) -> None:
    """Read the directory where it stands within the first 3 MB."""
    read_exif(source.read(0, min(source.size, MAX_TEXT_BYTES)), facts, sizes=True)
