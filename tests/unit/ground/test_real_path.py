"""One directory has one real path, however it is spelled. A Linux disk stands in for one of macOS that ignores case."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_archive import files
from cloud_archive.files import real_path
from cloud_archive.own_files import OwnFiles
from cloud_archive.state import DirectoryLock, find_state_directory


@pytest.mark.skipif(os.name == "nt", reason="a disk of Windows can't stand in for one of macOS")
@pytest.mark.usefixtures("mac")
def test_a_path_has_the_names_that_its_folders_list(tmp_path: Path) -> None:
    listed = tmp_path / "ComfyUI" / unicodedata.normalize("NFD", "Café")
    listed.mkdir(parents=True)

    assert real_path(tmp_path / "comfyui" / "CAFÉ" / "New.log") == str(listed / "New.log")
    assert real_path(listed) == str(listed)
    assert real_path("/") == "/"


@pytest.mark.skipif(os.name == "nt", reason="a disk of Windows can't stand in for one of macOS")
@pytest.mark.usefixtures("mac")
def test_a_name_that_is_listed_as_given_is_kept(tmp_path: Path) -> None:
    """As on a disk that does not ignore case, where both exist."""
    for name in ("out", "Out"):
        (tmp_path / name).mkdir()

    assert [real_path(tmp_path / name) for name in ("Out", "out")] == [
        str(tmp_path / "Out"),
        str(tmp_path / "out"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows lists each name in one case")
def test_elsewhere_another_case_is_another_file(tmp_path: Path) -> None:
    (tmp_path / "Out").mkdir()

    assert real_path(tmp_path / "out") == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "real"),
    [
        (r"\\?\C:\out", r"C:\out"),
        (r"\\?\UNC\server\share", r"\\server\share"),
        (r"\\?\Volume{1b2c}\out", r"\\?\Volume{1b2c}\out"),
        (r"\\server\share", r"\\server\share"),
        (r"C:\out", r"C:\out"),
    ],
)
def test_a_windows_path_is_the_same_with_and_without_its_prefix(
    given: str, real: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "os", SimpleNamespace(name="nt", path=SimpleNamespace(realpath=str)))
    assert real_path(given) == real


@pytest.mark.usefixtures("mac")
def test_a_state_directory_is_known_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "Output" / "state").mkdir(parents=True)

    own = OwnFiles(tmp_path / "output", tmp_path / "Output" / "State", [tmp_path / "OUTPUT" / "x.log"])

    assert "state/ledger.sqlite3" in own
    assert "x.log" in own


@pytest.mark.usefixtures("mac")
def test_a_watched_directory_has_one_engine_and_one_state_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "Output").mkdir()
    one, other = tmp_path / "Output", tmp_path / "output"
    lock = DirectoryLock(tmp_path, one)
    assert lock.acquire()
    try:
        assert not DirectoryLock(tmp_path / "other", other).acquire()
    finally:
        lock.release()
    assert find_state_directory(one, None).name == find_state_directory(other, None).name
