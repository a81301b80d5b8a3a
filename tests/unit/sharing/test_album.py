"""The page of an album: what it shows, and what a hostile name or prompt can't do."""

from __future__ import annotations

from typing import Any

from cloud_archive.sharing.album import AlbumItem, album_page

HOSTILE = '<script>alert("1")</script>\''


def item(name: str = "fox.png", kind: str | None = "image/png", **more: Any) -> AlbumItem:
    asset = {"name": name, "mime_type": kind, "metadata": {"prompt": "a red fox"}} | more
    return AlbumItem(asset, f"https://store.example/{len(name)}?a=1&b=2", (b"small", "image/webp"))


def page(*items: AlbumItem, title: str = "Foxes", with_prompts: bool = False) -> str:
    return album_page(title, items, until=1_775_046_896.9, with_prompts=with_prompts)


def test_each_file_is_a_picture_with_a_link() -> None:
    shown = page(item(), item("bear.png"))
    assert "<p>2 files; the links expire on 2026-04-01 12:34 UTC.</p>" in shown
    assert shown.count('<img src="data:image/webp;base64,c21hbGw="') == 2
    assert '<a href="https://store.example/7?a=1&amp;b=2" rel="noreferrer">fox.png</a>' in shown


def test_one_file_is_not_files() -> None:
    assert "<p>1 file; " in page(item())


def test_a_video_may_load_from_its_store_and_a_page_of_pictures_from_nowhere() -> None:
    video = page(item("clip.mp4", "video/mp4"))
    assert '<video controls preload="none" src="https://store.example/8?a=1&amp;b=2" poster="data:' in video
    assert "media-src https://store.example&quot;" in video or 'media-src https://store.example"' in video
    assert "media-src &#x27;none&#x27;" in page()


def test_a_file_without_a_picture_or_a_type_is_a_link() -> None:
    shown = page(item(kind=None)._replace(picture=None))
    assert "<img" not in shown
    assert ">fox.png</a>" in shown


def test_prompts_are_shown_only_if_that_is_wanted() -> None:
    assert "a red fox" not in page(item())
    assert '<p class="prompt">a red fox</p>' in page(item(), with_prompts=True)
    assert 'class="prompt"' not in page(item(metadata={"prompt": None}), with_prompts=True)


def test_names_prompts_and_titles_are_text() -> None:
    shown = page(item(HOSTILE, metadata={"prompt": HOSTILE}), title=HOSTILE, with_prompts=True)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#x27;") == 5


def test_a_name_that_is_no_utf_8_can_be_shown() -> None:
    assert ">nu??.png</a>" in page(item("nu\udcff\udce9.png")).encode("utf-8").decode("utf-8")
