"""Odd files: links, pipes, sockets, long paths, files without read permission. Real files, a store in memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cloud_archive.archive import pipeline
from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.given_up import retry_gone_files
from cloud_archive.errors import FileVanished
from cloud_archive.keys import object_key
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore, refuse
from tests.servers import wait_until

posix = pytest.mark.skipif(os.name != "posix", reason="pipes, sockets and permissions of POSIX")


def _key(path: str) -> str:
    return object_key("out", path)


def _wait_for_arrival(archiver: Archiver, store: MemoryStore, *names: str) -> None:
    wait_until(lambda: {_key(name) for name in names} <= set(store.bodies()), f"{names} arrived")
    assert archiver.flush(60), archiver.status().errors


def _make_odd_files(root: Path, outside: Path) -> dict[str, bytes]:
    """Make one of each odd file; return the paths and bytes that must be archived."""
    (outside / "folder").mkdir(parents=True)
    (outside / "secret.bin").write_bytes(b"of somebody else")
    (outside / "folder/secret.bin").write_bytes(b"of somebody else, too")
    os.mkfifo(root / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(root)  # a socket's name is short
        try:
            listener.bind("socket.png")
        finally:
            os.chdir(here)
    (root / "loop").symlink_to(root)
    (root / "itself.png").symlink_to(root / "itself.png")
    (root / "link to a file.png").symlink_to(outside / "secret.bin")
    (root / "link to a folder").symlink_to(outside / "folder")
    (root / "link to nothing.png").symlink_to(outside / "nothing")
    (root / "folder.png").mkdir()
    (root / "first.bin").write_bytes(b"two names")
    os.link(root / "first.bin", root / "second.bin")
    with (root / "sparse.bin").open("wb") as file:
        file.seek(9_000_000)
        file.write(b"the end")
    long = "n" * 251 + ".bin"
    (root / long).write_bytes(b"255 bytes")
    (root / "line\nbreak\ttab.bin").write_bytes(b"newline")
    old, new = root / "moved from 1970.bin", root / "from the future.bin"
    for path, seconds in ((old, 1), (new, 4_000_000_000), (root / "before 1970.bin", -1_000_000)):
        path.write_bytes(path.name.encode())
        os.utime(path, (seconds, seconds))
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.iterdir()
        if path.is_file() and not path.is_symlink()
    }


@posix
@pytest.mark.parametrize("watch", ["native", "poll"])
def test_whatever_lies_in_the_tree_each_regular_file_arrives_once_and_nothing_else(
    tmp_path: Path, watch: str
) -> None:
    store = MemoryStore()
    root = tmp_path / "output"
    with archiving(root, store, CLOUD_ARCHIVE_WATCH=watch) as archiver:
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
        wanted = _make_odd_files(root, tmp_path / "outside")
        _wait_for_arrival(archiver, store, *wanted)
        assert archiver.status().errors == ()
    assert store.bodies() == {_key(path): body for path, body in wanted.items()}


@posix
def test_what_was_there_before_arrives_likewise_when_it_is_asked_for(tmp_path: Path) -> None:
    store = MemoryStore()
    root = tmp_path / "output"
    root.mkdir()
    wanted = _make_odd_files(root, tmp_path / "outside")
    with archiving(root, store, CLOUD_ARCHIVE_BACKFILL="all") as archiver:
        _wait_for_arrival(archiver, store, *wanted)
    assert store.bodies() == {_key(path): body for path, body in wanted.items()}


@posix
def test_a_file_behind_a_folder_that_became_a_link_is_never_uploaded(tmp_path: Path) -> None:
    """As if the folder were swapped between the route's check of the path and the upload."""
    store = MemoryStore()
    root, outside = tmp_path / "output", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.bin").write_bytes(b"secret")
    with archiving(root, store) as archiver:
        (root / "folder").symlink_to(outside)
        with pytest.raises(FileVanished):
            archiver.submit("folder/secret.bin", 60.0)
        archiver.rescan()
    assert store.bodies() == {}


@pytest.mark.skipif(os.name == "nt", reason="no path is so long there")
def test_a_path_of_four_thousand_bytes_is_named_and_delays_no_other_file(tmp_path: Path) -> None:
    store = MemoryStore()
    root = tmp_path / "output"
    with archiving(root, store) as archiver:
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
        here, before = Path.cwd(), len(os.fsencode(root))
        deep, room = [], 4095 - before
        while room > 260:
            deep.append("d" * 240)
            room -= 241
        try:
            os.chdir(root)
            for name in deep:
                Path(name).mkdir()
                os.chdir(name)
            Path("a.bin").write_bytes(b"deep")
        finally:
            os.chdir(here)
        (root / "b.bin").write_bytes(b"shallow")
        path = "/".join([*deep, "a.bin"])
        wait_until(lambda: any(path in error for error in archiver.status(scan=False).errors), "it is named")
        wait_until(lambda: archiver.ledger.totals().archived.files == 1, "the other one is archived")
        assert "out/b.bin" in store.bodies()
        (error,) = archiver.status(scan=False).errors
        assert "1,024 are allowed" in error
        assert not archiver.safety.safe_to_stop()
        assert archiver.remaining() == [path]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_file_that_was_given_up_no_longer_counts_once_it_is_gone(
    root: Path, renamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[bool] = []  # whether only few files were to be checked

    def noted(ledger: Ledger, root: Path, *, only_if_few: bool) -> int:
        found = retry_gone_files(ledger, root, only_if_few=only_if_few)
        checks.append(only_if_few)
        return found

    monkeypatch.setattr(pipeline, "retry_gone_files", noted)
    store = MemoryStore()
    store.on_call = lambda operation, key: (
        refuse("EntityTooLarge", 400, key) if key == _key("a.bin") else None
    )
    with archiving(root, store, CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
        (root / "a.bin").write_bytes(b"a")
        wait_until(lambda: bool(archiver.ledger.rows(retried=False)), "it is given up")
        assert not archiver.safety.safe_to_stop()
        wait_until(lambda: any(checks), "it was looked for after the last scan, and again")
        assert not checks[0], "after a scan it is looked for among many files, too"
        if renamed:
            (root / "a.bin").rename(root / "b.bin")
        else:
            (root / "a.bin").unlink()
        wait_until(archiver.safety.safe_to_stop, "nothing is left to do")
        assert archiver.ledger.totals().failed.files == 0
        assert set(store.bodies()) == ({_key("b.bin")} if renamed else set())


DROPPED = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, os.getcwd())
from cloud_archive.archive.archive import Archiver
from tests.functional.archives import archiving
from tests.servers import wait_until
from tests.memory_store import MemoryStore
base = Path(sys.argv[1])
if os.geteuid() == 0:
    os.chown(base, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


def _without_rights(script: str, *, before: str = "") -> None:
    """Run a script in a process without root's rights.

    Args:
        before: code that the process runs while it still has these rights.
    """
    # Not in `tmp_path`, whose parent folders only this user may enter.
    with tempfile.TemporaryDirectory(prefix="cloud-archive-rights-") as folder:
        done = subprocess.run(
            [sys.executable, "-c", before + DROPPED + script, folder],
            capture_output=True,
            text=True,
            timeout=300,  # for several waits of a minute
            cwd=Path(__file__).parents[2],
        )
    assert done.returncode == 0, done.stdout + done.stderr


@posix
def test_a_file_without_read_permission_is_named_and_arrives_once_it_is_readable() -> None:
    _without_rights(
        """
store = MemoryStore()
with archiving(base / "output", store, CLOUD_ARCHIVE_RESCAN_SECONDS="1") as archiver:
    wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
    dark = base / "output/a.bin"
    dark.touch(mode=0)
    dark.chmod(0o200)
    dark.write_bytes(b"dark")
    dark.chmod(0)
    (base / "output/b.bin").write_bytes(b"light")
    told = "a.bin can't be read: Permission denied"
    wait_until(lambda: any(told in error for error in archiver.status(scan=False).errors), "named")
    wait_until(lambda: "out/b.bin" in store.bodies(), "the other one arrived")
    assert not archiver.safety.safe_to_stop()
    # An event that comes late has it settle again.
    wait_until(lambda: [w.reason for w in archiver.status(scan=False).waiting] == ["unreadable"], "it waits")
    dark.chmod(0o600)
    wait_until(lambda: store.bodies().get("out/a.bin") == b"dark", "it arrived")
    assert archiver.flush(60)
    assert not archiver.status().errors, archiver.status().errors
""",
    )


@posix
def test_a_retry_tries_a_file_without_read_permission_again() -> None:
    _without_rights(
        """
store = MemoryStore()
with archiving(base / "output", store, CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
    wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
    dark = base / "output/a.bin"
    dark.touch(mode=0o200)
    dark.write_bytes(b"dark")
    wait_until(lambda: [w.reason for w in archiver.status(scan=False).waiting] == ["unreadable"], "it waits")
    dark.chmod(0o600)
    assert archiver.retry() == 1
    wait_until(lambda: store.bodies().get("out/a.bin") == b"dark", "it arrived")
    assert archiver.retry() == 0
dark.chmod(0)
with archiving(base / "output", store, CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
    wait_until(lambda: archiver.status(scan=False).errors, "it may have changed")
    dark.chmod(0o600)
    assert archiver.retry() == 1
    assert archiver.flush(60)
""",
    )


@posix
@pytest.mark.parametrize("closed_folder", [False, True])
def test_watch_once_ends_although_a_file_stays_without_read_permission(closed_folder: bool) -> None:
    _without_rights(
        f"closed_folder = {closed_folder}"
        """
from cloud_archive.cli.once import Once
from tests.functional.archives import engine_on
root = base / "output"
root.mkdir()
(root / "a.bin").write_bytes(b"dark")
(root / "a.bin").chmod(0)
(root / "b.bin").write_bytes(b"light")
if closed_folder:
    (root / "closed").mkdir(mode=0)
store = MemoryStore()
with engine_on(root, store, base / "state", CLOUD_ARCHIVE_BACKFILL="all") as engine:
    once = Once(engine)
    once.run()
assert store.bodies() == {"out/b.bin": b"light"}
failures = [("a.bin", "It can't be read. Allow this user to read it.")]
if closed_folder:
    failures.append(("", "closed can't be scanned: Permission denied."))
assert once.result.failures == failures
""",
    )


@posix
def test_the_state_of_a_directory_without_permissions_lies_in_the_usual_place() -> None:
    _without_rights(
        """
from cloud_archive.state import find_state_directory
os.environ["XDG_STATE_HOME"] = str(base / "state")
root = base / "output"
root.mkdir(mode=0)
assert find_state_directory(root, None).parent == base / "state/cloud-archive"
""",
    )


WRITER_OF_ROOT = """
import subprocess, sys
PROGRAM = '''
import sys
with open(sys.stdin.readline().strip(), "wb", 0) as file:
    file.write(b"half")
    print("open", flush=True)
    sys.stdin.readline()
    file.write(b" and half")
'''
writer = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=-1, stdout=-1, text=True)
"""


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="needs two users")
def test_half_a_file_of_another_user_waits_for_its_writer() -> None:
    _without_rights(
        """
from cloud_archive.intake.open_files import has_writer
from tests.functional.archives import wait_for_watches
store = MemoryStore()
with archiving(base / "output", store) as archiver:
    wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
    wait_for_watches(archiver)
    print(base / "output/a.bin", file=writer.stdin, flush=True)
    writer.stdout.readline()
    assert has_writer(base / "output", "a.bin") is None, "nobody tells"
    wait_until(lambda: [w.reason for w in archiver.status(scan=False).waiting] == ["being written"], "it waits")
    assert store.bodies() == {}
    assert not archiver.safety.safe_to_stop()
    writer.communicate()
    wait_until(lambda: store.bodies() == {"out/a.bin": b"half and half"}, "it arrives once and whole")
    assert archiver.flush(60)
""",
        before=WRITER_OF_ROOT,
    )


@posix
def test_a_folder_without_read_permission_is_named_and_its_files_arrive_once_it_is_readable() -> None:
    _without_rights(
        """
import cloud_archive.archive.pipeline
cloud_archive.archive.pipeline.KEEPER_SECONDS = 0.2
store = MemoryStore()
with archiving(base / "output", store, CLOUD_ARCHIVE_RESCAN_SECONDS="600") as archiver:
    wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
    dark = base / "output/dark"
    staged = base / "staged"
    staged.mkdir()
    (staged / "a.bin").write_bytes(b"dark")
    staged.chmod(0o300)
    staged.rename(dark)
    (base / "output/b.bin").write_bytes(b"light")
    told = "dark can't be scanned: Permission denied"
    wait_until(lambda: any(told in error for error in archiver.status(scan=False).errors), "named")
    wait_until(lambda: "out/b.bin" in store.bodies(), "the other one arrived")
    assert not archiver.safety.safe_to_stop()
    dark.chmod(0o700)
    wait_until(lambda: store.bodies().get("out/dark/a.bin") == b"dark", "it arrived")
    assert archiver.flush(60)
    assert not archiver.status().errors, archiver.status().errors
    (dark / "late.bin").write_bytes(b"late")
    wait_until(lambda: "out/dark/late.bin" in store.bodies(), "a later one arrived")
""",
    )


def test_a_date_that_the_ledger_cannot_hold_delays_no_other_file(root: Path) -> None:
    store = MemoryStore()
    (root / "far.png").write_bytes(b"far")
    try:
        os.utime(root / "far.png", ns=(0, 1 << 63))
    except (OSError, OverflowError):
        pytest.skip("this filesystem knows no such date")
    if (root / "far.png").stat().st_mtime_ns < 1 << 63:
        pytest.skip("this filesystem knows no such date")
    (root / "near.png").write_bytes(b"near")
    with archiving(root, store, CLOUD_ARCHIVE_BACKFILL="all") as archiver:
        assert archiver.flush(60)
    assert store.bodies() == {"out/far.png": b"far", "out/near.png": b"near"}
