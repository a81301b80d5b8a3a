"""The library in the real frontend: use an asset again on the canvas, and leave nothing behind when it closes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from cloud_archive.demo.media import make_prompt, make_workflow
from tests.browser.conftest import Console
from tests.browser.pages import GALLERY, serious_findings, tab, toggle_tab
from tests.browser.scripted_catalog import ScriptedCatalog
from tests.browser.stage import Scene
from tests.servers import wait_until

_NODES = "app.graph._nodes.map(node => node.type).sort().join()"
_LOADER = """() => {
  class Loader extends LiteGraph.LGraphNode {
    constructor(title) {
      super(title ?? "Loader");
      this.addWidget("combo", "image", "old.png", () => {}, { values: ["old.png"] });
    }
  }
  LiteGraph.registerNodeType("test/Loader", Loader);
  const node = LiteGraph.createNode("test/Loader");
  app.graph.add(node);
  node.pos = [0, 0];
  app.canvas.ds.offset = [600, 300];
  app.canvas.ds.scale = 1;
  app.canvas.selectNode(node);
  window.loader = node;
}"""


@pytest.fixture(scope="module")
def served(booted: tuple[Page, Scene, Path, Console]) -> Iterator[tuple[Page, Scene, Console]]:
    """The real frontend with forty assets in the scripted catalog, and the library in its sidebar."""
    page, scene, output, console = booted
    assert scene.comfy is not None
    before, catalog = scene.catalog, ScriptedCatalog(40, per_day=10)
    catalog.workflow = make_workflow(make_prompt(1))
    scene.catalog = catalog
    scene.comfy.attach([*scene.model.routes(), *catalog.routes()], output)
    page.wait_for_selector("#splash-loader", state="detached")
    shown = page.locator("cloud-archive-app")
    if shown.count():
        toggle_tab(page)  # a library that another test has left open shows that test's catalog
        expect(shown).to_have_count(0)
    toggle_tab(page)
    shown.get_by_role("button", name="Library").click()
    gallery = page.locator(GALLERY)
    gallery.get_by_role("combobox").fill("")
    expect(gallery.locator(".line")).to_contain_text("40 files")
    yield page, scene, console
    shown.get_by_role("button", name="Status").click()
    page.evaluate("app.graph.clear()")
    scene.catalog = before
    scene.comfy.attach([*scene.model.routes(), *before.routes()], output)


@pytest.fixture
def library(served: tuple[Page, Scene, Console]) -> Iterator[tuple[Page, Scene, Locator]]:
    """The library in the sidebar, with an empty canvas."""
    page, scene, console = served
    page.evaluate("app.graph.clear()")
    scene.catalog.calls.clear()
    gallery = page.locator(GALLERY)
    expect(gallery.locator(".tile:not(.waiting)").first).to_be_visible()
    yield page, scene, gallery
    complaints, console.complaints = console.complaints, []
    assert complaints == []


def _open_viewer(page: Page, gallery: Locator) -> Locator:
    gallery.locator(".list-box").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer).to_be_visible()
    return viewer


def test_open_workflow_puts_its_nodes_on_the_canvas(library: tuple[Page, Scene, Locator]) -> None:
    page, _, gallery = library
    viewer = _open_viewer(page, gallery)
    viewer.get_by_role("button", name="Open workflow").click()
    expect(viewer).to_be_hidden()
    page.wait_for_function(f"({_NODES}).includes('KSampler')")
    names = (
        "CLIPTextEncode,CLIPTextEncode,CheckpointLoaderSimple,EmptyLatentImage,KSampler,SaveImage,VAEDecode"
    )
    assert page.evaluate(_NODES) == names


def test_use_as_input_sets_the_selected_node(library: tuple[Page, Scene, Locator]) -> None:
    page, scene, gallery = library
    page.evaluate(_LOADER)
    viewer = _open_viewer(page, gallery)
    viewer.get_by_role("button", name="Use as input").click()
    expect(gallery.locator(".said")).to_have_text("Set as input: picture_000000_.png")
    assert page.evaluate("loader.widgets[0].value") == "picture_000000_.png"
    assert page.evaluate("loader.widgets[0].options.values.includes('picture_000000_.png')")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    assert any(call[1].endswith("/bring-back") for call in scene.catalog.calls)


def test_a_tile_dropped_on_the_canvas_opens_its_workflow(library: tuple[Page, Scene, Locator]) -> None:
    page, _, gallery = library
    gallery.locator(".tile:not(.waiting)").nth(1).drag_to(
        page.locator("#graph-canvas"), target_position={"x": 900, "y": 600}
    )
    page.wait_for_function(f"({_NODES}).includes('KSampler')")


def test_axe_finds_nothing_serious_in_the_sidebar(library: tuple[Page, Scene, Locator]) -> None:
    page, _, _ = library
    assert serious_findings(page) == []


def test_the_viewer_leaves_comfyui_s_history_alone(library: tuple[Page, Scene, Locator]) -> None:
    """The frontend's router keeps a state of its own in each entry, and names the workflow in the address."""
    page, _, gallery = library
    entry = "[history.length, JSON.stringify(history.state), location.href]"
    before = page.evaluate(entry)
    viewer = _open_viewer(page, gallery)
    expect(viewer.locator("h2")).to_be_visible()
    assert page.evaluate(entry) == before
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    assert page.evaluate(entry) == before


def test_the_library_comes_back_to_its_place_when_the_sidebar_opens_again(
    library: tuple[Page, Scene, Locator],
) -> None:
    page, _, gallery = library
    gallery.locator(".list-box").focus()
    page.keyboard.press("End")
    last = gallery.locator('.tile[title="picture_000039_.png"]')
    expect(last).to_be_in_viewport()
    toggle_tab(page)
    expect(gallery).to_have_count(0)
    toggle_tab(page)
    expect(last).to_be_in_viewport()


def test_twenty_openings_leave_nothing_behind(library: tuple[Page, Scene, Locator]) -> None:
    page, scene, gallery = library
    page.evaluate((Path(__file__).parent / "instruments.js").read_text("utf-8"))

    def open_and_close(times: int) -> None:
        for _ in range(times):
            toggle_tab(page)
            expect(gallery.locator(".tile img.there").first).to_be_attached()
            toggle_tab(page)
            expect(page.locator("cloud-archive-app")).to_have_count(0)

    toggle_tab(page)
    open_and_close(1)
    lasting = page.evaluate("ourLasting()")
    open_and_close(20)
    assert page.evaluate("[ourLasting(), ourClocks(), ourUrls()[0]]") == [lasting, 0, 0]
    # One timer is the client's own: after it a silent server counts as lost.
    wait_until(lambda: page.evaluate("ourTimers()") == [1, 0], "no timer more than that")
    # A closed library asks for nothing any more.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))  # ComfyUI's own, too
    scene.show(archived_files=4321, state="stopped")
    wait_until(lambda: tab(page)["tooltip"] == "Cloud Archive: Stopped", "the page has heard it")
    page.evaluate("new Promise(done => setTimeout(done, 1000))")  # an open one asks after 0.6 s
    assert not [url for url in asked if "/cloud-sync/assets" in url or "/cloud-sync/facets" in url]
    scene.show(state="idle")
    toggle_tab(page)
    expect(gallery.locator(".tile:not(.waiting)").first).to_be_visible()
