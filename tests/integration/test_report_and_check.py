"""What the routes of the report and of the connection check answer on a real engine and a real store."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from cloud_archive.api.server import build_application
from tests.functional.callers import listening
from tests.integration.archives import Archive
from tests.servers import S3Server

pytestmark = pytest.mark.store


async def test_the_report_counts_files_and_bytes_and_the_check_keeps_its_answer(
    tmp_path: Path, seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"1")
    archive.write("b.png", b"22")
    with archive.running() as engine:
        assert await asyncio.to_thread(engine.flush, 60)
        async with listening(build_application(engine, token=None)) as caller:
            for by in ("hour", "day"):
                status, answer = await caller.ask("GET", f"/cloud-sync/report?by={by}&last=2")
                assert status == 200
                rows = answer["rows"]  # two, if the hour ended between the files
                assert (sum(row["files"] for row in rows), sum(row["bytes"] for row in rows)) == (2, 3)
            assert await caller.ask("GET", "/cloud-sync/check") == (200, {"checked_at": None, "steps": []})
            status, found = await caller.ask("POST", "/cloud-sync/check")
            assert (status, [step["name"] for step in found["steps"] if step["ok"] is False]) == (200, [])
            assert {"credentials", "bucket", "write"} <= {
                step["name"] for step in found["steps"] if step["ok"]
            }
            assert found["checked_at"] is not None
            assert await caller.ask("GET", "/cloud-sync/check") == (200, found)
    assert "through the SDK" not in caplog.text, "only the requests of the check went through it"
