"""The command against a real S3 server, as a user calls it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.ownership import engine_state_directory
from cloud_archive.cli import direct_upload, once
from cloud_archive.demo.seaweedfs import free_ports
from cloud_archive.state import read_engine_info
from tests.commands import run_command
from tests.fork_server import PIPE, Process, popen
from tests.servers import S3Server, wait_until

SLOW_TO_LOAD = ("aiohttp", "boto3", "botocore", "pathspec", "prometheus_client", "pydantic", "rich", "typer")
# Our own modules, and what only they load, that are not needed to archive one file without a graph.
NOT_FOR_ONE_FILE = (
    "cloud_archive.archive.freeing",
    "cloud_archive.catalog.bucket.compaction",
    "cloud_archive.catalog.bucket.sync",
    "cloud_archive.catalog.embedded",
    "cloud_archive.catalog.graph",
    "cloud_archive.catalog.graph_reading",
    "cloud_archive.catalog.rebuild",
    "cloud_archive.catalog.search",
    "cloud_archive.catalog.secrets",
    "cloud_archive.cli.ledger_view",
    "cloud_archive.jobs.webhooks",
    "cloud_archive.sharing.share",
    "http.client",
    "urllib.request",
)

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]


@pytest.fixture
def bucket(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A bucket that the environment names, with the prefix `out`."""
    settings = seaweedfs.environ(S3_PREFIX="out", CLOUD_ARCHIVE_SETTLE_SECONDS="0.2")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return seaweedfs


@contextmanager
def watching(root: Path, *arguments: str) -> Iterator[Process]:
    """Run `watch` as a process of its own; yield it once it answers."""
    process = popen(
        [sys.executable, "-m", "cloud_archive", "watch", str(root), *arguments], stdout=PIPE, stderr=PIPE
    )
    try:
        wait_until(lambda: _running(root) or process.poll() is not None, "the daemon runs")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _running(root: Path) -> bool:
    from cloud_archive.api.client import running_engine

    if read_engine_info(engine_state_directory(root, os.environ)) is None:
        return False
    engine = running_engine(root)
    return engine is not None and engine.status()["state"] not in ("starting", "not_configured")


def end_by_signal(process: Process, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    """Send the signal and wait. Returns (exit status, standard output, standard error)."""
    process.send_signal(number)
    out, err = process.communicate(timeout=90)
    assert "Traceback" not in err
    return process.returncode, out, err


# --- watch --once


def test_once_archives_what_is_there_old_files_too(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "new.png").write_bytes(b"new")
    (root / "old.png").write_bytes(b"old")
    os.utime(root / "old.png", (1e9, 1e9))
    status, out, err = run_command(capsys, "watch", root, "--once")
    assert (status, out) == (0, "Complete: 2/2\n")
    assert "Archived old.png as out/old.png" in err
    assert bucket.objects() == {"out/old.png": b"old", "out/sub/new.png": b"new"}


def test_once_again_finds_nothing_new(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server
) -> None:
    (root / "a.png").write_bytes(b"a")
    assert run_command(capsys, "watch", root, "--once")[0] == 0
    status, out, _ = run_command(capsys, "watch", root, "--once", "--json")
    assert status == 0
    counts = {"archived": 0, "already_archived": 0, "failed": 0, "total": 0, "skipped_files": 0}
    assert json.loads(out) == {**counts, "failures": [], "skipped": []}
    assert bucket.keys() == ["out/a.png"]


def test_once_loads_only_what_archives_one_small_file(root: Path, bucket: S3Server) -> None:
    (root / "a.png").write_bytes(b"a")
    names = ", ".join(map(repr, (*SLOW_TO_LOAD, *NOT_FOR_ONE_FILE)))
    code = (
        # On a busy machine this work may take longer than work that is worth a listener.
        "import sys; from cloud_archive.daemon import service; service.SHORT_WORK_SECONDS = 3600.0;"
        "from cloud_archive.cli.start import main; status = main(sys.argv[1:]);"
        f"print(status, *sorted({{{names}}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "watch", str(root), "--once"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "Complete: 1/1\n0\n"
    assert bucket.objects() == {"out/a.png": b"a"}


def test_once_can_be_called_by_other_commands_when_its_work_takes_long(root: Path, bucket: S3Server) -> None:
    with (root / "open.png").open("wb") as open_file:
        open_file.write(b"x")
        open_file.flush()
        with watching(root, "--once") as process:
            assert process.poll() is None
        process.kill()


def test_once_does_what_the_backfill_variable_says(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "old.png").write_bytes(b"old")
    os.utime(root / "old.png", (1e9, 1e9))
    monkeypatch.setenv("CLOUD_ARCHIVE_BACKFILL", "none")
    assert run_command(capsys, "watch", root, "--once")[0] == 0
    assert bucket.keys() == []


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("S3_SECRET_ACCESS_KEY", "another+SECRET", "rejects the signature"),
        ("S3_BUCKET", "no-such-bucket", "bucket does not exist"),
    ],
)
def test_once_ends_soon_where_the_store_refuses(
    capsys: pytest.CaptureFixture[str],
    root: Path,
    bucket: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    said: str,
) -> None:
    (root / "a.png").write_bytes(b"a")
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(
        once.Once.__init__, "__kwdefaults__", {"on_status": lambda _: None, "give_up_seconds": 3600.0}
    )
    status, out, err = run_command(capsys, "watch", root, "--once")
    assert (status, out) == (1, "Complete: 0/1\n")
    assert "a.png: " in err.splitlines()[-1]
    assert said in err.splitlines()[-1]
    assert "another+SECRET" not in err


def test_once_gives_up_where_nothing_answers(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.png").write_bytes(b"a")
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setattr(
        once.Once.__init__, "__kwdefaults__", {"on_status": lambda _: None, "give_up_seconds": 2.0}
    )
    status, out, err = run_command(capsys, "watch", root, "--once", "--json")
    assert status == 1
    (failure,) = json.loads(out)["failures"]
    assert failure["file"] == "a.png"
    assert "connection was refused" in failure["cause"]
    assert "a.png" in err


def test_once_names_each_failure_and_archives_the_rest(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server
) -> None:
    deep = root.joinpath(*["d" * 210] * 5)
    deep.mkdir(parents=True)
    (deep / "long.png").write_bytes(b"x")
    (root / "fine.png").write_bytes(b"y")
    status, out, err = run_command(capsys, "watch", root, "--once")
    assert (status, out) == (1, "Complete: 1/2\n")
    assert "1,024 are allowed" in err.splitlines()[-1]
    assert bucket.keys() == ["out/fine.png"]


def test_once_beside_a_running_archive_lets_that_one_do_it(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server
) -> None:
    (root / "older.png").write_bytes(b"older than the archive")
    os.utime(root / "older.png", (1e9, 1e9))
    with watching(root) as daemon:
        (root / "new.png").write_bytes(b"new")
        status, out, err = run_command(capsys, "watch", root, "--once")
        assert (status, out) == (0, "Complete: 2/2\n"), err
        assert end_by_signal(daemon)[0] == 0
    assert bucket.keys() == ["out/new.png", "out/older.png"]


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


def test_status_flush_and_retry_ask_the_running_archive(
    capsys: pytest.CaptureFixture[str], root: Path, bucket: S3Server, tmp_path: Path
) -> None:
    log = tmp_path / "watch.log"
    with watching(root, "--serve", "127.0.0.1:0", "--log-file", str(log)) as daemon:
        (root / "a.png").write_bytes(b"a")
        status, out, err = run_command(capsys, "flush", root, "--timeout", "20")
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
    assert "No archive is running" in out


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


# --- upload


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
    import threading

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
    defaults: dict[str, Any] = dict(direct_upload.DirectUpload.__init__.__kwdefaults__ or {})
    monkeypatch.setattr(
        direct_upload.DirectUpload.__init__, "__kwdefaults__", defaults | {"give_up_seconds": 2.0}
    )
    status, _, err = run_command(capsys, "upload", tmp_path / "a.png")
    assert status == 1
    assert "connection was refused" in err


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
        assert "5 files from before the first start are not archived" in out
    status, out, _ = run_command(capsys, "verify", root)
    assert status == 0
    assert "All of them" not in out
    assert "5 files from before the first start are not archived" in out

    status, out, _ = run_command(capsys, "upload", "--baseline", "--dir", root)
    assert (status, out.splitlines()[-1]) == (0, "Complete: 5/5")
    assert len(bucket.objects()) == 5
    status, out, _ = run_command(capsys, "verify", root)
    assert status == 0
    assert "All of them" in out
    assert "before the first start" not in out


def test_a_running_archive_takes_up_files_from_before_its_first_start(
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
