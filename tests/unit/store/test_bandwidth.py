"""The bandwidth limit, with time moved by hand."""

from __future__ import annotations

import pytest

from cloud_archive.store.bandwidth import Throttle


class Time:
    now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_ten_seconds_send_ten_seconds_worth() -> None:
    time = Time()
    throttle = Throttle(1_000_000, clock=time.clock, sleep=time.sleep)
    sent = 0
    while time.now < 110:
        throttle.take(throttle.piece_bytes)
        sent += throttle.piece_bytes
    assert sent == pytest.approx(10_000_000, rel=0.05)


def test_a_pause_saves_nothing_up() -> None:
    time = Time()
    throttle = Throttle(1000, clock=time.clock, sleep=time.sleep)
    throttle.take(1000)
    time.now += 60
    throttle.take(1000)
    begin = time.now
    throttle.take(1000)
    assert time.now - begin == pytest.approx(1.0)


@pytest.mark.parametrize(("rate", "piece"), [(10_000, 16_384), (1_000_000, 100_000), (10**9, 262_144)])
def test_pieces_keep_the_flow_even(rate: int, piece: int) -> None:
    assert Throttle(rate).piece_bytes == piece
