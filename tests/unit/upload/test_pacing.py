"""Parts side by side on a fast line, in order on a slow one; times are those of a simulated line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloud_archive.upload.pacing import MAX_PARTS_UNDER_WAY, Line, PartPacer

MEBIBYTE = 1024 * 1024
PART = 8 * MEBIBYTE
PIECE = 256 * 1024


class World:
    """A simulated line: all connections share its rate, and each has a limit of its own.

    Args:
        line, connection: limits, in bytes a second.
    """

    def __init__(self, line: float, connection: float) -> None:
        self.line_rate, self.connection_rate = line, connection
        self.now = 0.0
        self.line = Line(clock=lambda: self.now)
        self.most = 0

    def upload(self, parts: int) -> Iterator[tuple[int, int]]:
        """Send a file; yield (bytes sent, parts that have arrived) at each step of the simulation."""
        pacer = PartPacer(self.line)
        under_way: dict[int, int] = {}
        begun = whole = 0
        while whole < parts:
            while begun < parts and pacer._may_begin():
                begun += 1
                assert pacer.wait_for_turn(begun, PART)
                pacer.begin(begun)
                under_way[begun] = 0
            self.most = max(self.most, len(under_way))
            rate = min(self.connection_rate, self.line_rate / len(under_way))
            self.now += PIECE / rate
            for number in list(under_way):
                pacer.sent(number, PIECE)
                under_way[number] += PIECE
                if under_way[number] == PART:
                    del under_way[number]
                    whole += 1
                    pacer.end(number, arrived=True)
            yield whole * PART + sum(under_way.values()), whole


@pytest.mark.parametrize("rate", [0.1, 0.5, 1, 2, 4])
def test_on_a_slow_line_an_interruption_costs_little_more_than_a_part(rate: float) -> None:
    world = World(rate * MEBIBYTE, connection=1000 * MEBIBYTE)
    for sent, whole in world.upload(40):
        assert sent - whole * PART <= 1.3 * PART
    assert world.most == 2
    # Not slower than the line is.
    assert world.now == pytest.approx(40 * PART / (rate * MEBIBYTE), rel=0.01)


def test_on_a_fast_line_parts_go_side_by_side_after_the_first() -> None:
    world = World(100 * MEBIBYTE, connection=20 * MEBIBYTE)
    list(world.upload(20))
    assert world.most == MAX_PARTS_UNDER_WAY
    assert world.now < 1.5 * 20 * PART / (100 * MEBIBYTE) + PART / (20 * MEBIBYTE)
    before = world.now
    list(world.upload(16))  # the next file's parts go side by side from the first on
    assert world.now - before < 1.3 * 16 * PART / (100 * MEBIBYTE)


def test_on_a_line_where_each_connection_is_slow_parts_go_side_by_side_all_the_same() -> None:
    world = World(100 * MEBIBYTE, connection=2 * MEBIBYTE)
    list(world.upload(40))
    assert world.most == MAX_PARTS_UNDER_WAY
    assert world.now < 2 * 40 * PART / (MAX_PARTS_UNDER_WAY * 2 * MEBIBYTE)


def test_a_line_that_becomes_slow_goes_back_to_order() -> None:
    world = World(100 * MEBIBYTE, connection=20 * MEBIBYTE)
    list(world.upload(20))
    assert world.line.is_wide
    world.line_rate = MEBIBYTE
    steps = list(world.upload(40))
    assert not world.line.is_wide
    late = steps[len(steps) // 2 :]
    assert all(sent - whole * PART <= 1.3 * PART for sent, whole in late)


def test_a_part_that_failed_lets_no_other_begin() -> None:
    pacer = PartPacer(Line())
    assert pacer.wait_for_turn(1, PART)
    pacer.begin(1)
    pacer.end(1, arrived=False)
    assert not pacer.wait_for_turn(2, PART)


def test_a_part_that_never_began_does_not_count_as_under_way() -> None:
    line = Line()
    pacer = PartPacer(line)
    assert pacer.wait_for_turn(1, PART)
    pacer.end(1, arrived=False)
    assert line.under_way == 0
