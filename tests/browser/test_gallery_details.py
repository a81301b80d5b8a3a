"""What the viewer says about a file whose prompt and settings were not found, and how it shows a prompt."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect

from tests.browser.conftest import a_page
from tests.browser.pages import open_library, press
from tests.browser.stage import Scene

_FACTS = ("prompt", "negative_prompt", "seed", "sampler", "scheduler", "steps", "cfg")


@pytest.mark.parametrize(
    ("has_workflow", "has_prompt", "words"),
    [
        (True, False, "Its workflow is known, but no prompt or settings were found in it."),
        (False, True, "Its workflow is known, but no prompt or settings were found in it."),
        (False, False, "It is not known how this file was made."),
    ],
)
def test_a_workflow_without_a_prompt_is_known_all_the_same(
    page: Page, library: Scene, has_workflow: bool, has_prompt: bool, words: str
) -> None:
    asset = library.catalog.assets[0]
    asset |= {"has_workflow": has_workflow, "has_prompt": has_prompt}
    asset["metadata"] |= {**dict.fromkeys(_FACTS), "models": [], "loras": []}
    gallery = open_library(page, library)
    press(gallery, "Enter")
    expect(gallery.locator(".details > .quiet")).to_have_text(words)


def test_a_shadow_shows_which_prompt_goes_on_below(browser: Browser, library: Scene) -> None:
    for asset, lines in zip(library.catalog.assets, (1, 40), strict=False):
        asset["metadata"]["prompt"] = "\n".join("x" * lines)
    with a_page(browser, color_scheme="light", device_scale_factor=2) as (page, _):
        gallery = open_library(page, library)
        press(gallery, "Enter")
        prompt = gallery.get_by_role("dialog", name="Viewer").locator(".prompt").first
        expect(prompt).to_have_text("x")
        assert _darkest_beside_the_text(prompt) > 245
        page.keyboard.press("ArrowRight")
        expect(prompt).to_contain_text("x\nx")
        assert _darkest_beside_the_text(prompt) < 235


def _darkest_beside_the_text(prompt: Locator) -> int:
    """Return the least brightness, from 0 to 255, in the middle of a box of short lines."""
    box = prompt.bounding_box()
    assert box is not None
    middle, top = round(box["x"] + box["width"] / 2), round(box["y"])
    clip: FloatRect = {"x": middle, "y": top - 2, "width": 20, "height": round(box["height"]) + 4}
    with Image.open(io.BytesIO(prompt.page.screenshot(clip=clip))) as picture:
        return int(picture.convert("L").getextrema()[0])
