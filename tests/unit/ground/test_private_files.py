"""What only this user may use, and which directories are refused because others may change them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest

from cloud_archive import private_files, state
from cloud_archive.catalog.database import open_catalog
from cloud_archive.catalog.thumbnails.cache import ThumbnailCache
from cloud_archive.daemon.logs import log_to_file
from cloud_archive.errors import CatalogError, CloudArchiveError, JobsError
from cloud_archive.jobs.store import JobStore
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.recovery import open_ledger
from cloud_archive.private_files import NotPrivate, make_private_directory, open_private, write_private
from cloud_archive.state import (
    FALLBACK_NAME,
    DirectoryLock,
    EngineInfo,
    find_state_directory,
    make_state_directory,
    read_engine_info,
    write_engine_info,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes of POSIX")
root_only = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives a file away")

ANOTHER = 12_345


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Whatever is made without a mode is for everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


@pytest.mark.parametrize("given", [0o755, 0o700, 0o750, 0o500])
def test_a_directory_that_the_user_named_keeps_its_mode(tmp_path: Path, given: int) -> None:
    base = tmp_path / "state"
    base.mkdir()
    base.chmod(given)
    assert make_state_directory(tmp_path / "out", base, keep_mode=True) == base
    assert mode(base) == given


@pytest.mark.parametrize("given", [0o777, 0o1777, 0o775, 0o757])
def test_a_named_directory_that_others_may_write_to_is_refused(tmp_path: Path, given: int) -> None:
    base = tmp_path / "state"
    base.mkdir()
    base.chmod(given)
    with pytest.raises(CloudArchiveError) as refused:
        make_state_directory(tmp_path / "out", base, keep_mode=True)
    assert f"other users may write to it (mode {given:04o})" in str(refused.value)
    assert "Set CLOUD_ARCHIVE_STATE_DIR" in str(refused.value)
    assert mode(base) == given
    assert list(base.iterdir()) == []


def test_a_directory_of_our_own_is_closed_again(tmp_path: Path) -> None:
    """Start scripts of containers do `chmod -R 777` to all of ComfyUI."""
    base = tmp_path / "cloud_archive"
    base.mkdir()
    base.chmod(0o777)
    assert make_state_directory(tmp_path / "out", base) == base
    assert mode(base) == 0o700


@root_only
@pytest.mark.parametrize("keep_mode", [True, False])
def test_a_directory_of_another_user_is_refused(tmp_path: Path, keep_mode: bool) -> None:
    base = tmp_path / "state"
    base.mkdir(mode=0o700)
    os.chown(base, ANOTHER, ANOTHER)
    with pytest.raises(CloudArchiveError, match=rf"not safe: another user owns it \(uid {ANOTHER}\)"):
        make_state_directory(tmp_path / "out", base, keep_mode=keep_mode)


def test_a_filesystem_without_modes_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Open(tempfile.TemporaryDirectory[str]):
        def __enter__(self) -> str:
            Path(self.name).chmod(0o777)
            return self.name

    monkeypatch.setattr(private_files, "tempfile", SimpleNamespace(TemporaryDirectory=Open))
    tmp_path.chmod(0o777)
    make_private_directory(tmp_path, keep_mode=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [0o777, 0o775])
def test_an_engine_that_another_user_may_have_written_down_is_not_believed(
    tmp_path: Path, given: int
) -> None:
    """An impostor's port and token: commands would ask it whether it is safe to stop."""
    base = tmp_path / "state"
    base.mkdir(mode=0o755)
    info = EngineInfo(1, 2, "token", str(tmp_path), "1")
    write_engine_info(base, info, machine_wide=False)
    assert read_engine_info(base) == info
    base.chmod(given)
    assert read_engine_info(base) is None


def test_missing_parents_are_for_this_user_alone_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path / "share" / "cloud-archive" / "out", keep_mode=False)
    for folder in ("share", "share/cloud-archive", "share/cloud-archive/out"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(CloudArchiveError, match="can't be made"):
        make_state_directory(tmp_path / "out", tmp_path / "state")


@root_only
def test_a_lock_folder_that_another_user_made_first_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(state, "platform_state_directory", lambda: Path("/proc/none"))
    folder = state.shared_lock_folder()
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    os.chown(folder, ANOTHER, ANOTHER)
    make_private_directory(tmp_path / "state", keep_mode=False)
    lock = DirectoryLock(tmp_path / "state", tmp_path)
    assert lock.acquire()
    lock.release()
    assert list(folder.iterdir()) == []
    with pytest.raises(NotPrivate):
        make_private_directory(folder, keep_mode=False)


def test_the_shared_lock_folder_is_this_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(state, "platform_state_directory", lambda: Path("/proc/none"))
    folder = state.lock_folder()
    assert folder.parent == tmp_path
    assert str(os.getuid()) in folder.name
    assert mode(folder) == 0o700


@pytest.mark.usefixtures("open_umask")
def test_every_file_of_the_state_is_for_this_user_alone(tmp_path: Path) -> None:
    base = tmp_path / "state"
    base.mkdir(mode=0o755)
    make_state_directory(tmp_path / "out", base, keep_mode=True)
    ledger, _, _ = open_ledger(base)
    lock = DirectoryLock(base, tmp_path, machine_wide=False)
    assert lock.acquire()
    write_engine_info(base, EngineInfo(os.getpid(), 1, "token", str(tmp_path), "1"), machine_wide=False)
    handler = log_to_file(base / "engine.log", (), private=True)
    saved = Ledger(None)
    saved.open()
    saved.save(base / "saved.sqlite3")
    found = {path.name: mode(path) for path in base.iterdir()}
    handler.close()
    saved.close()
    ledger.close()
    lock.release()
    assert {
        "ledger.sqlite3",
        "ledger.sqlite3-wal",
        "ledger.began",
        "engine.json",
        "engine.log",
    } <= found.keys()
    assert set(found.values()) == {0o600}, found


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_the_place_of_the_ledger_or_the_catalog_is_not_followed(
    tmp_path: Path, suffix: str, dangling: bool
) -> None:
    victim = tmp_path / "victim"
    if not dangling:
        victim.touch()
    for name in ("ledger.sqlite3", "catalog.sqlite3", "jobs.sqlite3", "thumbnails.sqlite3"):
        (tmp_path / f"{name}{suffix}").symlink_to(victim)
    ledger, (notice,), _ = open_ledger(tmp_path)
    assert "is a symbolic link, which is not followed; remove it" in notice
    assert ledger.path is None
    ledger.close()
    with pytest.raises(CatalogError, match="symbolic link"):
        open_catalog(tmp_path / "catalog.sqlite3")
    with pytest.raises(JobsError, match="symbolic link"):
        JobStore(tmp_path / "jobs.sqlite3").open()
    cache = ThumbnailCache(tmp_path / "thumbnails.sqlite3")
    cache.open()
    cache.close()
    assert (tmp_path / "thumbnails.sqlite3").is_file(), "it is made anew"
    assert not (tmp_path / "thumbnails.sqlite3").is_symlink()
    assert victim.exists() is not dangling
    assert dangling or victim.read_bytes() == b""


def test_a_database_whose_directory_cannot_be_entered_has_an_error_that_names_it(tmp_path: Path) -> None:
    base = tmp_path / ("d" * 300)  # not even root can
    ledger, (notice, *_), content_lost = open_ledger(base)
    assert str(base / "ledger.sqlite3") in notice
    assert (ledger.path, content_lost) == (None, True)
    ledger.close()
    with pytest.raises(CatalogError, match=r"catalog\.sqlite3"):
        open_catalog(base / "catalog.sqlite3")
    with pytest.raises(JobsError, match=r"jobs\.sqlite3"):
        JobStore(base / "jobs.sqlite3").open()


def test_an_existing_ledger_or_catalog_loses_the_rights_of_others(tmp_path: Path) -> None:
    for name in ("ledger.sqlite3", "catalog.sqlite3", "ledger.sqlite3-wal"):
        (tmp_path / name).touch(mode=0o644)
        (tmp_path / name).chmod(0o644)
    open_ledger(tmp_path)[0].close()
    open_catalog(tmp_path / "catalog.sqlite3")[0].close()
    assert mode(tmp_path / "ledger.sqlite3") == mode(tmp_path / "catalog.sqlite3") == 0o600


def test_a_link_in_the_place_of_a_new_file_is_not_followed(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "engine.json"
    victim.write_text("before")
    link.symlink_to(victim)
    fresh = tmp_path / f"engine.json.{os.getpid()}.new"
    fresh.symlink_to(victim)
    write_private(link, "text")
    assert (link.is_symlink(), link.read_text(), victim.read_text()) == (False, "text", "before")
    log = tmp_path / "engine.log"
    log.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        open(log, "a", opener=open_private).close()
    assert victim.read_text() == "before"


def test_a_folder_that_others_may_write_to_is_nobodys_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that another user prepared in /tmp."""
    monkeypatch.setattr(platformdirs, "user_state_path", lambda *_, **__: tmp_path / "home")
    root = tmp_path / "out"
    prepared = root / FALLBACK_NAME
    prepared.mkdir(parents=True)
    prepared.chmod(0o777)
    assert tmp_path / "home" in find_state_directory(root, None).parents
    assert tmp_path / "home" in make_state_directory(root, None).parents


@root_only
def test_a_state_directory_that_only_root_can_enter_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a start with sudo, which keeps the user's home."""
    with tempfile.TemporaryDirectory() as name:
        base, root = Path(name), Path(name) / "out"
        base.chmod(0o755)
        root.mkdir()
        os.chown(root, ANOTHER, ANOTHER)
        monkeypatch.setattr(platformdirs, "user_state_path", lambda *_, **__: base / "state")
        assert base in make_state_directory(root, None).parent.parents
        monkeypatch.setattr(os, "access", lambda *_: False)  # it would ask for the real user, who is root
        try:
            os.seteuid(ANOTHER)
            assert make_state_directory(root, None) == root / FALLBACK_NAME
            assert find_state_directory(root, None) == root / FALLBACK_NAME
        finally:
            os.seteuid(0)
