"""Lists of a size from any iterable."""

from __future__ import annotations

import itertools

from cloud_archive.maintenance.batches import batches


def test_every_item_comes_once_and_in_order() -> None:
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches(range(4), 2)) == [[0, 1], [2, 3]]
    assert list(batches((), 2)) == []


def test_an_endless_listing_is_read_as_far_as_it_is_needed() -> None:
    numbers = itertools.count()
    assert next(batches(numbers, 3)) == [0, 1, 2]
    assert next(numbers) == 3
