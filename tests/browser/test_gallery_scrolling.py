"""A library that is taller than browsers can scroll."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.pages import intercept, open_library, press
from tests.browser.stage import Scene
from tests.browser.test_gallery_views import original_shapes
from tests.servers import wait_until

_LAST_SHOWN = """root => Math.max(
  ...[...root.querySelectorAll('.tile:not([hidden])')].map((tile) => Number(tile.ariaPosInSet)))"""


@pytest.mark.parametrize("justified", [False, True])
def test_the_last_of_a_million_files_is_reached_in_a_narrow_page(
    page: Page, library: Scene, justified: bool
) -> None:
    """The timeline is 90 million pixels tall; Chromium scrolls through 33 million."""
    newest = date.fromisoformat(library.catalog.assets[0]["created_at"][:10])
    days = [{"name": str(newest - timedelta(days=number)), "count": 5_000} for number in range(200)]
    intercept(page, "**/cloud-sync/facets*", lambda route: _with_days(route, days))
    page.set_viewport_size({"width": 380, "height": 700})
    gallery = open_library(page, library)
    if justified:
        original_shapes(page, gallery)
    scroller = gallery.locator(".scroller")

    def last_shown() -> int:
        return int(scroller.evaluate(_LAST_SHOWN))

    press(gallery, "End")
    last = gallery.locator(".tile.current")
    expect(last).to_have_attribute("aria-posinset", "1000000")
    expect(last).to_be_in_viewport(ratio=0.9)
    expect(gallery.locator(".day:visible").last).to_contain_text("5,000")
    expect(gallery.locator(".scrubber")).to_have_attribute("aria-valuenow", "200")
    press(gallery, "PageUp", "ArrowDown")
    assert 999_900 < int(last.get_attribute("aria-posinset") or 0) < 1_000_000
    expect(last).to_be_in_viewport(ratio=0.9)
    press(gallery, "Home")
    expect(last).to_have_attribute("aria-posinset", "1")
    expect(last).to_be_in_viewport(ratio=0.9)
    # The wheel alone gets there, too.
    places = [last_shown()]
    while places[-1] < 1_000_000:
        scroller.evaluate("root => { root.scrollTop = root.scrollHeight; }")
        wait_until(lambda: last_shown() > places[-1], "later files are shown")
        places.append(last_shown())
    box = gallery.locator(".scrubber").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 10, box["y"] + box["height"] / 2)
    wait_until(lambda: 450_000 < last_shown() < 550_000, "the middle is shown")
    page.mouse.click(box["x"] + 10, box["y"] + box["height"] / 4)
    wait_until(lambda: 200_000 < last_shown() < 300_000, "another place is shown")


@pytest.mark.parametrize("library", [2000], indirect=True)
def test_a_fast_scroll_moves_no_node_in_the_document(page: Page, library: Scene) -> None:
    """Each move costs layout and style; the tiles that leave serve again where they are, in their order."""
    gallery = open_library(page, library)
    scroller = gallery.locator(".scroller")
    moves = scroller.evaluate(
        """async (root) => {
          const frames = async () => { for (let n = 0; n < 3; n += 1) await new Promise(requestAnimationFrame); };
          const go = async (top) => { root.scrollTop = top; await frames(); };
          for (const top of [5000, 0, 9000]) await go(top);  // there are enough tiles now
          let moved = 0;
          const observer = new MutationObserver((records) => { moved += records.length; });
          observer.observe(root.querySelector(".canvas"), { childList: true });
          for (const top of [12000, 15000, 18000, 14000, 10000, 3000]) await go(top);
          return moved;
        }"""
    )
    assert moves < 30, "a few where a screen shows more tiles than the one before"
    numbers = gallery.locator(".tile:not([hidden])").evaluate_all(
        "tiles => tiles.map(tile => Number(tile.ariaPosInSet))"
    )
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _with_days(route: Route, days: list[dict[str, Any]]) -> None:
    route.fulfill(json=route.fetch().json() | {"days": days})
