"""What `free` is asked to remove, and what it says."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path

import pytest

from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.common import ledger_path
from cloud_archive.cli.free import _limits, _show, _why_nothing
from cloud_archive.config.settings import Settings, load_settings
from cloud_archive.files import FileVersion
from cloud_archive.ledger.known_root import KnownRoot
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.free import FreedFile, FreeReport, Limits, LocalCleaner
from tests.archived_rows import mark_archived
from tests.commands import run_command
from tests.functional.archives import added
from tests.memory_store import MemoryStore, refuse

DAY = 86_400.0


def settings(**more: str) -> Settings:
    keys = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "secret-of-this-test"}
    return load_settings(keys | more)


def test_an_option_replaces_both_settings() -> None:
    both = settings(CLOUD_ARCHIVE_DELETE_LOCAL_AFTER="7d", CLOUD_ARCHIVE_MIN_FREE_DISK="1GB")
    assert _limits(None, None, both) == Limits(7 * DAY, 10**9)
    assert _limits("1d", None, both) == Limits(DAY)
    assert _limits(None, "2GB", both) == Limits(None, 2 * 10**9)


def test_without_any_limit_all_archived_files_go() -> None:
    assert _limits(None, None, settings()) == Limits(0.0)


@pytest.mark.parametrize(("older_than", "min_free"), [("off", None), (None, "off")])
def test_a_limit_that_is_off_is_wrong_usage(older_than: str | None, min_free: str | None) -> None:
    with pytest.raises(WrongUsage, match="give an AGE"):
        _limits(older_than, min_free, settings())


def test_each_file_is_named_and_what_stays_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    report = FreeReport(freed=1, freed_bytes=1500, files=[FreedFile("a\n.png", 1500, "out/a.png")])
    _show(report)
    assert capsys.readouterr().out.splitlines() == ["Removed 1 local file (1.5 kB)."], (
        "named when it was removed"
    )
    _show(dataclasses.replace(report, dry_run=True))
    assert capsys.readouterr().out.splitlines() == [
        "a\\n.png  1.5 kB  out/a.png",
        "Would remove 1 local file (1.5 kB).",
    ]
    _show(FreeReport(dry_run=True, kept=2, unproven=["b.png"]))
    would, kept, unproven = capsys.readouterr().out.splitlines()
    assert would == "Would remove 0 local files (0 B)."
    assert kept.endswith("can't be removed: 2.")
    assert "verify --repair" in unproven


def test_free_says_why_nothing_is_due(tmp_path: Path) -> None:
    ledger = Ledger(None)
    ledger.open()
    assert (
        _why_nothing(FreeReport(), ledger, Limits(60.0), tmp_path)
        == "The ledger lists no archived file on this disk."
    )
    version = FileVersion("a.png", 1, 5)
    ledger.add([version])
    claim = ledger.claim_version("w", version)
    assert claim is not None
    mark_archived(ledger, claim, key="k", sha256="00" * 32, etag=None)
    young = _why_nothing(FreeReport(), ledger, Limits(60.0), tmp_path)
    assert young == "Nothing is due: 1 archived file was modified or restored less than 1 min ago."
    for_space = _why_nothing(FreeReport(), ledger, Limits(None, 10**18), tmp_path)
    assert for_space == "Nothing is due: 1 archived file was modified or restored less than 1 h ago."
    enough = _why_nothing(FreeReport(), ledger, Limits(None, 1), tmp_path)
    assert enough.startswith("Nothing is due: the disk has ")
    ledger.close()


@pytest.mark.usefixtures("own_state", "settings_in_environment")
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["removal", "dry run"])
def test_a_file_that_is_gone_is_not_called_young(
    root: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    path = ledger_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(path)
    ledger.open()
    KnownRoot(root, ledger).accept()
    version = FileVersion("gone.png", 1, 5)
    ledger.add([version])
    claim = ledger.claim_version("w", version)
    assert claim is not None
    mark_archived(ledger, claim, key="k", sha256="00" * 32, etag=None)
    ledger.close()
    status, out, _ = run_command(capsys, "free", root, *more)
    assert status == 0
    assert out.splitlines()[1:] == ["The ledger lists no archived file on this disk."]


@pytest.mark.usefixtures("own_state", "settings_in_environment")
def test_a_file_that_the_system_refuses_is_a_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ledger_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(path)
    ledger.open()
    ledger.close()
    report = FreeReport(kept=1, refused=[("a\n.png", "Read-only file system")])
    monkeypatch.setattr(LocalCleaner, "run_once", lambda *_, **__: report)
    status, out, err = run_command(capsys, "free", root)
    assert (status, err) == (1, "a\\n.png: kept: Read-only file system.\n")
    assert out.splitlines()[1].endswith("can't be removed: 1.")


@pytest.mark.usefixtures("own_state", "settings_in_environment")
def test_what_was_removed_before_a_failure_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore()
    path = ledger_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(Ledger(path)) as ledger:
        ledger.open()
        for name in ("a.png", "b.png"):
            version = added(ledger, root, name, name.encode())
            claim = ledger.claim_version("w", version)
            assert claim is not None
            store.add(name, name.encode())
            mark_archived(
                ledger, claim, key=name, sha256=hashlib.sha256(name.encode()).hexdigest(), etag=None
            )

    def on_call(operation: str, key: str) -> None:
        if key == "b.png":
            refuse("InvalidAccessKeyId", 403, key)

    store.on_call = on_call
    monkeypatch.setattr("cloud_archive.cli.free.bucket", lambda _: contextlib.nullcontext(store))
    status, out, err = run_command(capsys, "free", root)
    assert (status, out.splitlines()) == (1, ["a.png  5 B  a.png"])
    assert err.startswith("The store does not know this access key.")
