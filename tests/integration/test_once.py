"""`watch --once` against a real S3 server: what it archives, loads, and says where it can't."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_archive.cli import once
from cloud_archive.cli.give_up import StallTimer
from tests.commands import run_command
from tests.integration.daemon import end_by_signal, watching
from tests.servers import S3Server

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
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))  # and never listens, so that no other program can either
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setattr(
        once.Once.__init__, "__kwdefaults__", {"on_status": lambda _: None, "give_up_seconds": 2.0}
    )
    measured = StallTimer.seconds
    # However late the first attempt is, the file is given up after it only.
    monkeypatch.setattr(
        StallTimer, "seconds", lambda self, s: measured(self, s) if s["retrying_files"] else 0.0
    )
    with silent:
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
