"""What a session measures: rates, the time left, and the newest uploads."""

from __future__ import annotations

from cloud_archive.archive.session import RecentUpload, Session
from cloud_archive.files import FileVersion

MB = 1_000_000


def _archive(session: Session, count: int, size_bytes: int = MB) -> None:
    for number in range(count):
        session.archived(FileVersion(f"{number}.png", size_bytes, 1), "k", already=False)


def test_there_is_no_estimate_in_the_first_five_seconds_and_then_one() -> None:
    session = Session()
    for second in range(5):
        session.sample(second * MB, float(second))
        assert session.counters().rate_bytes_per_second == 0
        assert session.counters().seconds_left(1, 10 * MB) is None
    session.sample(5 * MB, 5.0)
    assert session.counters().rate_bytes_per_second == MB
    assert session.counters().seconds_left(1, 10 * MB) == 11


def test_many_small_files_are_estimated_by_their_number() -> None:
    session = Session()
    for second in range(7):
        session.sample(0, float(second))
        _archive(session, 10, size_bytes=1000)
    session.sample(0, 7.0)
    # 10 files and 10 kB a second: 600 files of 100 bytes take a minute, not 6 seconds.
    assert session.counters().seconds_left(600, 60_000) == 61


def test_the_rate_is_that_of_a_moving_window() -> None:
    session = Session()
    sent = 0
    for second in range(40):
        sent += 10 * MB if second < 20 else MB
        session.sample(sent, float(second))
    assert session.counters().rate_bytes_per_second == MB


def test_an_idle_second_sets_the_rate_to_zero_and_begins_anew() -> None:
    session = Session()
    for second in range(8):
        session.sample(second * MB, float(second))
    _archive(session, 7)
    session.sample(0, 8.0)
    assert session.counters().rate_bytes_per_second > 0
    session.sample(0, 9.0)
    assert session.counters().rate_bytes_per_second == 0
    # An hour later the idle time does not count.
    session.sample(0, 3600.0)
    for second in range(6):
        session.sample(2 * MB * second, 3601.0 + second)
    assert session.counters().rate_bytes_per_second == 2 * MB


def test_the_newest_uploads_of_earlier_sessions_are_shown_before_this_one_has_any() -> None:
    session = Session()
    old = [RecentUpload(f"{n}.png", f"k/{n}.png", f"2026-04-01T12:00:0{n}", 1, f"{n}.png") for n in range(3)]
    session.begin_with(old)
    counters = session.counters()
    assert (counters.recent, counters.last_upload_time) == (tuple(old), "2026-04-01T12:00:02")
    assert (counters.uploaded, counters.already) == (0, 0)
    _archive(session, 1)
    assert [one.file_name for one in session.counters().recent] == ["0.png", "1.png", "2.png", "0.png"]
