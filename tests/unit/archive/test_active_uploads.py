"""The uploads under way."""

from __future__ import annotations

import threading

from cloud_archive.archive.active_uploads import ActiveUpload, ActiveUploads
from cloud_archive.files import FileVersion
from cloud_archive.ledger.rows import Claim


def claim(name: str, path: str = "folder/a.png") -> Claim:
    return Claim(row=1, name=name, version=FileVersion(path, 10, 1), token="t", attempts=1, seen_at=5.0)


def test_a_snapshot_shows_how_far_each_has_come() -> None:
    uploads = ActiveUploads()
    progress = uploads.begin(claim("one"))
    progress.sent_bytes, progress.key = 4, "out/folder/a.png"
    assert uploads.snapshot() == (ActiveUpload("folder/a.png", 10, 4, "out/folder/a.png", 5.0),)
    assert uploads.snapshot()[0].name == "a.png"


def test_a_row_that_is_claimed_again_is_a_second_upload() -> None:
    uploads = ActiveUploads()
    uploads.begin(claim("first"))
    uploads.begin(claim("second"))
    uploads.end([claim("first"), claim("unknown")])
    assert len(uploads.snapshot()) == 1


def test_waiting_ends_with_the_last_upload() -> None:
    uploads = ActiveUploads()
    assert uploads.wait_until_none(0)
    uploads.begin(claim("one"))
    assert not uploads.wait_until_none(0.01)
    threading.Timer(0.05, uploads.end, args=([claim("one")],)).start()
    assert uploads.wait_until_none(60)
