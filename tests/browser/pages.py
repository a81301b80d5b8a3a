"""How a test opens the panel and looks at it."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from playwright.sync_api import Locator, Page, expect

PANEL = "cloud-archive-panel"
APP = "cloud-archive-app"
_TAB_IS_THERE = "window.app?.extensionManager?.getSidebarTabs().some(t => t.id === 'cloud-archive')"


def open_dashboard(page: Page, address: str) -> Locator:
    """The daemon's page; returns its panel."""
    page.goto(address)
    return page.locator(PANEL)


def open_comfy(page: Page, address: str) -> None:
    """ComfyUI's page, as far as our tab is registered."""
    page.goto(address)
    page.wait_for_function(_TAB_IS_THERE, timeout=120_000)


def toggle_tab(page: Page) -> None:
    """Open or close the tab, as a click on its icon does."""
    page.evaluate("app.extensionManager.sidebarTab.toggleSidebarTab('cloud-archive')")


def open_tab(page: Page, address: str) -> Locator:
    """ComfyUI's page with our tab open; returns its panel."""
    open_comfy(page, address)
    toggle_tab(page)
    panel = page.locator(PANEL)
    panel.wait_for()
    return panel


def tab(page: Page) -> dict[str, Any]:
    """The tab's icon, badge and tooltip as the frontend has them."""
    found = page.evaluate(
        "(() => { const t = app.extensionManager.getSidebarTabs().find(t => t.id === 'cloud-archive');"
        " return {icon: t.icon, badge: t.iconBadge, tooltip: t.tooltip}; })()"
    )
    assert isinstance(found, dict)
    return found


def heading(panel: Locator) -> Locator:
    """The header's state in words."""
    return panel.locator(".state h2")


def serious_findings(page: Page, inside: str = APP, *shadow: str) -> list[str]:
    """What axe-core finds that is serious or critical; a list that waits for its next page is dimmed until it comes."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found: list[str] = []
    for _ in range(3):  # a refresh may begin while axe looks
        expect(page.locator(f'{inside} [aria-busy="true"]')).to_have_count(0)
        # Nothing but violations: all that is fine would be a list of 600 kB.
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
