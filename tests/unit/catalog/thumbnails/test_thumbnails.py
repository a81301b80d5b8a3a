"""Thumbnails: what decodes, what crashes, hangs or floods the decoder, and the cache's limit."""

from __future__ import annotations

import io
import os
import sqlite3
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cloud_archive.catalog.child_process import start_child
from cloud_archive.catalog.reading import open_same_file
from cloud_archive.catalog.schema import KINDS
from cloud_archive.catalog.thumbnails.cache import ThumbnailCache
from cloud_archive.catalog.thumbnails.child import MAX_PIXELS
from cloud_archive.catalog.thumbnails.maker import ThumbnailMaker
from cloud_archive.catalog.thumbnails.thumbnails import PicturedAsset, Thumbnails
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def picture(mode: str = "RGB", size: tuple[int, int] = (640, 480), form: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.new(mode, size, 128 if mode in ("L", "I;16", "I", "F") else None).save(written, form)
    return written.getvalue()


def video() -> bytes:
    import av

    written = io.BytesIO()
    with av.open(written, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 400, 200, "yuv420p"
        for _ in range(3):
            make_frame: Any = av.VideoFrame.from_image
            frame = make_frame(Image.new("RGB", (400, 200), "red"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return written.getvalue()


def with_broken_exif(form: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (640, 480)).save(written, form, exif=b'Exif\0\0{"prompt": "a fox"}')
    return written.getvalue()


def is_running(maker: ThumbnailMaker) -> bool:
    child = maker._child
    return child is not None and child.poll() is None


@pytest.fixture
def maker() -> Iterator[ThumbnailMaker]:
    maker = ThumbnailMaker()
    yield maker
    maker.close()


def test_pictures_and_videos_become_webp(maker: ThumbnailMaker) -> None:
    for form, mode in (
        ("PNG", "RGB"),
        ("PNG", "I;16"),
        ("PNG", "RGBA"),
        ("JPEG", "CMYK"),
        ("WEBP", "RGB"),
        ("GIF", "P"),
    ):
        made = maker.make("image", picture(mode, form=form))
        assert made is not None, (form, mode)
        with Image.open(io.BytesIO(made)) as found:
            assert (found.format, found.size) == ("WEBP", (320, 240))
    made = maker.make("video", video())
    assert made is not None
    with Image.open(io.BytesIO(made)) as found:
        assert found.size == (320, 160)
    assert not maker.make("image", b"no picture")
    assert not maker.make("video", b"no video")
    assert not maker.make("audio", b"x")
    assert maker.make("image", picture())
    maker.close()
    assert maker.make("image", picture()) is None


def program(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "program.py"
    file.write_text(text)
    return [sys.executable, str(file)]


@pytest.mark.parametrize(
    "text",
    [
        "import os; os.abort()",
        "import sys; sys.stdout.write('{\"length\": 9999999999}\\n'); sys.stdout.flush(); sys.stdin.read()",
        "import sys; sys.stdout.write('{\"length\": 100}\\nshort'); sys.stdout.flush()",
        'import sys; sys.stdout.write("[" * 900 + "\\n"); sys.stdout.flush()',
        "import sys; print('[]', flush=True); sys.stdin.read()",
        "import sys; print('{}', flush=True); sys.stdin.read()",
    ],
)
def test_a_decoder_that_fails_costs_one_thumbnail(tmp_path: Path, text: str) -> None:
    _fails(program(tmp_path, text), file_seconds=60.0)


def test_a_decoder_that_takes_too_long_costs_one_thumbnail(tmp_path: Path) -> None:
    _fails(program(tmp_path, "import time; time.sleep(600)"), file_seconds=0.5)


def _fails(command: list[str], file_seconds: float) -> None:
    maker = ThumbnailMaker(command=command, file_seconds=file_seconds)
    try:
        assert maker.make("image", picture()) == b""
        assert not is_running(maker)
    finally:
        maker.close()


def test_a_child_that_is_killed_just_after_its_answer_does_not_cost_the_next_thumbnail(
    maker: ThumbnailMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateTimer(threading.Timer):
        """Its time is up right before it is cancelled."""

        def cancel(self) -> None:
            if self.name == "cloud-archive-thumbnail-limit":
                self.function()
            super().cancel()

    data, timer = picture(), threading.Timer
    for _ in range(10):
        monkeypatch.setattr(threading, "Timer", LateTimer)
        assert maker.make("image", data)
        monkeypatch.setattr(threading, "Timer", timer)
        assert maker.make("image", data)


def test_a_child_that_starts_while_the_maker_is_closed_gets_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    text = f"import sys, time; sys.stdin.readline() and open({str(asked)!r}, 'w'); time.sleep(600)"
    maker = ThumbnailMaker(command=program(tmp_path, text), file_seconds=2.0)
    closing = threading.Thread(target=maker.close)

    def start_late(command: Any) -> Any:
        closing.start()
        wait_until(lambda: maker._closed, "the maker is closed")
        return start_child(command)

    monkeypatch.setattr("cloud_archive.catalog.thumbnails.maker.start_child", start_late)
    assert maker.make("image", picture()) is None
    closing.join()
    assert not is_running(maker)
    assert not asked.exists()


def test_a_decoder_that_cannot_be_started_says_nothing_about_the_file(tmp_path: Path) -> None:
    maker = ThumbnailMaker(command=[str(tmp_path / "missing")])
    assert maker.make("image", picture()) is None
    maker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds the limit of addresses")
def test_the_child_can_take_no_more_memory_than_its_limit(tmp_path: Path) -> None:
    child = Path(sys.modules[ThumbnailMaker.__module__].__file__ or "").with_name("child.py")
    text = (
        f"import runpy; child = runpy.run_path({str(child)!r}, run_name='child')\n"
        "child['limit_memory'](); bytearray(4 * 1024**3); print('{\"length\": 0}', flush=True)\n"
        "import sys; sys.stdin.read()"
    )
    maker = ThumbnailMaker(command=program(tmp_path, text))
    assert not maker.make("image", picture())
    assert not is_running(maker)
    maker.close()


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_a_picture_whose_exif_is_none_has_a_thumbnail(maker: ThumbnailMaker, form: str) -> None:
    assert maker.make("image", with_broken_exif(form))


def test_a_picture_of_too_many_pixels_is_refused(maker: ThumbnailMaker) -> None:
    assert not maker.make("image", picture("1", (20_000, MAX_PIXELS // 20_000 + 1)))


def test_the_child_ends_when_it_is_idle_and_knows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("MY_API_TOKEN", "hidden")
    seen = tmp_path / "seen"
    text = (
        f"import os, sys; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))\n"
        "sys.stdout.write('{\"length\": 0}\\n'); sys.stdout.flush(); sys.stdin.read()"
    )
    maker = ThumbnailMaker(command=program(tmp_path, text), idle_seconds=0.05)
    assert not maker.make("image", picture())
    assert "PATH" in seen.read_text()
    assert "hidden" not in seen.read_text()
    wait_until(lambda: not is_running(maker), "the idle child has ended")
    maker.close()


def test_the_cache_drops_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = ThumbnailCache(tmp_path / "t.sqlite3", max_bytes=10_000)
    cache.open()
    for number in range(9):
        cache.put(bytes([number]), "v", b"x" * 1000)
    assert cache.get(bytes([0]), "v") is not None  # used again
    assert cache.get(bytes([1]), "other bytes") is None
    cache.put(b"new", "v", b"x" * 1500)
    assert cache._size <= 10_000
    assert cache.get(bytes([0]), "v") is not None
    assert cache.get(bytes([1]), "v") is None
    cache.close()
    assert cache.get(bytes([0]), "v") is None
    (tmp_path / "t.sqlite3").write_bytes(b"no database at all" * 100)
    cache.open()
    cache.put(b"a", "v", b"1")
    assert cache.get(b"a", "v") == b"1"
    cache.close()
    if os.name == "posix":
        assert (tmp_path / "t.sqlite3").stat().st_mode & 0o077 == 0


def test_where_a_thumbnail_comes_from(tmp_path: Path, maker: ThumbnailMaker) -> None:
    store = MemoryStore()
    body, webp = picture(), picture(size=(10, 10), form="WEBP")
    store.add("out/a.png", body)
    store.add("pack", b"1234" + webp + b"<script>alert(1)</script>")
    thumbnails = Thumbnails(tmp_path, None, store, maker=maker)
    thumbnails.open()

    def one(kind: str, packed: tuple[str, int, int] | None = None, key: str = "out/a.png") -> PicturedAsset:
        return PicturedAsset(uuid.uuid4().bytes, key, "a.png", len(body), 1, None, KINDS.index(kind), packed)

    assert thumbnails.thumbnail(one("image", ("pack", 4, len(webp)))).data == webp
    assert store.count("GetObject") == 1
    # What is no WebP, lies elsewhere or is missing: the object itself.
    for packed in (("pack", 4 + len(webp), 25), ("pack", 10**12, 5), ("gone", 0, 10), ("pack", 0, 10**9)):
        assert thumbnails.thumbnail(one("image", packed)).mime_type == "image/webp"
    known = one("image")
    thumbnails.thumbnail(known)
    before = store.count("GetObject")
    assert thumbnails.thumbnail(known).mime_type == "image/webp"
    assert store.count("GetObject") == before
    assert thumbnails.thumbnail(one("image", key="gone")).mime_type == "image/svg+xml"
    for kind in ("audio", "3d", "other"):
        assert thumbnails.thumbnail(one(kind)).data.startswith(b"<svg")
    thumbnails.close()


def test_a_file_that_is_cut_while_it_is_read_gives_no_thumbnail_of_the_rest(
    tmp_path: Path, maker: ThumbnailMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = picture(mode="L", size=(2000, 2000), form="BMP")
    file = tmp_path / "a.bmp"
    file.write_bytes(body)
    store = MemoryStore()
    store.add("out/a.bmp", body)
    mtime_ns = file.stat().st_mtime_ns
    asset = PicturedAsset(b"a" * 16, "out/a.bmp", "a.bmp", len(body), mtime_ns, None, KINDS.index("image"))
    thumbnails = Thumbnails(tmp_path, tmp_path, store, maker=maker)
    thumbnails.open()

    def open_and_cut(*arguments: Any) -> Any:
        opened = open_same_file(*arguments)
        os.truncate(file, len(body) // 2)
        return opened

    monkeypatch.setattr("cloud_archive.catalog.thumbnails.thumbnails.open_same_file", open_and_cut)
    thumbnails.make_local(asset)
    assert thumbnails.cached(asset) is None
    file.write_bytes(body)
    os.utime(file, ns=(mtime_ns, mtime_ns))
    assert thumbnails.thumbnail(asset).mime_type == "image/webp"
    assert store.count("GetObject") == 1  # all bytes are in the bucket
    thumbnails.close()


def test_a_cache_that_is_locked_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_archive.catalog.thumbnails.cache._BUSY_SECONDS", 0.05)
    cache = ThumbnailCache(tmp_path / "t.sqlite3")
    cache.open()
    cache.put(b"a", "v", b"1")
    cache.close()
    other = sqlite3.connect(tmp_path / "t.sqlite3", isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    cache.open()
    assert cache.get(b"a", "v") is None
    other.close()
    cache.open()
    assert cache.get(b"a", "v") == b"1"
    cache.close()


def test_a_cache_that_can_only_be_read_still_gives_its_thumbnails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.thumbnails.cache._BUSY_SECONDS", 0.05)
    cache = ThumbnailCache(tmp_path / "t.sqlite3")
    cache.open()
    cache.put(b"a", "v", b"1")
    other = sqlite3.connect(tmp_path / "t.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert cache.get(b"a", "v") == b"1"
    other.close()
    cache.close()
