"""What `POST /cloud-sync/share` may ask for."""

from __future__ import annotations

import math
import uuid
from typing import Any

import pytest

from cloud_archive.api.share_arguments import (
    DEFAULT_SECONDS,
    MAX_SHARED,
    MAX_STRIPPED,
    MAX_TITLE_CHARACTERS,
    share_arguments,
)
from cloud_archive.errors import RequestRefused

ID = "12345678-1234-5678-1234-567812345678"


def ids(count: int) -> list[str]:
    return [str(uuid.UUID(int=number)) for number in range(count)]


def test_only_ids_are_required_and_each_counts_once() -> None:
    assert share_arguments({"ids": [ID, ID.upper()]}) == {
        "ids": [ID],
        "expires_seconds": DEFAULT_SECONDS,
        "strip_metadata": False,
        "album": None,
        "with_prompts": False,
    }


def test_a_title_loses_the_space_around_it() -> None:
    assert share_arguments({"ids": [ID], "album": " Red foxes "})["album"] == "Red foxes"


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": []},
        {"ids": ID},
        {"ids": ["x"]},
        {"ids": [7]},
        {"ids": ids(MAX_SHARED + 1)},
        {"ids": ids(MAX_STRIPPED + 1), "strip_metadata": True},
        {"strip_metadata": 1},
        {"with_prompts": "yes"},
        {"album": " "},
        {"album": "x" * (MAX_TITLE_CHARACTERS + 1)},
        {"expires_seconds": 0},
        {"expires_seconds": True},
        {"expires_seconds": "7d"},
        {"expires_seconds": math.nan},
        {"expires_seconds": math.inf},
        {"expires_seconds": 10**400},
        {"host": "evil"},
    ],
)
def test_what_makes_no_sense_is_refused_with_400(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused) as refused:
        share_arguments({"ids": [ID]} | changes)
    assert refused.value.status == 400


def test_as_many_files_as_allowed_are_shared() -> None:
    assert len(share_arguments({"ids": ids(MAX_SHARED)})["ids"]) == MAX_SHARED
    stripped = share_arguments({"ids": ids(MAX_STRIPPED), "strip_metadata": True})
    assert len(stripped["ids"]) == MAX_STRIPPED
