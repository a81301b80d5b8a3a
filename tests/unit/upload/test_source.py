"""How a file's bytes are divided, and what their type is."""

from __future__ import annotations

import pytest

from cloud_archive.upload.memory import BUDGET_BYTES
from cloud_archive.upload.source import content_type, part_size_for

MEBIBYTE = 1024 * 1024
GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("size_bytes", "part_bytes"),
    [
        (9 * MEBIBYTE, 8 * MEBIBYTE),
        (8000 * MEBIBYTE, 8 * MEBIBYTE),
        (8000 * MEBIBYTE + 1, 9 * MEBIBYTE),
        (48_000 * MEBIBYTE, 48 * MEBIBYTE),
        (48_000 * MEBIBYTE + 1, 48 * MEBIBYTE),
        (480 * GIGABYTE, 48 * MEBIBYTE),
    ],
)
def test_a_part_fits_the_memory_budget(size_bytes: int, part_bytes: int) -> None:
    assert part_size_for(size_bytes) == part_bytes <= BUDGET_BYTES
    assert -(-size_bytes // part_bytes) <= 10_000


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.PNG", "image/png"),
        ("a.html", "text/html"),
        ("a", "application/octet-stream"),
        ("workflow.json.gz", "application/gzip"),
        ("drawing.svgz", "application/gzip"),
        ("points.tar.xz", "application/octet-stream"),
    ],
)
def test_the_type_is_that_of_the_bytes(name: str, media_type: str) -> None:
    """A compressed file must not be shown as what it holds: the object has no Content-Encoding."""
    assert content_type(name) == media_type
