"""How the demo compares what it wrote with what the bucket holds."""

from __future__ import annotations

import pytest

from cloud_archive.demo.demo import Comparison, compare_versions
from cloud_archive.demo.outputs import WrittenVersion

A = WrittenVersion("sub/a.png", "aa", 1)
B = WrittenVersion("sub/a.png", "bb", 2)


def test_each_version_is_found_once_under_its_own_or_a_numbered_name() -> None:
    found = compare_versions([("out/sub/a.png", 1, "aa"), ("out/sub/a (1).png", 2, "bb")], [A, B])
    assert (found.failed, found.missing) == (0, ())


@pytest.mark.parametrize(
    "objects",
    [
        [("out/sub/a.png", 1, "aa")],  # one is missing
        [("out/sub/a.png", 1, "aa"), ("out/sub/a (1).png", 2, "changed")],
        [("out/sub/a.png", 1, "aa"), ("out/sub/a (1).png", 1, "aa")],  # the same twice
        [("out/sub/a.png", 1, "aa"), ("out/other/a.png", 2, "bb")],
        [("out/sub/a.png", 1, "aa"), ("out/sub/b.png", 2, "bb")],
    ],
)
def test_what_differs_is_a_failure(objects: list[tuple[str, int, str]]) -> None:
    found: Comparison = compare_versions(objects, [A, B])
    assert found.failed
    assert B in found.missing


def test_a_file_that_the_user_adds_is_left_out() -> None:
    found = compare_versions([("out/sub/a.png", 1, "aa"), ("out/mine.png", 3, "cc")], [A])
    assert found.failed == 0
    assert [one["key"] for one in found.objects] == ["out/sub/a.png"]
