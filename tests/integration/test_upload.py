"""`upload` against a real S3 server, alone and beside an archive that runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_archive.archive.events import UploadFailed
from cloud_archive.cli import direct_upload
from cloud_archive.cli.common import ledger_path
from tests.commands import run_command
from tests.integration.daemon import end_by_signal, watching
from tests.servers import S3Server

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]


def test_upload_from_outside_goes_below_the_prefix_and_doubles_no_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, bucket: S3Server
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(folder.encode())
    status, out, err = run_command(capsys, "upload", tmp_path / "one" / "a.png", tmp_path / "two" / "a.png")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "Complete: 2/2"
    assert sorted(bucket.objects()) == ["out/a (1).png", "out/a.png"]
    assert sorted(bucket.objects().values()) == [b"one", b"two"]


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize(
    ("ends", "expected"), [(">&-", 0), ("2>&-", 0), (">/dev/full", 1), ("2>/dev/full", 0)]
)
def test_closed_and_full_outputs(tmp_path: Path, bucket: S3Server, ends: str, expected: int) -> None:
    if "full" in ends and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "a.png").write_bytes(b"a")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for words in (f"upload '{tmp_path}/a.png'", f"watch '{tmp_path}' --once"):
        shell = ["sh", "-c", f'"$0" -m cloud_archive {words} {ends}', sys.executable]
        ended = subprocess.run(shell, capture_output=True, text=True, check=False, env=buffered)
        assert (ended.returncode, "Traceback" in ended.stderr) == (expected, False), words
        assert "Exception ignored" not in ended.stderr
    assert bucket.keys() == ["out/a.png"]


def test_upload_of_bytes_that_are_there_makes_no_second_object(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, bucket: S3Server
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    assert run_command(capsys, "upload", tmp_path / "a.png")[0] == 0
    status, out, _ = run_command(capsys, "upload", tmp_path / "a.png", "--json")
    assert status == 0
    (found,) = json.loads(out)["files"]
    assert found["already_archived"] is True
    assert bucket.keys() == ["out/a.png"]


@pytest.mark.parametrize("size", [1, 9_000_000], ids=["small", "in parts"])
def test_a_name_that_is_a_folder_in_the_bucket_is_taken(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, bucket: S3Server, size: int
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "cats").write_bytes(bytes(size))
    assert run_command(capsys, "upload", tmp_path / "a.png", "--prefix", "out/cats")[0] == 0
    status, _, err = run_command(capsys, "upload", tmp_path / "cats")
    assert (status, err) == (0, "")
    assert bucket.keys() == ["out/cats (1)", "out/cats/a.png"]


def test_upload_keeps_the_path_below_the_output_directory(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(root))
    (root / "sub").mkdir()
    (root / "sub" / "a.png").write_bytes(b"a")
    monkeypatch.chdir(root / "sub")
    assert run_command(capsys, "upload", "a.png")[0] == 0
    assert run_command(capsys, "upload", "a.png", "--prefix", "mine/{Y}")[0] == 0
    dated, plain = bucket.keys()
    assert re.fullmatch(r"mine/20\d\d/sub/a\.png", dated)
    assert plain == "out/sub/a.png"


def test_upload_keeps_the_path_below_a_watched_directory(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path, bucket: S3Server
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "older.png").write_bytes(b"older")
    (root / "sub" / "later.png").write_bytes(b"later")
    (tmp_path / "outside.png").write_bytes(b"outside")
    with watching(root) as daemon:
        files = [root / "sub" / "older.png", tmp_path / "outside.png"]
        status, out, err = run_command(capsys, "upload", *files)
        assert (status, err) == (0, "")
        assert out.splitlines()[-1] == "Complete: 2/2"
        _, _, log = end_by_signal(daemon)
    assert "Archived sub/older.png" in log
    assert run_command(capsys, "upload", root / "sub" / "later.png")[0] == 0
    assert bucket.keys() == ["out/outside.png", "out/sub/later.png", "out/sub/older.png"]


def test_upload_goes_through_the_archive_that_runs(
    capsys: pytest.CaptureFixture[str],
    root: Path,
    bucket: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (root / "older.png").write_bytes(b"older")
    os.utime(root / "older.png", (1e9, 1e9))
    (tmp_path / "outside.png").write_bytes(b"outside")
    with watching(root) as daemon:
        monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(root))
        status, out, err = run_command(capsys, "upload", root / "older.png", tmp_path / "outside.png")
        assert (status, err) == (0, "")
        assert out.splitlines()[-1] == "Complete: 2/2"
        _, _, log = end_by_signal(daemon)
    assert "Archived older.png" in log
    assert "outside.png" not in log
    assert bucket.keys() == ["out/older.png", "out/outside.png"]


def test_upload_names_what_it_cannot_archive_and_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, bucket: S3Server
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "empty.png").touch()
    status, out, err = run_command(
        capsys, "upload", tmp_path / "missing.png", tmp_path, tmp_path / "empty.png", tmp_path / "a.png"
    )
    assert status == 1
    assert out.splitlines()[-1] == "Complete: 1/4"
    assert f"{tmp_path / 'missing.png'}: File not found." in err
    assert "It is a directory" in err
    assert "It is empty" in err
    assert bucket.keys() == ["out/a.png"]


def test_upload_never_takes_the_state_of_an_archive(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server
) -> None:
    (root / "a.png").write_bytes(b"a")
    assert run_command(capsys, "watch", root, "--once")[0] == 0
    status, out, err = run_command(capsys, "upload", ledger_path(root))
    assert (status, out.splitlines()[-1]) == (1, "Complete: 0/1")
    assert f"{ledger_path(root)}: It is one of Cloud Archive's own files" in err
    assert bucket.keys() == ["out/a.png"]


def test_upload_that_the_store_refuses_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    monkeypatch.setenv("S3_BUCKET", "no-such-bucket")
    status, out, err = run_command(capsys, "upload", tmp_path / "a.png", "--json")
    assert status == 1
    assert "bucket does not exist" in err
    assert "bucket does not exist" in json.loads(out)["files"][0]["error"]


def test_upload_waits_out_a_passing_fault_and_gives_up_after_a_while(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    own_seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in own_seaweedfs.environ(S3_PREFIX="out").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "a.png").write_bytes(b"a")
    store = own_seaweedfs.embedded
    assert store is not None
    store.stop()
    later = threading.Timer(1.0, store.start)
    later.start()
    status, _, err = run_command(capsys, "upload", tmp_path / "a.png")
    later.join()
    assert (status, err) == (0, "")
    store.stop()
    failed = threading.Event()
    note_failed = direct_upload.DirectUpload._note_failed

    def note(self: direct_upload.DirectUpload, event: UploadFailed) -> None:
        note_failed(self, event)
        failed.set()

    monkeypatch.setattr(direct_upload.DirectUpload, "_note_failed", note)
    # An hour passes once the first attempt has failed, however late that is.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * failed.is_set(), sleep=time.sleep)
    monkeypatch.setattr(direct_upload, "time", clock)
    status, _, err = run_command(capsys, "upload", tmp_path / "a.png")
    assert status == 1
    assert "connection was refused" in err
