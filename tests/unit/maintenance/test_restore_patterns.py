"""The patterns of `restore`: what they choose, and which chose nothing."""

from __future__ import annotations

from cloud_archive.maintenance.restore_patterns import RestorePatterns
from tests.unit.catalog.counting import count_calls


def test_patterns_that_choose_nothing_are_known() -> None:
    patterns = RestorePatterns(
        ["fox.png", "video/", "out/b.png", "#comment", "", "none.png", "!dog.png", "*.gif"]
    )
    assert patterns.choose("out//fox.png", "/fox.png")
    assert patterns.choose("out/video/a/c.mp4", "video/a/c.mp4")
    assert patterns.choose("out/b.png", "b.png")
    assert not patterns.choose("out/none.jpg", "none.jpg")
    assert patterns.unmatched() == ["#comment", "", "none.png", "*.gif"]


def test_many_names_cost_no_more_than_the_search_for_each() -> None:
    names = [f"a/{number}.png" for number in range(300)]
    patterns = RestorePatterns(names)

    def choose_all() -> None:
        for name in reversed(names):
            patterns.choose(f"out/{name}", name)

    pairs = len(names) ** 2
    assert count_calls(choose_all) < 3 * pairs
    assert patterns.unmatched() == []
