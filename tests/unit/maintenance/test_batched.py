"""Lists of a size from any iterable."""

from __future__ import annotations

import itertools

from cloud_archive.maintenance.batched import batched


def test_every_item_comes_once_and_in_order() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched(range(4), 2)) == [[0, 1], [2, 3]]
    assert list(batched((), 2)) == []


def test_an_endless_listing_is_read_as_far_as_it_is_needed() -> None:
    numbers = itertools.count()
    assert next(batched(numbers, 3)) == [0, 1, 2]
    assert next(numbers) == 3
