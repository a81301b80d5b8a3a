"""Which bytes a `Range` header asks for (https://www.rfc-editor.org/rfc/rfc9110#name-range-requests)."""

from __future__ import annotations

import pytest

from cloud_archive.api.assets import range_of


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("Bytes=0-9", range(10)),
        ("bytes=0-9", range(10)),
        ("bytes=90-", range(90, 100)),
        ("bytes=90-1000", range(90, 100)),
        ("bytes=-10", range(90, 100)),
        ("bytes=-1000", range(100)),
        ("bytes=100-", None),
        ("bytes=-0", None),
    ],
)
def test_a_range_is_answered_in_part(header: str, wanted: range | None) -> None:
    assert range_of(header, 100) == (wanted, True)


@pytest.mark.parametrize(
    "header", [None, "", "bytes=-", "bytes=9-0", "bytes=0-1,5-6", "lines=0-9", "bytes=" + "9" * 20 + "-"]
)
def test_a_header_that_is_no_single_range_asks_for_everything(header: str | None) -> None:
    assert range_of(header, 100) == (range(100), False)


def test_an_empty_file_has_no_range() -> None:
    assert range_of("bytes=0-", 0) == (None, True)
    assert range_of(None, 0) == (range(0), False)
