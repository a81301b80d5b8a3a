"""A listing that is read twice and requested once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from cloud_archive.errors import CloudArchiveError
from cloud_archive.maintenance import kept_listing as module
from cloud_archive.maintenance.kept_listing import kept_listing
from cloud_archive.store.base import ObjectInfo

WRITTEN = datetime(2026, 4, 1, 12, 0, 0, 123_000, tzinfo=timezone.utc)
LISTED = [
    ObjectInfo("out/a.png", 1, "etag-1", None, None, {}, WRITTEN),
    ObjectInfo("out/new\nline \udcff ü.png", 2**40, None, None, None, {}, None),
]


@pytest.mark.parametrize("memory_bytes", [1, 1000])
def test_it_comes_back_as_often_as_it_is_read(monkeypatch: pytest.MonkeyPatch, memory_bytes: int) -> None:
    monkeypatch.setattr(module, "MEMORY_BYTES", memory_bytes)
    requested = iter(LISTED)
    seen: list[ObjectInfo] = []
    with kept_listing(requested, seen.append) as read:
        assert seen == LISTED, "the whole listing is requested first"
        assert list(read()) == list(read()) == LISTED


def test_a_full_disk_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Full(io.BytesIO):
        def __init__(self, _: int) -> None:
            super().__init__()

        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile", Full)
    with (
        pytest.raises(CloudArchiveError, match=r"No space left on device.*TMPDIR"),
        kept_listing(LISTED, lambda _: None),
    ):
        pytest.fail("it was kept")


def test_an_error_of_the_listing_passes() -> None:
    def broken() -> Iterator[ObjectInfo]:
        yield LISTED[0]
        raise CloudArchiveError("The bucket is gone.")

    with pytest.raises(CloudArchiveError, match="gone"), kept_listing(broken(), lambda _: None):
        pytest.fail("it was kept")
