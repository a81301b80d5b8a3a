"""An album in Chromium: it shows its pictures, links to the files, and sends requests to the store only."""

from __future__ import annotations

import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Request

from cloud_archive.sharing.share import ShareOrder
from tests.browser.conftest import a_page
from tests.filled import wait_until_filled
from tests.integration.archives import Archive
from tests.servers import S3Server, wait_until
from tests.unit.catalog.cataloguing import png
from tests.unit.sharing.samples import SAMPLES

PROMPT = '<img src="http://evil.example/x"><script>alert(1)</script>'


@pytest.mark.store
def test_an_album_sends_requests_to_the_store_only(
    tmp_path: Path, seaweedfs: S3Server, browser: Browser
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("fox.png", png(PROMPT))
    archive.write('evil" onerror="x.png', png(PROMPT, 2))
    archive.write("clip.webm", SAMPLES["webm"]("{}"))
    with archive.running() as engine:
        wait_until(lambda: engine.catalog().status()["assets"] == 3, "in the catalog")
        wait_until_filled(engine)
        assets = engine.catalog().search("", "name", "asc", 10, None).assets
        found = engine.share(
            [uuid.UUID(asset["id"]) for asset in assets],
            ShareOrder(3600, album="<i>Foxes</i>", with_prompts=True),
        )
    requests: list[Request] = []
    troubles: list[str] = []
    with a_page(browser, viewport={"width": 900, "height": 700}) as (page, _):
        page.on("request", lambda request: requests.append(request))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        album = found["album"]["url"]
        page.goto(album)
        assert page.locator("h1").inner_text() == "<i>Foxes</i>"
        assert page.locator("li").count() == 3
        assert page.locator("script").count() == 0
        assert PROMPT in page.locator(".prompt").first.inner_text()
        for picture in page.locator("img").all():
            assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.locator("video").evaluate("video => { video.muted = true; return video.play(); }")
        assert troubles == []
        page.locator("li a", has_text="fox.png").click()
        page.wait_for_url(lambda url: url != album)
        assert page.evaluate("document.images[0].naturalWidth") == 8
    store = urlsplit(seaweedfs.endpoint).netloc
    elsewhere = [
        one.url
        for one in requests
        if urlsplit(one.url).scheme != "data" and urlsplit(one.url).netloc != store
    ]
    assert elsewhere == []
