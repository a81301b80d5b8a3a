"""Open the panel and the library, and read them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.stage import Scene
from tests.servers import wait_until

TITLES = {
    "idle": "Up to date",
    "uploading": "Uploading",
    "retrying": "Retrying",
    "attention": "Needs attention",
    "stopped": "Stopped",
    "stopping": "Stopping",
    "standby": "Standby",
    "starting": "Starting",
    "checking": "Checking for changes",
    "unavailable": "Engine not answering",
    "not_configured": "Not configured",
}
PANEL = "cloud-archive-panel"
APP = "cloud-archive-app"
GALLERY = "cloud-archive-gallery"
_TAB_IS_THERE = "window.app?.extensionManager?.getSidebarTabs().some(t => t.id === 'cloud-archive')"


def intercept(
    page: Page, url: str | re.Pattern[str], handle: Callable[[Route], object], *, times: int | None = None
) -> None:
    """Let `handle` answer each request to an address from now on, or the next `times`, also on a page that is open.

    `Page.route` returns before an open page knows of its first route. A press overtakes that news, and the request that
    it makes is not answered by `handle`; a call of `evaluate` comes after the news.
    """
    page.route(url, handle, times=times)
    page.evaluate("true")


class HeldRequests:
    """Hold each request to an address until `release`; later ones pass.

    Attributes:
        routes: what is held.
    """

    def __init__(self, page: Page, url: str | re.Pattern[str]) -> None:
        self.routes: list[Route] = []
        self._page = page
        self._released = False
        intercept(page, url, self._handle)

    def _handle(self, route: Route) -> None:
        if self._released:
            route.continue_()
        else:
            self.routes.append(route)

    def wait(self, what: str) -> None:
        """Wait until a request is held; `what` describes it."""
        wait_until(lambda: self._page.evaluate("true") and bool(self.routes), what)

    def release(self) -> None:
        self._released = True
        for route in self.routes:
            route.continue_()


def open_dashboard(page: Page, address: str) -> Locator:
    """Open the daemon's page; return its panel."""
    page.goto(address)
    return page.locator(PANEL)


def open_comfy(page: Page, address: str) -> None:
    """Open ComfyUI's page, and wait until our tab is registered."""
    page.goto(address)
    page.wait_for_function(_TAB_IS_THERE, timeout=120_000)


def toggle_tab(page: Page) -> None:
    """Open or close the tab as a click on its icon does."""
    page.evaluate("app.extensionManager.sidebarTab.toggleSidebarTab('cloud-archive')")


def open_tab(page: Page, address: str) -> Locator:
    """Open ComfyUI's page and our tab; return the panel."""
    open_comfy(page, address)
    toggle_tab(page)
    panel = page.locator(PANEL)
    panel.wait_for()
    return panel


def open_library(page: Page, scene: Scene, query: str = "") -> Locator:
    """Open the library on the daemon's page, and wait for its first tile; return the library."""
    page.goto(f"{scene.address}/?library{query}")
    gallery = page.locator(GALLERY)
    expect(gallery.locator(".tile:not(.waiting)").first).to_be_visible()
    return gallery


def press(gallery: Locator, *keys: str) -> None:
    """Press keys with the timeline in focus."""
    timeline = gallery.locator(".list-box")
    timeline.focus()
    for key in keys:
        gallery.page.keyboard.press(key)


def tab(page: Page) -> dict[str, Any]:
    """Return the tab's icon, badge and tooltip from the frontend."""
    found = page.evaluate(
        "(() => { const t = app.extensionManager.getSidebarTabs().find(t => t.id === 'cloud-archive');"
        " return {icon: t.icon, badge: t.iconBadge, tooltip: t.tooltip}; })()"
    )
    assert isinstance(found, dict)
    return found


def toasts(page: Page, text: str) -> Locator:
    """Return the frontend's notifications with this text; those that fade out count, too."""
    return page.locator(".p-toast-message, [data-sonner-toast], [role=status], [role=alert]").filter(
        has_text=text
    )


def wait_for_copy(page: Page, start: str, end: str = "") -> None:
    """Wait until the clipboard holds a text that begins and ends so."""

    def is_copied() -> bool:
        text = str(page.evaluate("navigator.clipboard.readText()"))
        return text.startswith(start) and text.endswith(end)

    wait_until(is_copied, f"{start}…{end} is copied")


def heading(panel: Locator) -> Locator:
    """Return the state in the panel's header, in words."""
    return panel.locator(".state h2")


def wait_for_state(page: Page, state: str) -> None:
    """Wait until the daemon's page has received this state, which its library does not show."""
    page.wait_for_function(
        f"state => document.querySelector('{APP}').client.status?.state === state", arg=state
    )


def serious_findings(page: Page, inside: str = APP, *shadow: str) -> list[str]:
    """Return axe-core's serious and critical findings, once no list is dimmed because it waits for its next page."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found: list[str] = []
    for _ in range(3):  # a refresh may begin while axe runs
        expect(page.locator(f'{inside} [aria-busy="true"]')).to_have_count(0)
        # Violations only: the list of passes has 600 kB.
        violations = page.evaluate(
            "async (path) => (await axe.run({include: [{fromShadowDom: path}]},"
            " {resultTypes: ['violations']})).violations",
            [inside, *shadow],
        )
        found = [
            f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
            for one in violations
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        if not found:
            break
    return found
