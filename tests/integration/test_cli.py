"""The command against a real S3 server, as a user calls it: the daemon, `check`, older and left-out files."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.integration.daemon import end_by_signal, watching
from tests.servers import S3Server, wait_until

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]


# --- the daemon


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_has_archived_all_ends_with_0(
    root: Path, bucket: S3Server, number: signal.Signals
) -> None:
    with watching(root) as daemon:
        (root / "a.png").write_bytes(b"a")
        status, out, err = end_by_signal(daemon, number)
    assert (status, out) == (0, "")
    assert "Archived a.png as out/a.png" in err
    assert bucket.keys() == ["out/a.png"], "it scanned once more before it ended"


def test_a_daemon_that_leaves_something_ends_with_1_and_names_it(root: Path, bucket: S3Server) -> None:
    with watching(root, "--json") as daemon, (root / "film.mp4").open("wb") as film:
        film.write(b"half")
        film.flush()
        (root / "done.png").write_bytes(b"done")
        wait_until(lambda: bucket.keys() == ["out/done.png"], "the other file arrives")
        status, out, err = end_by_signal(daemon)
    assert status == 1
    assert json.loads(out)["remaining"] == ["film.mp4"]
    assert "film.mp4" in err


def test_a_daemon_whose_directory_is_gone_at_the_end_ends_with_1(root: Path, bucket: S3Server) -> None:
    with watching(root) as daemon:
        root.rename(root.with_name("away"))
        status, _, err = end_by_signal(daemon)
    assert status == 1
    assert "the directory was not scanned at the end" in err


def test_a_token_file_in_the_watched_directory_is_never_archived(
    root: Path, bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_ARCHIVE_BACKFILL", "all")
    (root / "a.png").write_bytes(b"a")
    (root / "token.txt").write_text("secret")
    with watching(root, "--serve", "127.0.0.1:0", "--token-file", str(root / "token.txt")) as daemon:
        assert end_by_signal(daemon)[0] == 0
    assert bucket.keys() == ["out/a.png"]


def test_status_flush_and_retry_ask_the_running_archive(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server, tmp_path: Path
) -> None:
    log = tmp_path / "watch.log"
    with watching(root, "--serve", "127.0.0.1:0", "--log-file", str(log)) as daemon:
        (root / "a.png").write_bytes(b"a")
        status, out, err = run_command(capsys, "flush", root, "--timeout", "60")
        assert (status, err) == (0, "")
        assert "Safe to stop" in out
        assert bucket.keys() == ["out/a.png"]

        status, out, err = run_command(capsys, "status", root)
        assert (status, err) == (0, "")
        assert "1 archived" in out
        assert "Safe to stop  yes" in out

        status, out, _ = run_command(capsys, "status", "--json")
        assert status == 0, "the only archive that runs needs no name"
        found = json.loads(out)
        assert found["safe_to_stop"] is True
        assert found["watched_directory"] == str(root)

        assert run_command(capsys, "retry", root)[0] == 0

        with (root / "open.mp4").open("wb") as film:
            film.write(b"half")
            film.flush()
            wait_until(lambda: "being written" in run_command(capsys, "status", root)[1], "it is seen")
            status, _, err = run_command(capsys, "flush", root, "--timeout", "1")
            assert status == 1
            assert "open.mp4: being written" in err
        assert end_by_signal(daemon)[0] == 0
    assert "Dashboard: http://127.0.0.1:" in log.read_text()


def test_an_archive_whose_state_is_elsewhere_is_found(
    capsys: pytest.CaptureFixture[str],
    root: Path,
    bucket: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As ComfyUI's plugin keeps it in ComfyUI's user directory."""
    monkeypatch.setenv("CLOUD_ARCHIVE_STATE_DIR", str(tmp_path / "user" / "__cloud_archive"))
    with watching(root) as daemon:
        monkeypatch.delenv("CLOUD_ARCHIVE_STATE_DIR")
        status, out, _ = run_command(capsys, "status", root)
        assert status == 0
        assert "Bucket" in out
        end_by_signal(daemon)
    status, out, _ = run_command(capsys, "status", root)
    assert status == 0
    assert "No archive of this user is running" in out


def test_a_daemon_without_an_archive_ends_with_the_cause(
    capsys: pytest.CaptureFixture[str],
    root: Path,
    bucket: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLOUD_ARCHIVE_STATE_DIR", str(tmp_path / "file" / "state"))
    for arguments in ((), ("--once",)):
        status, _, err = run_command(capsys, "watch", root, *arguments)
        assert status == 1
        assert "state directory" in err


# --- check


def test_check_names_its_steps(
    capsys: pytest.CaptureFixture[str], bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = run_command(capsys, "check")
    assert (status, err) == (0, "")
    assert "ok      write" in out
    monkeypatch.setenv("S3_BUCKET", "no-such-bucket")
    status, out, err = run_command(capsys, "check", "--json")
    assert status == 1
    assert "FAILED  bucket" in err
    assert [step["name"] for step in json.loads(out) if step["ok"] is False] == ["bucket"]
    monkeypatch.delenv("S3_BUCKET")
    assert run_command(capsys, "check")[0] == 2


# --- files that are left out, and files that are older than the archive


def write_old(root: Path, *names: str) -> None:
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).write_bytes(name.encode())
        os.utime(root / name, (1_600_000_000, 1_600_000_000))


def test_files_from_before_the_first_start_are_named_and_archived_when_asked(
    tmp_path: Path, bucket: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "output"
    write_old(root, *(f"{number}.png" for number in range(5)))
    with watching(root):
        wait_until(lambda: run_command(capsys, "status", root)[0] == 0, "the first scan has ended")
        _, out, _ = run_command(capsys, "status", root)
        assert "5 files that were there before archiving began are not archived" in out
    status, out, _ = run_command(capsys, "verify", root)
    assert status == 0
    assert "All of them" not in out
    assert "5 files that were there before archiving began are not archived" in out

    status, out, _ = run_command(capsys, "upload", "--baseline", "--dir", root)
    assert (status, out.splitlines()[-1]) == (0, "Complete: 5/5")
    assert len(bucket.objects()) == 5
    status, out, _ = run_command(capsys, "verify", root)
    assert status == 0
    assert "All of them" in out
    assert "before archiving began" not in out


def test_a_running_archive_takes_up_older_files(
    tmp_path: Path, bucket: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "output"
    write_old(root, "a.png", "b.png")
    with watching(root):
        status, out, _ = run_command(capsys, "upload", "--baseline", "--dir", root)
        assert (status, out.splitlines()[-1]) == (0, "Complete: 2/2")
        assert len(bucket.objects()) == 2


@pytest.mark.parametrize("arguments", [["--baseline", "a.png"], ["--dir", "x", "a.png"], []])
def test_upload_wants_files_or_the_baseline(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run_command(capsys, "upload", *arguments)[0] == 2


def test_status_and_once_name_what_is_left_out_with_the_reason(
    tmp_path: Path, bucket: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "output"
    root.mkdir()
    for name in ("a.png", ".hidden.png", "half.tmp"):
        (root / name).write_bytes(b"body")
    (root / "empty.png").touch()
    status, out, _ = run_command(capsys, "watch", root, "--once")
    assert (status, out.splitlines()[-1]) == (0, "Complete: 1/1")
    for words in ("Skipped .hidden.png: Its name", "Skipped half.tmp: ", "Skipped empty.png: It is empty."):
        assert words in out
    _, out, _ = run_command(capsys, "watch", root, "--once", "--json")
    found = json.loads(out.splitlines()[-1])
    assert found["skipped_files"] == 3
    assert {entry["file"] for entry in found["skipped"]} == {".hidden.png", "half.tmp", "empty.png"}

    status, out, _ = run_command(capsys, "status", root)
    assert status == 0
    assert "3 files" in out
    assert "empty.png: It is empty." in out
    with watching(root):
        wait_until(lambda: run_command(capsys, "status", root)[0] == 0, "the first scan has ended")
        _, out, _ = run_command(capsys, "status", root)
        assert "empty.png: It is empty." in out
        found = json.loads(run_command(capsys, "status", root, "--json")[1].splitlines()[-1])
        assert (found["skipped_files"], len(found["skipped"])) == (3, 3)
