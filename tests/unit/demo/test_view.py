"""What the demo shows of its files: lines, or a table on a terminal."""

from __future__ import annotations

import io

import pytest

from cloud_archive.demo.view import FileLine, View, file_lines


def test_the_view_shows_each_change_once() -> None:
    out = io.StringIO()
    status = {
        "active": [{"path": "b.png", "sent_bytes": 5, "s3_key": "out/b.png"}],
        "waiting": [{"path": "c\x1b.mp4", "size_bytes": 7, "reason": "being written"}],
    }
    rows = [
        {"id": 2, "path": "b.png", "state": "uploading", "size_bytes": 10, "s3_key": None},
        {"id": 1, "path": "a.png", "state": "archived", "size_bytes": 10, "s3_key": "out/a.png"},
    ]
    with View(out) as view:
        for _ in range(3):
            view.show(file_lines(status, rows))
    told = [line.split("s  ", 1)[1] for line in out.getvalue().splitlines()]
    assert told == [
        "proven         a.png (10 B) as out/a.png",
        "uploading      b.png (10 B)",
        "being written  c\\x1b.mp4 (7 B)",
    ]


def test_the_table_keeps_the_end_of_long_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "30")
    out = io.StringIO()
    with View(out, live=True) as view:
        view.show([FileLine("x", "d/" * 40 + "end.png", 1_500_000, "proven", 0, "o/" * 40 + "end (1).png")])
    assert "end.png" in out.getvalue()
    assert "end (1).png" in out.getvalue()
    assert "1.5 MB" in out.getvalue()


@pytest.mark.parametrize(
    ("first_state", "title"), [("proven", "2 more above, all in the bucket"), ("uploading", "2 more above")]
)
def test_the_table_says_of_hidden_lines_what_is_true(
    monkeypatch: pytest.MonkeyPatch, first_state: str, title: str
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "11")
    out = io.StringIO()
    states = [first_state, "proven", "queued", "queued", "queued"]
    with View(out, live=True) as view:
        view.show([FileLine(f"x{number}", "a.png", 1, state) for number, state in enumerate(states)])
    assert [line.strip() for line in out.getvalue().splitlines() if "more above" in line] == [f"… {title}"]
