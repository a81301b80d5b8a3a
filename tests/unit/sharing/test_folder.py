"""The folder of one share: its id, and what names it."""

from __future__ import annotations

import re
from typing import cast

import pytest

from cloud_archive.sharing.folder import ShareFolder, share_id_of, shares_folder
from cloud_archive.store.base import ObjectStore


def new_share() -> ShareFolder:
    return ShareFolder(cast(ObjectStore, None), "out")  # nothing is written before the first file


def test_an_id_is_never_taken_for_an_option() -> None:
    assert all(re.fullmatch("[0-9a-f]{32}", new_share().id) for _ in range(100))


def test_an_id_is_never_used_twice() -> None:
    assert len({new_share().id for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "name", ["{id}", "out/.cloud-archive/v1/shares/{id}/fox.png", "https://host/b/{folder}{id}/f?x=1"]
)
def test_a_link_a_key_and_an_id_name_the_share(name: str) -> None:
    share = new_share().id
    assert share_id_of(name.format(id=share, folder=shares_folder("out/{Y}"))) == share


@pytest.mark.parametrize(
    "name",
    [
        *("out/a/fox.png", "short", "../" * 6, "http://[x/y"),
        "https://host/b/out/fox.png?X-Amz-Signature=1",
        "https://host/b?x=.cloud-archive/v1/shares/0123456789abcdef/",
    ],
)
def test_anything_else_names_none(name: str) -> None:
    assert share_id_of(name) is None
