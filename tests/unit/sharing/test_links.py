"""Links to archived files: what a browser does with the answer, and when a link ends."""

from __future__ import annotations

from typing import cast

import pytest

from cloud_archive.sharing.links import content_disposition, link_json, make_link
from cloud_archive.store.base import ObjectStore
from cloud_archive.store.links import AnswerHeaders, PresignedLink
from tests.memory_store import MemoryStore


@pytest.mark.parametrize(
    ("mime_type", "how"),
    [
        ("image/png", "inline"),
        ("video/mp4", "inline"),
        ("audio/flac", "inline"),
        ("image/svg+xml", "attachment"),
        ("image/SVG+XML", "attachment"),
        ("image/x-other+xml", "attachment"),
        ("text/html", "attachment"),
        ("application/octet-stream", "attachment"),
    ],
)
def test_a_browser_shows_media_and_saves_what_could_hold_a_script(mime_type: str, how: str) -> None:
    assert content_disposition("fox.png", mime_type) == f"{how}; filename*=UTF-8''fox.png"


def test_a_name_is_encoded_whatever_it_holds() -> None:
    header = content_disposition('狐 "1"\r\n\ud800.png', "image/png")
    assert header == "inline; filename*=UTF-8''%E7%8B%90%20%221%22%0D%0A%3F.png"


def test_a_file_of_no_known_type_is_saved() -> None:
    asked: list[AnswerHeaders] = []

    class Store(MemoryStore):
        def presign(self, key: str, expires_seconds: float, answer: AnswerHeaders) -> PresignedLink:
            asked.append(answer)
            return super().presign(key, expires_seconds, answer)

    make_link(cast(ObjectStore, Store()), "out/fox", "fox", None, 60)
    assert asked == [AnswerHeaders("application/octet-stream", "attachment; filename*=UTF-8''fox")]


def test_the_end_of_a_link_is_in_whole_seconds_of_utc() -> None:
    found = link_json(PresignedLink("https://store.example/x", 1_775_046_896.9))
    assert found == {"url": "https://store.example/x", "expires_at": "2026-04-01T12:34:56Z"}
