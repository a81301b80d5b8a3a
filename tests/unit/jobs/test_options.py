"""What a prompt may ask for, and what is refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_archive.jobs.options import JobOptions, parse_options

NAME = "extra_data.cloud_archive"


@pytest.mark.parametrize("given", [None, {}])
def test_a_prompt_need_not_ask_for_anything(given: Any) -> None:
    assert parse_options(given) == (JobOptions(), [])


def test_options_are_tidied() -> None:
    options, wrong = parse_options({"tags": [" best ", "best", "狐"], "note": "a\0b", "urls": True})
    assert (options, wrong) == (JobOptions(("best", "狐"), "a b", True), [])
    assert options.to_json() == {"tags": ["best", "狐"], "note": "a b", "urls": True}


@pytest.mark.parametrize(
    ("given", "kept", "sentence"),
    [
        ("best", JobOptions(), f"{NAME} must be an object."),
        ({"bucket": "b"}, JobOptions(), f"{NAME}.bucket is unknown: tags, note, urls are known."),
        ({"urls": 1}, JobOptions(), f"{NAME}.urls must be true or false."),
        ({"note": 1}, JobOptions(), f"{NAME}.note must be a text of 10000 characters at most."),
        ({"note": "x" * 10_001}, JobOptions(), f"{NAME}.note must be a text of 10000 characters at most."),
        ({"tags": "best"}, JobOptions(), f"{NAME}.tags must be a list of 100 texts at most."),
        ({"tags": ["x"] * 101}, JobOptions(), f"{NAME}.tags must be a list of 100 texts at most."),
        *(
            (
                {"tags": ["best", tag]},
                JobOptions(("best",)),
                f"Each of {NAME}.tags must be a text of 1 to 100 characters without quotes.",
            )
            for tag in (1, " ", "x" * 101, 'a"b')
        ),
    ],
)
def test_what_is_wrong_is_named_and_the_rest_is_kept(given: Any, kept: JobOptions, sentence: str) -> None:
    assert parse_options(given) == (kept, [sentence])


def test_every_wrong_option_is_named() -> None:
    assert len(parse_options({"tags": 1, "note": 1, "urls": 1, "x": 1, "y": 1})[1]) == 5
