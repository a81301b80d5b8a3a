"""A user comes from an upload script with only its variables set (docs/migrating-from-r2-scripts.md)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from tests.servers import S3Server

pytestmark = pytest.mark.store

SPELLINGS = [("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"), ("R2_ACCESS_KEY", "R2_SECRET_KEY")]


@pytest.mark.parametrize(("key_name", "secret_name"), SPELLINGS)
def test_the_variables_of_a_script_are_enough_and_its_layout_of_keys_is_kept(
    tmp_path: Path,
    seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key_name: str,
    secret_name: str,
) -> None:
    root = tmp_path / "output"
    (root / "sub").mkdir(parents=True)
    for name, value in {
        "R2_ENDPOINT": seaweedfs.endpoint,
        "R2_BUCKET": seaweedfs.bucket,
        key_name: seaweedfs.access_key_id,
        secret_name: seaweedfs.secret_access_key,
        "COMFYUI_OUTPUT_DIR": str(root),
        "CLOUD_ARCHIVE_STATE_DIR": str(tmp_path / "state"),
        "CLOUD_ARCHIVE_SETTLE_SECONDS": "0.1",
    }.items():
        monkeypatch.setenv(name, value)
    before = datetime.now()
    (root / "sub" / "a.png").write_bytes(b"a")
    (root / "sent already.png").write_bytes(b"sent")
    seaweedfs.put(f"outputs/{before:%Y-%m-%d}/sent already.png", b"sent")  # by the script, today
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(name.encode())

    assert main(["check"]) == 0
    assert main(["watch", "--once"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Complete: 2/2"
    files = ["upload", str(tmp_path / "one.png"), str(tmp_path / "two.png")]
    assert main(files) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Complete: 2/2"
    assert main([*files[:2], "--prefix", "mine"]) == 0
    days = {f"{moment:%Y-%m-%d}" for moment in (before, datetime.now())}  # midnight may pass meanwhile
    kept = {key for key in seaweedfs.keys("") if ".cloud-archive" not in key}
    assert {key.rpartition("/")[2] for key in kept} == {"a.png", "sent already.png", "one.png", "two.png"}
    assert {key.split("/")[1] for key in kept if key.startswith("outputs/")} <= days
    assert {key.partition("/")[0] for key in kept} == {"outputs", "mine"}
    assert any(key.endswith("/sub/a.png") for key in kept)
    again = len(days) - 1  # after midnight, the key of the script is no longer that of the archive
    assert 5 <= len(kept) <= 5 + again, "what the script had sent was not sent a second time"

    assert main(["upload", str(tmp_path / "missing.png")]) == 1
    assert "missing.png: File not found." in capsys.readouterr().err
    monkeypatch.delenv("R2_BUCKET")
    assert main(["upload", str(tmp_path / "one.png")]) == 2
    assert "S3_BUCKET is not set" in capsys.readouterr().err
