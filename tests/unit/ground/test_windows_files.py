"""What Windows does differently with our own files: shares, and files that another program has open."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path, PureWindowsPath

import pytest

from cloud_archive.private_files import database_uri, write_private


class Share(PureWindowsPath):
    """A file on a share, such as `\\\\server\\share\\x`. On POSIX, `//server/share/x` names a local file."""

    def resolve(self) -> Share:
        return self


@pytest.mark.skipif(os.name == "nt", reason="a disk of POSIX stands in for a share")
def test_a_database_on_a_share_opens_by_its_uri(tmp_path: Path) -> None:
    path = tmp_path / "a b%23#.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE things (name)")
    for place in (path, Share("/" + path.as_posix())):
        uri = database_uri(place, "mode=ro")  # type: ignore[arg-type]
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            assert database.execute("SELECT name FROM sqlite_master").fetchone() == ("things",)


def test_a_file_that_another_program_reads_is_replaced_once_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "engine.json"
    path.write_text("old", "utf-8")
    replace, is_open = Path.replace, [True]

    def refuse_open(fresh: Path, target: Path) -> Path:
        if is_open:
            raise PermissionError(13, "Access is denied")
        return replace(fresh, target)

    def close(_: float) -> None:
        is_open.clear()

    monkeypatch.setattr(Path, "replace", refuse_open)
    monkeypatch.setattr("time.sleep", close)
    write_private(path, "new")
    assert path.read_text("utf-8") == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["engine.json"]
