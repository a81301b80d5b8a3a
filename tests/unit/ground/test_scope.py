"""Which keys are an archive's outputs."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.keys import PLACEHOLDERS, PrefixTemplate, object_key
from cloud_archive.scope import KeyScope

ALL_OF_THEM = "x-" + "-".join(f"{{{name}}}" for name in (*PLACEHOLDERS, "session_id"))


@given(
    st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1)), st.integers(0, (1 << 128) - 1), st.booleans()
)
def test_every_rendering_of_a_template_is_in_its_scope(moment: datetime, bits: int, twice: bool) -> None:
    template = PrefixTemplate.parse(f"{ALL_OF_THEM}/{{Y}}" if twice else ALL_OF_THEM)
    session = str(uuid.UUID(int=bits, version=4))
    key = object_key(template.render(moment, session), "a.png")
    scope = KeyScope(template)
    assert scope.holds(key)
    assert key.startswith(scope.listing_prefix)
    assert key.startswith(scope.head)


def test_every_day_of_a_leap_year_is_in_the_scope() -> None:
    for name in PLACEHOLDERS:
        template = PrefixTemplate.parse(f"{{{name}}}")
        scope = KeyScope(template)
        for hours in range(0, 366 * 24, 7):
            moment = datetime(2028, 1, 1) + timedelta(
                hours=hours, minutes=hours % 60, seconds=59 - hours % 60
            )
            assert scope.holds(f"{template.render(moment, '')}/a.png"), name


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("comfy-{Y}", "comfy-old/a.png"),
        ("comfy-{Y}", "comfy-2026x/a.png"),
        ("comfy-{Y}", "comfy-2026.png"),
        ("comfy-{Y}", "other/comfy-2026/a.png"),
        ("comfy-{Y}", ".cloud-archive/v1/segments/a.gz"),
        ("comfy-{Y}", "invoices/2026.pdf"),
        ("outputs/{Y}-{m}-{d}", "outputs/2026-13-01/a.png"),
        ("outputs/{Y}-{m}-{d}", "outputs/a.png"),
        ("outputs/{Y}-{m}-{d}", "outputs/.cloud-archive/check"),
        ("outputs/{Y}-{m}-{d}", "outputs/2026-01-01"),
        ("outputs/{Y}/{Y}-{m}", "outputs/2026/2025-01/a.png"),
        ("{session_id}", "backups/a.png"),
        ("{session_id}", "00000000-0000-1000-8000-000000000000/a.png"),
        ("outputs", "outputs/.cloud-archive/check"),
        ("outputs", "outputs/.cloud-archive-check"),
        ("outputs", "outputs-old/a.png"),
        ("out.puts", "outXputs/a.png"),
        ("", ".cloud-archive/v1/x"),
        ("", ".cloud-archive-check"),
        ("", "outputs/.cloud-archive/v1/segments/a.gz"),
        ("outputs", "outputs/sub/.cloud-archive/v1/segments/a.gz"),
    ],
)
def test_what_is_outside_the_template_or_reserved_is_no_output(text: str, key: str) -> None:
    assert not KeyScope(PrefixTemplate.parse(text)).holds(key)


@pytest.mark.parametrize(
    ("text", "key", "folder"),
    [
        ("", ".cloud-archive/v1/segments/a.gz", ""),
        ("", "outputs/.cloud-archive/v1/segments/a.gz", "outputs/"),
        ("outputs/{Y}", "outputs/.cloud-archive/v1/segments/a.gz", ""),
        ("outputs/{Y}", "outputs/2026/.cloud-archive/v1/segments/a.gz", "outputs/2026/"),
        ("outputs", "outputs/a.png", ""),
    ],
)
def test_the_own_catalog_is_not_another_archives(text: str, key: str, folder: str) -> None:
    assert KeyScope(PrefixTemplate.parse(text)).other_archive(key) == folder


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "a.png"),
        ("outputs", "outputs/sub/.cloud-archive/a.png"),
        ("outputs/{Y}", "outputs/2026/.cloud-archive/a.png"),
        ("outputs", "outputs/.cloud-archive-checked"),
        ("outputs", "outputs/a\nb.png"),
    ],
)
def test_what_only_looks_reserved_is_an_output(text: str, key: str) -> None:
    assert KeyScope(PrefixTemplate.parse(text)).holds(key)


def test_a_folder_narrows_the_template_or_replaces_it() -> None:
    template = PrefixTemplate.parse("outputs/{Y}-{m}-{d}")
    narrow = KeyScope(template, "outputs/2026-04-01/")
    assert (narrow.head, narrow.listing_prefix) == ("outputs/2026-04-01/", "outputs/2026-04-01/")
    assert narrow.holds("outputs/2026-04-01/a.png")
    assert not narrow.holds("outputs/2026-04-02/a.png")
    assert not KeyScope(template, "other").holds("other/a.png")
    anywhere = KeyScope(template, "other", anywhere=True)
    assert anywhere.holds("other/a.png")
    assert not anywhere.holds("other/.cloud-archive/x")
    whole = KeyScope(template, "", anywhere=True)
    assert whole.holds("a.png")
    assert not whole.holds("outputs/.cloud-archive/x")
    assert not whole.holds(".cloud-archive/x")
    brace = KeyScope(template, "a}b", anywhere=True)
    assert brace.holds("a}b/a.png")
    assert not brace.holds("ab/a.png")


@pytest.mark.parametrize(
    ("text", "head", "listing"),
    [
        ("", "", ""),
        ("outputs", "outputs/", "outputs/"),
        ("outputs/{Y}-{m}", "outputs/", "outputs/"),
        ("comfy-{Y}/x", "", "comfy-"),
        ("{Y}", "", ""),
    ],
)
def test_a_listing_begins_with_all_that_is_fixed(text: str, head: str, listing: str) -> None:
    scope = KeyScope(PrefixTemplate.parse(text))
    assert (scope.head, scope.listing_prefix) == (head, listing)


@pytest.mark.parametrize(
    ("text", "below", "above"),
    [
        ("", None, ()),
        ("", "out/sub", ("out/",)),
        ("out", None, ("",)),
        ("out", "out/a/b", ("", "out/a/")),
        ("out/a/b", "out", ("", "out/", "out/a/")),
        ("out/comfy-{Y}", None, ("",)),
        ("comfy-{Y}/x", "comfy-2026/x/y", ("comfy-2026/", "comfy-2026/x/")),
    ],
)
def test_another_archive_may_have_its_catalog_in_any_folder_above_the_listing(
    text: str, below: str | None, above: tuple[str, ...]
) -> None:
    assert KeyScope(PrefixTemplate.parse(text), below).above == above


@pytest.mark.parametrize(
    ("text", "below", "possible"),
    [
        ("", "anything", True),
        ("outputs", "outputs/sub", True),
        ("outputs", "out", False),
        ("outputs/{Y}-{m}/x", "outputs", True),
        ("outputs/{Y}-{m}/x", "outputs/2026-04", True),
        ("outputs/{Y}-{m}/x", "outputs/2026-14", False),
        ("outputs/{Y}-{m}/x", "outputs/2026-04/y", False),
        ("outputs/{Y}-{m}/x", "outputs/2026-04/x/deep/er", True),
        ("outputs/{Y}", "", True),
    ],
)
def test_a_folder_outside_the_prefix_is_known_as_such(text: str, below: str, possible: bool) -> None:
    assert KeyScope(PrefixTemplate.parse(text), below).is_possible is possible
