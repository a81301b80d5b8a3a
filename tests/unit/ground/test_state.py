"""Where the state lies, and which files in a watched directory are our own."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from filelock import FileLock

from cloud_archive import own_files, state
from cloud_archive.errors import CloudArchiveError
from cloud_archive.own_files import OwnFiles, note_own_file
from cloud_archive.state import (
    FALLBACK_NAME,
    DirectoryLock,
    EngineInfo,
    engine_lock_is_held,
    find_state_directory,
    make_state_directory,
    read_engine_info,
    registered_engines,
    write_engine_info,
)


@pytest.fixture(params=["none", "can't be written"])
def without_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container with a random user id."""
    monkeypatch.setattr(
        "tempfile.tempdir", str(tmp_path / "temporary")
    )  # locks that nothing removes go there

    def nowhere(*_: object, **__: object) -> Path:
        if request.param == "none":
            raise RuntimeError("could not determine the home directory")
        return Path("/proc/no such folder/state")

    monkeypatch.setattr(platformdirs, "user_state_path", nowhere)


@pytest.mark.usefixtures("without_home")
def test_without_a_usable_home_the_state_lies_beside_what_is_watched(tmp_path: Path) -> None:
    assert make_state_directory(tmp_path, None) == tmp_path / FALLBACK_NAME
    assert find_state_directory(tmp_path, None) == tmp_path / FALLBACK_NAME
    if os.name != "nt":
        assert (tmp_path / FALLBACK_NAME).stat().st_mode & 0o777 == 0o700
    lock = DirectoryLock(tmp_path / FALLBACK_NAME, tmp_path)
    assert lock.acquire()
    lock.release()
    info = EngineInfo(1, 2, "token", str(tmp_path), "1")
    write_engine_info(tmp_path / FALLBACK_NAME, info)
    assert read_engine_info(find_state_directory(tmp_path, None)) == info
    assert registered_engines() == []


@pytest.mark.usefixtures("without_home")
def test_a_named_state_directory_needs_no_home(tmp_path: Path) -> None:
    assert make_state_directory(tmp_path / "out", tmp_path / "state") == tmp_path / "state"
    assert DirectoryLock(tmp_path / "state", tmp_path / "out").acquire()


@pytest.mark.usefixtures("without_home")
def test_where_nothing_can_be_written_the_error_says_what_to_set() -> None:
    with pytest.raises(CloudArchiveError, match="CLOUD_ARCHIVE_STATE_DIR"):
        make_state_directory(Path("/proc/no such root"), None)


def test_two_processes_that_start_at_once_agree_on_a_named_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, base = tmp_path / "out", tmp_path / "state"
    found: list[Path] = []
    written = os.fdopen

    def fdopen(*arguments: Any, **named: Any) -> Any:
        """Let another process claim the directory after this one has created a file, before it writes the file."""
        monkeypatch.setattr(os, "fdopen", written)
        found.append(make_state_directory(root, base))
        return written(*arguments, **named)

    monkeypatch.setattr(os, "fdopen", fdopen)
    found.append(make_state_directory(root, base))
    assert found == [base, base]


def test_a_state_that_fell_back_once_is_found_again_with_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr(platformdirs, "user_state_path", lambda *_, **__: home)
    root = tmp_path / "out"
    (root / FALLBACK_NAME).mkdir(parents=True)
    assert make_state_directory(root, None) == root / FALLBACK_NAME
    other = tmp_path / "other"
    other.mkdir()
    assert make_state_directory(other, None).parent == home


def test_a_pointer_that_was_cut_off_makes_no_other_folder_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a file may be empty; a relative path would be looked for in the current directory."""
    home, folder = tmp_path / "home", tmp_path / "root" / "pictures"
    folder.mkdir(parents=True)
    (home / "locks").mkdir(parents=True)
    (home / "locks" / "0123456789ab.state").write_text("")
    monkeypatch.setattr(platformdirs, "user_state_path", lambda *_, **__: home)
    monkeypatch.chdir(folder)
    assert "pictures/a.png" not in OwnFiles(tmp_path / "root", tmp_path / "state")
    assert registered_engines() == []


def test_own_files_are_known_wherever_they_lie(tmp_path: Path) -> None:
    own = OwnFiles(
        tmp_path, tmp_path / "a/state", [tmp_path / "logs/x.log", tmp_path.parent / "elsewhere.log"]
    )
    for path in ("a/state", "a/state/engine.json", "a/state/deep/x", "logs/x.log", "logs/x.log.3"):
        assert path in own, path
    for path in (
        "a/state.png",
        "a/statement/x.png",
        "logs/x.log.png",
        "logs/y.log",
        "engine.json",
        "elsewhere.log",
    ):
        assert path not in own, path


def test_a_claim_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut would leave an empty claim, which no watched directory could take for its own."""
    base = tmp_path / "state"
    durable: list[tuple[int, int, list[str]]] = []
    flush = os.fsync

    def note(descriptor: int) -> None:
        flush(descriptor)
        durable.append(
            (
                os.fstat(descriptor).st_ino,
                os.fstat(descriptor).st_size,
                sorted(p.name for p in base.iterdir()),
            )
        )

    monkeypatch.setattr(os, "fsync", note)
    make_state_directory(tmp_path / "out", base)
    claim = base / state.OWNER_NAME
    assert [one[:2] for one in durable] == [(claim.stat().st_ino, claim.stat().st_size)]
    assert state.OWNER_NAME not in durable[0][2]


def test_a_damaged_claim_is_another_directory_s(tmp_path: Path) -> None:
    (tmp_path / state.OWNER_NAME).write_bytes(b"\xff\xfe")
    assert state.find_state_directory(tmp_path / "out", tmp_path).parent == tmp_path


def test_a_state_in_the_watched_directory_itself_is_known_by_its_names(tmp_path: Path) -> None:
    own = OwnFiles(tmp_path, tmp_path)
    names = (
        "engine.json",
        "engine.12.new",
        "engine.lock",
        "engine.log",
        "engine.log.1",
        "standby.log",
        "ledger.sqlite3-wal",
    )
    for path in (*names, "ledger.damaged-20260101-000000.sqlite3", "ledger.began", "watched_directory"):
        assert path in own, path
    for path in ("engine.png", "sub/engine.json", "ledger.png", "a.png"):
        assert path not in own, path


@pytest.mark.parametrize("marker", ["ledger.began", "watched_directory"])
def test_a_state_that_no_archive_uses_any_more_is_known_by_its_names(tmp_path: Path, marker: str) -> None:
    (tmp_path / "out/old").mkdir(parents=True)
    own = OwnFiles(tmp_path / "out", tmp_path / "state")
    names = (marker, "ledger.sqlite3", "catalog.sqlite3", "engine.log")
    assert not any(f"old/{name}" in own for name in names)
    (tmp_path / "out/old" / marker).touch()
    for name in names:
        assert f"old/{name}" in own, name
    assert "old/a.png" not in own
    assert "ledger.sqlite3" not in own


def test_states_of_other_archives_are_own_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "platform_state_directory", lambda: tmp_path / "platform")
    monkeypatch.setattr(own_files, "platform_state_directory", lambda: tmp_path / "platform")
    (tmp_path / "platform/locks").mkdir(parents=True)
    other = tmp_path / "out/its state"
    other.mkdir(parents=True)
    write_engine_info(other, EngineInfo(1, 2, "token", str(tmp_path / "other"), "1"))
    assert "its state/engine.json" in OwnFiles(tmp_path / "out", tmp_path / "state")


def test_a_log_that_another_process_notes_is_an_own_file_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "platform_state_directory", lambda: tmp_path / "platform")
    monkeypatch.setattr(own_files, "platform_state_directory", lambda: tmp_path / "platform")
    own = OwnFiles(tmp_path, tmp_path / "state")
    assert "logs/x.log" not in own
    note_own_file(tmp_path / "logs/x.log")
    note_own_file(tmp_path / "logs/x.log")
    own.refresh()
    assert "logs/x.log" in own
    assert "logs/x.log.1" in own
    assert "logs/y.log" not in own
    assert (tmp_path / "platform/locks/logs.jsonl").read_text().count("\n") == 1
    for number in range(own_files._MAX_LOGS + 1):
        note_own_file(tmp_path / f"logs/{number}.log")
    own.refresh()
    assert "logs/x.log" in own, "what was known once stays known"
    assert f"logs/{own_files._MAX_LOGS}.log" in own


@pytest.mark.usefixtures("without_home")
def test_where_no_log_can_be_noted_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/proc/no such folder")
    note_own_file(tmp_path / "x.log")
    OwnFiles(tmp_path, tmp_path / "state").refresh()


def test_the_lock_is_let_go_by_whichever_thread_closes(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path, tmp_path, machine_wide=False)
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    lock.release()
    again = DirectoryLock(tmp_path, tmp_path, machine_wide=False)
    assert again.acquire()
    again.release()


def test_a_command_that_tests_the_lock_does_not_count_as_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock for a moment. An engine that starts waits for it, and so does another command."""
    monkeypatch.setattr(state, "_LOCK_TEST_SECONDS", 60.0)
    starting = DirectoryLock(tmp_path, tmp_path, machine_wide=False)
    for ask, answer in ((starting.acquire, True), (lambda: engine_lock_is_held(tmp_path), False)):
        command = FileLock(tmp_path / "engine.lock", thread_local=False)
        command.acquire()
        end = threading.Timer(0.02, command.release)
        end.start()
        assert ask() is answer
        end.join()
        starting.release()


def test_a_lock_without_a_file_is_not_held(tmp_path: Path) -> None:
    """Some versions of filelock remove the file of a lock that is released."""
    assert not engine_lock_is_held(tmp_path)


def test_an_engine_that_holds_the_lock_is_no_command(tmp_path: Path) -> None:
    engine = DirectoryLock(tmp_path, tmp_path, machine_wide=False)
    assert engine.acquire()
    assert engine_lock_is_held(tmp_path)
    assert not DirectoryLock(tmp_path, tmp_path, machine_wide=False).acquire()
    engine.release()
    assert not engine_lock_is_held(tmp_path)
