"""The library in a real ComfyUI: an asset opens and serves as input exactly as its file does in ComfyUI itself.

It is skipped unless COMFYUI_DIR is set: see `tests.integration.real_comfyui`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import a_page
from tests.browser.pages import GALLERY, open_comfy, press, toggle_tab
from tests.integration.real_comfyui import ComfyUI, running_comfyui
from tests.servers import S3Server, wait_until

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]

COLOUR = 0x3366CC
# What is drawn on the canvas: the nodes with their places, values and links.
_DRAWN = """() => { const {nodes, links} = app.graph.serialize();
  return [nodes.map(({type, pos, size, widgets_values, inputs, outputs}) =>
    ({type, pos: [...pos], size: [...size], widgets_values, inputs, outputs})), links]; }"""
_ADD = """([source, values]) => {
  app.graph.clear();
  const from = LiteGraph.createNode(source);
  const to = LiteGraph.createNode("SaveImage");
  app.graph.add(from);
  app.graph.add(to);
  from.pos = [40, 60];
  to.pos = [420, 90];
  for (const [name, value] of Object.entries(values)) from.widgets.find(widget => widget.name === name).value = value;
  from.connect(0, to, 0);
  app.canvas.selectNode(from);
}"""


@pytest.fixture
def comfyui(tmp_path: Path, seaweedfs: S3Server) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path, seaweedfs) as running:
        yield running


def runs(page: Page, running: ComfyUI) -> list[dict[str, Any]]:
    """Run the workflow on the canvas; return the pictures that it saved."""
    before = set(running.ask("/history"))
    page.evaluate("() => app.queuePrompt(0)")
    wait_until(lambda: set(running.ask("/history")) > before, "it ran")
    (new,) = [entry for name, entry in running.ask("/history").items() if name not in before]
    assert new["status"]["status_str"] == "success", new["status"]
    return [image for output in new["outputs"].values() for image in output["images"]]


def workflows_known(running: ComfyUI) -> list[bool]:
    return [asset["has_workflow"] for asset in running.ask("/cloud-sync/assets")["assets"]]


def test_open_workflow_draws_what_the_file_does_and_use_as_input_runs(
    browser: Browser, comfyui: ComfyUI
) -> None:
    output = Path(comfyui.base) / "output"
    with a_page(browser) as (page, console):
        address = f"http://127.0.0.1:{comfyui.port}"
        page.request.post(f"{address}/settings", data={"Comfy.TutorialCompleted": True})
        open_comfy(page, address)
        page.wait_for_function("() => Boolean(LiteGraph.registered_node_types.EmptyImage)")
        page.evaluate(_ADD, ["EmptyImage", {"width": 96, "height": 64, "color": COLOUR}])
        (saved,) = runs(page, comfyui)
        wait_until(lambda: workflows_known(comfyui) == [True], "it is in the library")

        # ComfyUI's own way: the file dropped onto the canvas.
        page.evaluate("() => app.graph.clear()")
        page.evaluate(
            "async path => { const blob = await (await fetch(path)).blob();"
            " await app.handleFile(new File([blob], 'saved.png', {type: 'image/png'})); }",
            f"/api/view?filename={saved['filename']}&type=output",
        )
        expected = page.evaluate(_DRAWN)
        assert sorted(node["type"] for node in expected[0]) == ["EmptyImage", "SaveImage"]
        page.evaluate("() => app.graph.clear()")

        # From the library, of the bucket: the local file is gone.
        (output / saved["filename"]).unlink()
        toggle_tab(page)
        page.locator("cloud-archive-app").get_by_role("button", name="Library").click()
        gallery = page.locator(GALLERY)
        expect(gallery.locator(".tile img.there")).to_have_count(1)
        press(gallery, "Enter")
        viewer = gallery.get_by_role("dialog", name="Viewer")
        viewer.get_by_role("button", name="Open workflow").click()
        expect(viewer).to_be_hidden()
        page.wait_for_function("() => app.graph.serialize().nodes.length === 2")
        assert page.evaluate(_DRAWN) == expected

        # Used as input of a Load Image node, it is computed with.
        page.evaluate(_ADD, ["LoadImage", {}])
        press(gallery, "Enter")
        viewer.get_by_role("button", name="Use as input").click()
        expect(gallery.locator(".said")).to_have_text(f"Set as input: {saved['filename']}")
        page.keyboard.press("Escape")
        (again,) = runs(page, comfyui)
        picture = Image.open(io.BytesIO((output / again["filename"]).read_bytes())).convert("RGB")
        assert (picture.size, picture.getpixel((50, 30))) == ((96, 64), (0x33, 0x66, 0xCC))
        assert console.complaints == []
