"""The thumbnail that the viewer shows until the whole picture comes."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.pages import HeldRequests, open_library, press
from tests.browser.stage import Scene


@pytest.mark.parametrize("width", [380, 1280])
def test_the_preview_has_the_box_of_the_whole_picture(page: Page, library: Scene, width: int) -> None:
    library.catalog.assets[0] |= {"width": 1216, "height": 704}
    library.catalog.picture_size = (320, 320)
    page.set_viewport_size({"width": width, "height": 760})
    gallery = open_library(page, library)
    held = HeldRequests(page, "**/content")
    press(gallery, "Enter")
    preview, whole = (gallery.locator(f".viewer-stage img.{name}") for name in ("preview", "whole"))
    page.wait_for_function(
        "image => image.complete && image.naturalWidth === 320", arg=preview.element_handle()
    )
    before = box_of(preview)
    held.wait("the whole picture")
    library.catalog.picture_size = (1216, 1216)
    held.release()
    expect(preview).to_have_count(0)
    assert box_of(whole) == before


def box_of(node: Locator) -> list[int]:
    box = node.bounding_box()
    assert box is not None
    return [round(box[side]) for side in ("x", "y", "width", "height")]
