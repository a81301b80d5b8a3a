"""What ComfyUI's log says of the archive."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from cloud_archive.api.routes import bare_status
from cloud_archive.comfyui.announcements import Announcements, farewell

REQUIRED = ("S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")


def test_the_log_tells_transitions_and_each_sentence_once(caplog: pytest.LogCaptureFixture) -> None:
    announcements = Announcements()
    announcements.root = "/output"
    missing = [f"{name} is not set: it is required" for name in REQUIRED]
    destination = {"endpoint": "host:1", "bucket": "b", "prefix": "p"}
    on = {**bare_status("idle"), "running": True, "connection_verified": True, "destination": destination}
    with caplog.at_level(logging.INFO, "cloud_archive"):
        for status in (
            {**bare_status("not_configured"), "errors": [*missing, "S3_REGION is '?': no"]},
            {**bare_status("not_configured"), "errors": [*missing, "S3_REGION is '?': no"]},
            {**on, "state": "starting", "connection_verified": False},
            on,
            {**on, "state": "uploading", "errors": ["No such bucket."]},
            {**on, "errors": ["No such bucket.", "Denied."]},
            bare_status("unavailable", "The engine ended."),
            on,
            bare_status("standby"),
        ):
            announcements.log_news(status)
    lines = [record.getMessage() for record in caplog.records]
    assert all(name in lines[0] for name in REQUIRED)
    assert lines[1:] == [
        "Cloud Archive: S3_REGION is '?': no",
        "Cloud Archive: archiving /output to b/p at host:1",
        "Cloud Archive: No such bucket.",
        "Cloud Archive: Denied.",
        "Cloud Archive: The engine ended.",
        "Cloud Archive: archiving /output to b/p at host:1",
        "Cloud Archive: another process archives /output; standing by",
    ]


def test_the_log_says_when_no_problem_is_left(caplog: pytest.LogCaptureFixture) -> None:
    announcements = Announcements()
    waiting = bare_status("retrying") | {"errors": ["a.png: The connection to the store was cut off."]}
    safe = bare_status("idle") | {"safe_to_stop": True}
    with caplog.at_level(logging.INFO, "cloud_archive"):
        for status in (safe, waiting, bare_status("uploading"), safe, safe, waiting, safe):
            announcements.log_news(status)
    assert caplog.messages == [
        "Cloud Archive: a.png: The connection to the store was cut off.",
        "Cloud Archive: no problem is left; it is safe to stop",
    ]


def test_older_files_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    announcements = Announcements()
    with caplog.at_level(logging.INFO, "cloud_archive"):
        for count in (0, 1, 2):
            announcements.log_news(bare_status("starting") | {"baseline_files": count})
    assert [record.getMessage() for record in caplog.records] == [
        "Cloud Archive: 1 file that was there before archiving began is not archived; the panel has a button for that"
    ]


@pytest.mark.parametrize("problem", ["S3_REGION is '?': no", "S3_ACCESS_KEY_ID is not set: it is required"])
def test_where_some_settings_are_right_only_the_others_are_named(
    problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "cloud_archive"):
        Announcements().log_news({**bare_status("not_configured"), "errors": [problem]})
    assert [record.getMessage() for record in caplog.records] == [
        "Cloud Archive is not configured: correct this in ComfyUI's environment, then start it again.",
        f"Cloud Archive: {problem}",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, ""),
        ({"state": "not_configured", "pending_files": 1}, ""),
        (
            {"state": "uploading", "pending_files": 3, "pending_bytes": 41_000_000},
            "Cloud Archive: 3 files (41 MB) are not archived yet. Uploads continue in the background for up to 600 s,"
            " and at the next start.",
        ),
        (
            {"state": "retrying", "pending_files": 1, "pending_bytes": 5, "failed_files": 1},
            "Cloud Archive: 2 files are not archived yet, 1 of them because of an error. Uploads continue in"
            " the background for up to 600 s, and at the next start.",
        ),
        (
            {"failed_files": 1},
            "Cloud Archive: 1 file is not archived yet, because of an error. The next start continues.",
        ),
        (
            {"state": "stopped", "pending_files": 1, "pending_bytes": 5},
            "Cloud Archive: 1 file (5 B) is not archived yet. The next start continues.",
        ),
        (
            {"state": "unavailable", "errors": ["The engine hangs."]},
            "Cloud Archive can't tell whether everything is archived: The engine hangs. The next start checks.",
        ),
    ],
)
def test_the_line_with_which_comfyui_ends(changes: dict[str, Any], line: str) -> None:
    assert farewell(bare_status("idle") | changes) == line
