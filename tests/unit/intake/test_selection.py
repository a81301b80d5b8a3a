"""Which files are wanted."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from cloud_archive.intake.selection import MEDIA_EXTENSIONS, Selection

unhurried = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine


def test_without_patterns_everything_is_wanted() -> None:
    selection = Selection()

    assert all(map(selection.wants, ["a.png", "sub/b", "sub/dir/c.JSON", "x.partial", "temp/tmp.png", "a~b"]))
    assert all(map(selection.wants, ["my thumbs.db", "desktop.ini.png", "thumbs.db/a.png", "a.ini", "a.db"]))


@pytest.mark.parametrize(
    "path",
    [
        *("a.part", "a.png.part", "a.tmp", "sub/A.TMP", "a.Part", "notes.txt~", "~", "sub/~"),
        *("desktop.ini", "sub/Thumbs.db", "EHTHUMBS.DB"),
        *(".hidden", ".hidden.png", "sub/.DS_Store", ".cache/a.png", "sub/.git/config", "a/.b/c/d.png"),
    ],
)
@pytest.mark.parametrize("include", [(), ("*",), ("@media",), ("*.tmp", ".*", "**/.cache/**")])
def test_temporary_and_hidden_names_are_never_wanted(path: str, include: tuple[str, ...]) -> None:
    assert not Selection(include).wants(path)


def test_a_folder_with_a_temporary_looking_name_hides_nothing() -> None:
    assert Selection().wants("render.tmp/a.png")


@pytest.mark.parametrize("extension", MEDIA_EXTENSIONS)
def test_media_matches_in_any_case_and_at_any_depth(extension: str) -> None:
    for selection in (Selection(["@media"]), Selection(["@media", "*.txt"])):
        assert selection.wants(f"a.{extension}")
        assert selection.wants(f"sub/dir/a.{extension.upper()}")
        assert selection.wants(f"a.{extension.capitalize()}")
        assert not selection.wants(f"a.{extension}.json")
        assert not selection.wants(extension)


def test_media_is_the_list_of_the_contract() -> None:
    contract = "png jpg jpeg webp gif mp4 webm mkv mov wav mp3 flac ogg opus"

    assert list(MEDIA_EXTENSIONS) == contract.split()


def test_include_leaves_out_what_it_does_not_match() -> None:
    selection = Selection(["*.png", "video/"])

    assert selection.wants("a/b/c.png")
    assert selection.wants("video/x.txt")
    assert selection.wants("a/video/x.txt")
    assert not selection.wants("a.jpg")


def test_exclude_wins_over_include() -> None:
    selection = Selection(["@media"], ["drafts/", "*.wav"])

    assert selection.wants("a.png")
    assert not selection.wants("drafts/a.png")
    assert not selection.wants("a.wav")


def test_exclude_alone_takes_from_everything() -> None:
    selection = Selection((), ["/temp/**", "*.json"])

    assert selection.wants("a.png")
    assert selection.wants("sub/temp/a.png")
    assert not selection.wants("temp/a.png")
    assert not selection.wants("sub/a.json")


def test_a_negation_takes_back_within_its_list() -> None:
    include = Selection(["@media", "!preview*"])
    exclude = Selection([], ["drafts/*", "!drafts/keep.png"])

    assert include.wants("a.png")
    assert not include.wants("preview_1.png")
    assert exclude.wants("drafts/keep.png")
    assert not exclude.wants("drafts/other.png")


def test_the_last_pattern_that_matches_decides() -> None:
    assert Selection(["!a.png", "*.png"]).wants("a.png")
    assert not Selection(["*.png", "!a.png"]).wants("a.png")


def test_media_can_be_negated() -> None:
    selection = Selection(["*", "!@media"])

    assert selection.wants("a.json")
    assert not selection.wants("a.PNG")


def test_a_list_of_negations_only_takes_back_from_everything() -> None:
    selection = Selection(["!*.wav"])

    assert selection.wants("a.png")
    assert not selection.wants("a.wav")


def test_blank_lines_and_comments_say_nothing() -> None:
    assert Selection(["", "  ", "# all of it"]).wants("a.png")
    assert Selection([], ["#a.png"]).wants("a.png")


def test_names_that_are_no_utf8_are_matched_like_others() -> None:
    assert Selection(["*.png"]).wants("caf\udce9.png")
    assert not Selection([], ["*.png"]).wants("caf\udce9.png")


def test_a_composed_pattern_matches_a_decomposed_name_and_the_reverse() -> None:
    """macOS lists some names with a letter and its accent as two characters."""
    composed, decomposed = unicodedata.normalize("NFC", "ガチャ"), unicodedata.normalize("NFD", "ガチャ")
    assert composed != decomposed
    for pattern, name in ((composed, decomposed), (decomposed, composed)):
        assert not Selection([], [f"{pattern}/"]).wants(f"{name}/a.png")
        assert Selection([f"{pattern}*"]).wants(f"{name}.png")


def test_a_directory_is_passed_over_only_where_it_is_hidden() -> None:
    selection = Selection(["@media"], ["drafts/"])

    assert selection.wants_folder("drafts")
    assert selection.wants_folder("a/b.tmp")
    assert not selection.wants_folder(".git")
    assert not selection.wants_folder("a/.cache")
    assert not selection.wants_folder("a/.cache/b")


def test_a_pattern_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is pathspec's
        Selection(["!"])


@unhurried
@given(st.text(min_size=1), st.lists(st.sampled_from(["@media", "*.a", "b/", "!c*"]), max_size=4))
def test_any_name_gets_an_answer(path: str, patterns: list[str]) -> None:
    assert Selection(patterns).wants(path) in (True, False)
    assert Selection((), patterns).wants(path) in (True, False)


@pytest.mark.parametrize("include", [(), ("@media",)])
def test_the_usual_selections_evaluate_no_pattern(
    include: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan asks for every file: of a million files the patterns would cost 15 s, their endings cost 2."""
    selection = Selection(include)
    monkeypatch.setattr(GitIgnoreSpec, "match_file", lambda *_: pytest.fail("a pattern was evaluated"))
    assert selection.wants("2026-04-01/some folder/ComfyUI_00001_.png")
