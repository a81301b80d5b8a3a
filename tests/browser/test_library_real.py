"""The library with a real engine, a real store and real clips; files of another machine, and freed ones."""

from __future__ import annotations

import hashlib
import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from cloud_archive.api.server import build_application
from cloud_archive.archive.engine import Engine
from cloud_archive.demo.media import make_comfyui_image
from tests.browser.clips import write_clips
from tests.browser.conftest import a_page
from tests.browser.pages import GALLERY, open_comfy, press, toggle_tab
from tests.browser.real_plugin import real_plugin
from tests.browser.stage import CURRENT_FRONTEND, Background, Scene
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store

# Records a player's events; the test polls the record, and times nothing.
_WATCH = """() => {
  const player = document.querySelector('cloud-archive-app').shadowRoot.querySelector('cloud-archive-gallery')
    .shadowRoot.querySelector('.player');
  window.player = player;
  window.heard = {times: 0, seeked: null};
  player.muted = true;
  player.loop = true;  // it must not end between two steps of the test
  player.addEventListener('timeupdate', () => { if (player.currentTime > 0 && !player.paused) heard.times += 1; });
  player.addEventListener('seeked', () => { heard.seeked = player.currentTime; });
}"""


class Real(NamedTuple):
    """The daemon's page with the files of its own machine and of another one."""

    page: Page
    address: str
    engine: Engine
    output: Path
    server: S3Server
    bodies: dict[str, bytes]


@contextmanager
def an_engine(base: Path, server: S3Server, machine: str) -> Iterator[Engine]:
    (base / "output").mkdir(parents=True)
    environ = {
        "CLOUD_ARCHIVE_MACHINE_NAME": machine,
        "CLOUD_ARCHIVE_SETTLE_SECONDS": "0.2",
        "S3_PREFIX": "out",
    }
    engine = Engine(base / "output", state_base=base / "state", environ=server.environ(**environ))
    engine.start(autostart=True)
    try:
        wait_until(lambda: engine.status().running, f"{machine} runs")
        yield engine
    finally:
        engine.close(10)


def archive(engine: Engine, output: Path, bodies: dict[str, bytes]) -> None:
    before = engine.status().archived_files
    for name, body in bodies.items():
        (output / name).write_bytes(body)
    wait_until(lambda: engine.status().archived_files == before + len(bodies), "all are archived")


@pytest.fixture(scope="module")
def real(
    browser: Browser,
    background: Background,
    seaweedfs_session: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Real]:
    base, server = tmp_path_factory.mktemp("library"), seaweedfs_session.with_fresh_bucket()
    theirs = make_comfyui_image(7, 160, 160)
    with an_engine(base / "theirs", server, "pod-2") as engine:
        archive(engine, base / "theirs" / "output", {"theirs.png": theirs})
        assert engine.drain(60), "the bucket's catalog knows it"
    clips = base / "clips"
    clips.mkdir()
    bodies = {name: (clips / name).read_bytes() for name in write_clips(clips)}
    bodies["freed.png"] = make_comfyui_image(8, 160, 160)
    with an_engine(base / "ours", server, "pod-1") as engine:
        output = base / "ours" / "output"
        archive(engine, output, bodies)
        (output / "freed.png").unlink()
        application = build_application(engine, token=None)
        with background.serving(application) as address, a_page(browser) as (page, console):
            yield Real(page, address, engine, output, server, bodies | {"theirs.png": theirs})
            page.goto("about:blank")
            assert console.complaints == []


def search_library(real: Real, query: str) -> Locator:
    real.page.goto(f"{real.address}/?library&q={query}")
    gallery = real.page.locator(GALLERY)
    expect(gallery.locator(".tile:not(.waiting)").first).to_be_visible()
    return gallery


def assert_plays_and_seeks(page: Page) -> None:
    page.evaluate(_WATCH)
    page.evaluate("player.play()")
    page.wait_for_function("() => heard.times >= 2")
    # On a busy machine the clip may have begun anew meanwhile, which is a seek, too.
    page.evaluate("player.pause(); heard.seeked = null; player.currentTime = 4.2")
    page.wait_for_function("() => heard.seeked !== null")
    assert page.evaluate("heard.seeked") == pytest.approx(4.2, abs=0.3)
    page.evaluate("heard.times = 0; player.play()")
    page.wait_for_function("() => heard.times >= 2 && player.currentTime > 4.2")


@pytest.mark.parametrize("name", ["colours.webm", "colours.mp4", "tone.wav", "tone.mp3", "tone.opus"])
def test_video_and_audio_play_and_are_sought_by_range(real: Real, name: str) -> None:
    page = real.page
    gallery = search_library(real, name)
    ranges: list[tuple[int, str]] = []

    def note(request: Request) -> None:
        answer = request.response()
        if request.url.endswith("/content") and answer is not None and "range" in request.headers:
            ranges.append((answer.status, request.headers["range"]))

    page.on("requestfinished", note)
    page.on("requestfailed", note)  # the browser ends a request where it seeks
    kind = page.evaluate("type => document.createElement('video').canPlayType(type)", {
        "colours.webm": 'video/webm; codecs="vp9"', "colours.mp4": 'video/mp4; codecs="avc1.42E01E"',
        "tone.wav": "audio/wav", "tone.mp3": "audio/mpeg", "tone.opus": 'audio/ogg; codecs="opus"',
    }[name])  # fmt: skip
    press(gallery, "Enter")
    if not kind:  # without this codec in Chromium, the page says so and offers the file for download
        expect(gallery.locator(".stage .none")).to_contain_text("This file can't be shown here.")
        return
    player = gallery.locator(".player")
    expect(player).to_have_attribute("aria-label", name)
    assert_plays_and_seeks(page)
    page.keyboard.press("Escape")
    expect(gallery.locator(".player")).to_have_count(0)
    wait_until(lambda: page.evaluate("true") and bool(ranges), "it was asked for by range")
    assert {status for status, _ in ranges} == {206}
    page.remove_listener("requestfinished", note)
    page.remove_listener("requestfailed", note)


def test_a_clip_whose_local_file_is_gone_plays_from_the_bucket(real: Real) -> None:
    (real.output / "colours.webm").unlink()
    gallery = search_library(real, "colours.webm")
    press(gallery, "Enter")
    expect(gallery.locator(".player")).to_be_visible()
    assert_plays_and_seeks(real.page)
    real.page.keyboard.press("Escape")
    sought = real.page.evaluate(
        "async path => { const answer = await fetch(path, {headers: {Range: 'bytes=1000-1999'}});"
        " const bytes = new Uint8Array(await answer.arrayBuffer());"
        " return [answer.status, answer.headers.get('content-range'), [...bytes]]; }",
        f"{real.address}/cloud-sync/assets/{identity(real, 'colours.webm')}/content",
    )
    body = real.bodies["colours.webm"]
    assert sought == [206, f"bytes 1000-1999/{len(body)}", list(body[1000:2000])]


def identity(real: Real, name: str) -> str:
    (asset,) = real.engine.catalog().search(name, "name", "asc", 9, None).assets
    return str(asset["id"])


@pytest.mark.parametrize("name", ["freed.png", "theirs.png"])
def test_a_freed_file_and_one_of_another_machine_show_open_and_come_back(real: Real, name: str) -> None:
    wait_until(lambda: real.engine.catalog().search(name, "name", "asc", 9, None).total == 1, "it is known")
    gallery = search_library(real, name)
    expect(gallery.locator(".tile img.there")).to_have_count(1)
    press(gallery, "Enter")
    whole = gallery.locator(".viewer img.whole")
    expect(whole).to_be_visible()
    real.page.wait_for_function("image => image.naturalWidth === 160", arg=whole.element_handle())
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer).to_contain_text("pod-2" if name == "theirs.png" else "pod-1")
    with real.page.expect_download() as saved:
        viewer.get_by_role("button", name="Download", exact=True).click()
    assert Path(saved.value.path()).read_bytes() == real.bodies[name]
    with real.page.expect_download() as saved:
        viewer.get_by_role("button", name="Download workflow").click()
    assert b'"KSampler"' in Path(saved.value.path()).read_bytes()
    real.page.keyboard.press("Escape")


def test_a_file_that_is_archived_now_appears_on_top_with_its_thumbnail_by_itself(real: Real) -> None:
    gallery = search_library(real, "type:image")
    archive(real.engine, real.output, {"fresh.png": make_comfyui_image(9, 192, 128)})
    newest = gallery.locator('.tile[aria-posinset="1"]')
    expect(newest).to_have_attribute("title", "fresh.png")
    expect(newest.locator("img")).to_have_attribute("src", re.compile(r"/thumbnail\?"))
    expect(newest.locator("img")).to_have_js_property("naturalWidth", 192)


@CURRENT_FRONTEND
def test_files_used_as_input_in_comfyui_come_back_byte_for_byte(
    real: Real, comfy: tuple[Page, Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, scene = comfy
    directory = tmp_path / "input"
    directory.mkdir()
    folder_paths: Any = types.ModuleType("folder_paths")
    folder_paths.get_input_directory = lambda: str(directory)
    monkeypatch.setitem(sys.modules, "folder_paths", folder_paths)
    for name, value in real.server.environ(S3_PREFIX="out", CLOUD_ARCHIVE_MACHINE_NAME="pod-3").items():
        monkeypatch.setenv(name, value)
    output = tmp_path / "output"
    output.mkdir()
    assert real.engine.flush(60), "the bucket's catalog knows all files"

    def reads_from_the_bucket() -> bool:
        assets = f"{scene.address}/cloud-sync/assets"
        found = page.request.get(f"{assets}?q=freed.png").json().get("assets")
        return bool(found) and page.request.get(f"{assets}/{found[0]['id']}/content").ok

    with real_plugin(scene, output, tmp_path / "state"):
        wait_until(reads_from_the_bucket, "the engine has loaded the SDK, which takes long on a busy machine")
        open_comfy(page, scene.address)
        toggle_tab(page)
        page.locator("cloud-archive-app").get_by_role("button", name="Library").click()
        gallery = page.locator(GALLERY)
        for name in ("freed.png", "theirs.png"):
            gallery.get_by_role("combobox").fill(name)
            expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", name)
            press(gallery, "Enter")
            viewer = gallery.get_by_role("dialog", name="Viewer")
            viewer.get_by_role("button", name="Use as input").click()
            expect(gallery.locator(".said")).to_have_text(f"In ComfyUI's input directory: {name}")
            page.keyboard.press("Escape")
            expect(viewer).to_be_hidden()
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    names = ("freed.png", "theirs.png")
    assert found == {name: hashlib.sha256(real.bodies[name]).hexdigest() for name in names}
