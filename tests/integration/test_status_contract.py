"""The status object is what the contract says: every field, its type, its order and its limits."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.routes import bare_status
from cloud_archive.archive.engine import Engine
from cloud_archive.archive.status import MAX_ERRORS, State, Status
from cloud_archive.catalog.identity import asset_id
from cloud_archive.store.bandwidth import Throttle
from tests.integration.archives import Archive
from tests.servers import S3Server, wait_until

# The contract's own example, and the fields that its text names.
CONTRACT = json.loads("""
{"running": true, "session_id": "…", "total_files": 10, "uploaded_files": 8, "failed_files": 0,
 "last_upload_time": "2026-04-01T12:34:56", "errors": [],
 "recent_uploads": [{"file_name": "image_01.png", "s3_key": "…", "upload_time": "…", "size_bytes": 1234567}],
 "uploading": true, "state": "uploading", "safe_to_stop": false,
 "pending_files": 2, "pending_bytes": 2469134, "already_archived_files": 0,
 "active": [{"file_name": "…", "size_bytes": 1, "sent_bytes": 0, "s3_key": "…"}],
 "destination": {"endpoint": "host:port", "bucket": "…", "prefix": "…"}, "watching": "…", "version": "…",
 "baseline_files": 0, "skipped_files": 0}
""")
STATES = {
    *("not_configured", "stopped", "starting", "idle", "uploading", "retrying", "standby", "unavailable"),
}


def assert_shape(found: Any, wanted: Any, where: str = "status") -> None:
    """Check that everything in `wanted` is in `found`, with the same type."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            assert name in found, f"{where}.{name}"
            assert_shape(found[name], value, f"{where}.{name}")
    elif isinstance(wanted, list):
        for item in found:
            if wanted:
                assert_shape(item, wanted[0], f"{where}[]")


@pytest.mark.store
def test_the_status_of_a_real_archive_has_every_field_with_its_type(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    seen: list[dict[str, Any]] = []
    may_go_on = threading.Event()
    may_go_on.set()
    monkeypatch.setattr(Throttle, "take", lambda throttle, size_bytes: may_go_on.wait(60))

    def is_shown() -> bool:
        return any(one["file_name"] == "large.bin" for status in seen for one in status["active"])

    with archive.running(CLOUD_ARCHIVE_MAX_BANDWIDTH="2MB/s") as engine:
        engine.subscribe(seen.append)
        wait_until(lambda: engine.status().to_json()["state"] == "idle", "it is idle")
        for number in range(12):
            archive.write(f"{number:02}.png")
        wait_until(lambda: engine.status().to_json()["uploaded_files"] == 12, "they are archived")
        may_go_on.clear()
        archive.write("large.bin", bytes(6_000_000))
        wait_until(is_shown, "an upload under way is shown")
        may_go_on.set()
        wait_until(lambda: engine.status().safe_to_stop, "it is safe to stop")
        status = engine.status().to_json()
    assert_shape(status, CONTRACT)
    for pushed in seen:
        assert_shape({**pushed, "last_upload_time": pushed["last_upload_time"] or ""}, CONTRACT)
        assert pushed["uploading"] is (pushed["state"] == "uploading" or bool(pushed["active"]))
    assert json.loads(json.dumps(status)) == status
    assert (status["total_files"], status["uploaded_files"], status["failed_files"]) == (13, 13, 0)
    recent = status["recent_uploads"]
    assert len(recent) == 10
    assert recent[-1]["file_name"] == "large.bin", "oldest first"
    bucket = status["destination"]["bucket"]
    assert [one["asset_id"] for one in recent] == [str(asset_id(bucket, one["s3_key"])) for one in recent]
    assert [entry["upload_time"] for entry in recent] == sorted(entry["upload_time"] for entry in recent)
    assert status["last_upload_time"] == recent[-1]["upload_time"]
    assert datetime.fromisoformat(status["last_upload_time"]).tzinfo is None


@pytest.mark.store
def test_after_a_restart_the_totals_and_the_newest_uploads_are_those_of_the_ledger(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for number in range(12):
        archive.write(f"{number:02}.png")
    archive.archive_all()
    with archive.running(CLOUD_ARCHIVE_GALLERY="off") as engine:
        wait_until(lambda: engine.status().state is State.IDLE, "it is idle")
        status = engine.status().to_json()
    assert {one["asset_id"] for one in status["recent_uploads"]} == {None}, (
        "without a library there are no assets"
    )
    assert (status["archived_files"], status["archived_bytes"]) == (12, 12 * 500)
    assert (status["uploaded_files"], status["already_archived_files"]) == (0, 0), "of this session"
    assert len(status["recent_uploads"]) == 10
    assert {entry["file_name"] for entry in status["recent_uploads"]} <= {f"{n:02}.png" for n in range(12)}
    assert [entry["upload_time"] for entry in status["recent_uploads"]] == sorted(
        entry["upload_time"] for entry in status["recent_uploads"]
    )
    assert status["last_upload_time"] == status["recent_uploads"][-1]["upload_time"]


def test_the_states_are_those_of_the_contract() -> None:
    assert {state.value for state in State} == STATES


def test_at_most_50_errors_are_shown_and_the_newest_last() -> None:
    errors = tuple(f"error {number}" for number in range(60))
    shown = Status(running=True, session_id="s", state=State.IDLE, errors=errors).to_json()["errors"]
    assert (len(shown), shown[-1]) == (50, "error 59")
    assert MAX_ERRORS == 50


@pytest.mark.parametrize("state", sorted(STATES))
def test_a_status_without_an_engine_has_the_same_fields(state: str) -> None:
    assert_shape({**bare_status(state), "last_upload_time": ""}, CONTRACT)


def test_a_status_without_an_archive_has_the_same_fields(tmp_path: Path) -> None:
    engine = Engine(tmp_path, state_base=tmp_path / "state", environ={}, machine_wide=False)
    engine.start()
    try:
        status = engine.status().to_json()
        assert_shape({**status, "last_upload_time": ""}, CONTRACT)
        assert (status["state"], status["running"], status["safe_to_stop"]) == (
            "not_configured",
            False,
            False,
        )
    finally:
        engine.close(1)
