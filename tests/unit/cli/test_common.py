"""Times, sizes, prefixes, directories and ledgers that several commands take."""

from __future__ import annotations

import errno
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.catalog_choice import bucket_settings
from cloud_archive.cli.common import (
    age_seconds,
    check_exists,
    deletable_scope,
    ledger_of,
    ledger_path,
    moment,
    needed_root,
    reading_scope,
    size_bytes,
)
from cloud_archive.cli.ledger_view import own_files, read_ledger_view
from cloud_archive.config.settings import Settings, load_settings
from cloud_archive.errors import LedgerError
from cloud_archive.ledger.ledger import Ledger

DAY = timedelta(days=1).total_seconds()


def settings(prefix: str) -> Settings:
    keys = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s"}
    return load_settings(keys | {"S3_PREFIX": prefix})


@pytest.mark.parametrize("given", ["", "/"])
def test_an_empty_prefix_does_not_mean_the_whole_archive(given: str) -> None:
    with pytest.raises(WrongUsage, match="--prefix is empty"):
        deletable_scope(given, settings("out"))


def test_ages_and_sizes() -> None:
    assert age_seconds("--older-than", "30d") == 30 * DAY
    assert size_bytes("--keep-bytes", "1.5GB") == 1_500_000_000
    assert age_seconds("--older-than", None) is size_bytes("--keep-bytes", None) is None


def test_a_bad_age_or_size_does_not_say_what_an_unset_option_means() -> None:
    # Without any option `free` removes all archived files.
    for parse, option in ((age_seconds, "--older-than"), (size_bytes, "--min-free")):
        with pytest.raises(WrongUsage, match=f"{option} 'x': accepted is") as raised:
            parse(option, "x")
        assert "unset" not in str(raised.value)


@pytest.mark.parametrize("text", ["500", "500 "])
def test_a_size_of_a_few_bytes_lacks_its_unit(text: str) -> None:
    with pytest.raises(WrongUsage, match=f"such as {text}GB"):
        size_bytes("--keep-bytes", text)
    assert size_bytes("--keep-bytes", "500B") == 500


def test_a_day_is_its_beginning_or_its_end() -> None:
    begin = datetime(2026, 4, 1).timestamp()
    assert moment("--since", "2026-04-01") == begin
    assert moment("--until", "2026-04-01", end=True) == datetime(2026, 4, 2).timestamp()
    assert moment("--until", "2026-04-01T12:00", end=True) == datetime(2026, 4, 1, 12).timestamp()
    assert moment("--since", "2026-04-01T12:00Z") == 1_775_044_800
    assert moment("--until", "9999-12-31", end=True) == datetime(9999, 12, 31).timestamp()


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "20261125", "2026-11-25-05:00", ""])
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(WrongUsage, match="--since"):
        moment("--since", text)


@pytest.mark.parametrize("given", ["a/{Y}", "elsewhere"])
def test_nothing_outside_the_prefix_may_be_deleted(given: str) -> None:
    with pytest.raises(WrongUsage, match="--prefix"):
        deletable_scope(given, settings("out/{Y}"))
    assert deletable_scope("out/2026", settings("out/{Y}")).is_possible


def test_a_command_without_a_directory_names_the_archives_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_OUTPUT_DIR", raising=False)
    engines = [SimpleNamespace(root=Path("first")), SimpleNamespace(root=Path("second"))]
    monkeypatch.setattr("cloud_archive.api.client.running_engines", lambda: engines)
    with pytest.raises(WrongUsage, match=r"Several archives are running: first, second\. Give DIR"):
        needed_root(None)
    del engines[1]
    assert needed_root(None) == Path("first")
    engines.clear()
    with pytest.raises(WrongUsage, match=r"No archive of this user is running\. Give DIR"):
        needed_root(None)


@pytest.mark.usefixtures("own_state")
def test_a_ledger_is_needed_or_not_and_a_wrong_directory_is_named(root: Path) -> None:
    with ledger_of(root, needed=False) as ledger:
        assert ledger is None
    with pytest.raises(LedgerError, match="There is no ledger"), ledger_of(root, needed=True):
        pytest.fail("it is open")
    with pytest.raises(WrongUsage, match="wrong does not exist"), ledger_of(root / "wrong", needed=True):
        pytest.fail("it is open")
    path = ledger_path(root)
    path.parent.mkdir(parents=True)
    made = Ledger(path)
    made.open()
    made.close()
    root.rmdir()
    with ledger_of(root, needed=True) as ledger:
        assert ledger is not None, "the directory may be gone"


def test_a_ledger_that_an_engine_will_replace_is_not_used(
    root: Path, own_state: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SimpleNamespace(will_replace_ledger=lambda: True)
    monkeypatch.setattr("cloud_archive.api.client.running_engine", lambda _: engine)
    path = ledger_path(root)
    for needed, exists in ((True, False), (False, False), (True, True), (False, True)):
        if exists:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with pytest.raises(LedgerError, match="has a newer one in memory"), ledger_of(root, needed=needed):
            pass


def test_reading_may_leave_the_prefix() -> None:
    assert reading_scope("elsewhere", settings("out")).holds("elsewhere/a.png")
    with pytest.raises(WrongUsage, match="placeholders"):
        reading_scope("a/{Y}", settings("out"))


@pytest.mark.usefixtures("own_state")
def test_a_ledger_that_this_user_cannot_reach_is_named_with_a_cure(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ledger_path(root)
    real = Path.stat

    def denied(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, follow_symlinks=follow_symlinks)

    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(root))
    monkeypatch.setattr(Path, "stat", denied)
    for run in (
        lambda: bucket_settings(None),
        lambda: check_exists(root),
        lambda: read_ledger_view(root),
        lambda: own_files(root, os.environ),
    ):
        with pytest.raises(
            LedgerError, match=f"{re.escape(str(path))} can't be used: .*Run this as the user"
        ):
            run()
