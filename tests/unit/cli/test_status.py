"""How a status is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.client import Answer
from cloud_archive.api.routes import bare_status
from cloud_archive.cli.status import _name_remaining, _show, _show_skipped, older_words
from cloud_archive.errors import EngineUnavailable
from tests.commands import run_command


def shown(capsys: pytest.CaptureFixture[str], **changes: Any) -> dict[str, str]:
    status = bare_status("idle") | {
        "watched_directory": "/out\nput",
        "watching": "polling",
        "archived_files": 2,
        "archived_bytes": 1500,
        **changes,
    }
    _show(status)
    lines = capsys.readouterr().out.splitlines()
    return {line[:13].rstrip(): line[14:] for line in lines}


def test_an_idle_archive_needs_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(
        capsys, safe_to_stop=True, destination={"bucket": "b", "prefix": "", "endpoint": "store:80"}
    )
    assert found["Directory"] == "/out\\nput"
    assert found["Watched with"] == "polling"
    assert found["Bucket"] == "b at store:80"
    assert found["State"] == "idle"
    assert found["Archived"] == "2 files, 1.5 kB"
    assert found["Since start"] == "0 archived"
    assert found["Local files"] == "kept"
    assert found["Safe to stop"] == "yes"
    assert "Note" not in found


def test_settings_that_delete_local_files_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, keeps_local_files=False)["Local files"] == "deleted after proof"


def test_what_is_under_way_is_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(
        capsys,
        state="not_configured",
        watching="",
        uploaded_files=1,
        already_archived_files=2,
        pending_files=3,
        unsent_bytes=3000,
        retrying_files=1,
        failed_files=4,
        active=[{"path": "a.png", "sent_bytes": 1, "size_bytes": 2}],
        waiting=[{"path": "b.png", "reason": "It is being written."}],
        last_upload_time="2026-04-01T12:34:56",
        overwrite_risk="large_files",
    )
    assert found["State"] == "not configured"
    assert found["Watched with"] == "nothing: not watched now"
    assert found["Since start"] == (
        "1 archived, 2 already in the bucket, 3 waiting (3 kB), 1 of them retrying, 4 failed"
    )
    assert found["Uploading"] == "a.png  1 B of 2 B"
    assert found["Not complete"] == "b.png  It is being written."
    assert found["Last upload"] == "2026-04-01 12:34:56"
    assert "refuse to overwrite large files" in found["Note"]


def test_left_out_files_are_named_up_to_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = [{"file": f"{number}.txt", "cause": "It is excluded."} for number in range(12)]
    _show_skipped({"skipped_files": 20, "baseline_files": 1, "unchecked_files": 2}, skipped)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Not archived  1 file that was there before archiving began is not archived.")
    assert lines[1] == "To be checked 2 archived files touched since, hashed in the background"
    assert lines[2:4] == ["Skipped       20 files", "  0.txt: It is excluded."]
    assert lines[-1] == "  … and 10 more"
    assert len(lines) == 14


def test_older_files_come_with_what_archives_them() -> None:
    assert older_words(2).endswith(
        "were there before archiving began are not archived. `cloud-archive upload --baseline --dir DIR` archives them."
    )


def test_remaining_files_have_their_cause_or_state(capsys: pytest.CaptureFixture[str]) -> None:
    files = [{"file": "a.png", "state": "failed", "cause": "No."}]
    _name_remaining(files + [{"file": "b.png", "state": "pending", "cause": ""}] * 1001, {})
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["  a.png: No.", "  b.png: pending"]
    assert (len(lines), lines[-1]) == (1001, "  … and 2 more")
    _name_remaining(files, {"pending_files": 12, "failed_files": 1})
    assert capsys.readouterr().err.splitlines()[1:] == ["  … and 12 more"]


@pytest.mark.usefixtures("own_state", "settings_in_environment")
def test_a_flush_of_an_engine_that_is_stopping_waits_for_its_end(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [Answer(503, {"error": "The archive is stopping."})]

    class Stopping:
        def call(self, *_: object, **__: object) -> Answer:
            if not answers:
                raise EngineUnavailable("It does not answer.")
            return answers.pop()

    monkeypatch.setattr("cloud_archive.cli.status._find", lambda _: (root, Stopping()))
    status, out, err = run_command(capsys, "flush", root)
    assert (status, err, answers) == (0, "", [])
    assert out.splitlines()[1] == "Safe to stop: every file is in the bucket."
    (root / "a.png").write_bytes(b"a")
    assert run_command(capsys, "flush", root)[0] == 1
