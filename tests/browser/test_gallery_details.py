"""What the viewer says about a file whose prompt and settings were not found."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

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
