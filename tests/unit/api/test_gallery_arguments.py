"""What a ZIP of assets may ask for."""

from __future__ import annotations

import uuid

import pytest

from cloud_archive.api.gallery_arguments import MAX_IN_ZIP, zip_arguments
from cloud_archive.errors import RequestRefused


def ids(count: int) -> list[str]:
    return [str(uuid.UUID(int=number)) for number in range(count)]


def test_ids_keep_their_order_and_count_once() -> None:
    first, second = ids(2)
    assert zip_arguments({"ids": f"{second}, {first.upper()},{second}"}) == {"ids": f"{second},{first}"}
    assert len(zip_arguments({"ids": ",".join(ids(MAX_IN_ZIP))})["ids"].split(",")) == MAX_IN_ZIP


@pytest.mark.parametrize("given", ["", " , ", "x", "1,2", ",".join(ids(MAX_IN_ZIP + 1))])
def test_no_ids_too_many_and_what_is_no_id_are_refused(given: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        zip_arguments({"ids": given})
    assert refused.value.status == 400
