"""Which file a request names, and how the answer is worded."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import pytest

from cloud_archive.archive import upload_request
from cloud_archive.archive.submission import Submission
from cloud_archive.archive.upload_request import contained_path, names_another_server, upload_answer
from cloud_archive.errors import (
    CloudArchiveError,
    FileChanged,
    FileUnreadable,
    FileVanished,
    KeyRejected,
    RequestRefused,
    StoreError,
)
from cloud_archive.store.failures import explain


def test_a_file_may_be_named_relative_or_in_full(root: Path) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "a.png").write_bytes(b"a")
    assert contained_path(root, "folder/a.png") == "folder/a.png"
    assert contained_path(root, str(root / "folder" / "a.png")) == "folder/a.png"
    assert contained_path(root, "folder/../folder/a.png") == "folder/a.png"


@pytest.mark.usefixtures("mac")
def test_a_file_has_the_name_that_its_folder_lists(root: Path) -> None:
    """In another case it would be archived a second time."""
    (root / "Folder").mkdir()
    (root / "Folder" / "a.png").write_bytes(b"a")
    assert contained_path(root, "folder/A.PNG") == "Folder/a.png"
    assert contained_path(root, str(root / "folder" / "a.png")) == "Folder/a.png"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../secret.txt", 403),
        ("missing.png", 404),
        ("folder", 400),
        (".", 400),
        ("empty.png", 400),
        ("a\0b", 400),
    ],
)
def test_what_is_no_file_below_the_directory_is_refused(root: Path, name: str, status: int) -> None:
    (root.parent / "secret.txt").write_bytes(b"secret")
    (root / "folder").mkdir()
    (root / "empty.png").touch()
    with pytest.raises(RequestRefused) as refused:
        contained_path(root, name)
    # A NUL is no path: Python 3.13 says so later than 3.10 does.
    assert refused.value.status == status or (name == "a\0b" and refused.value.status in (400, 403, 404))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_now_is_not_said_to_be_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(root: Path, path: str) -> os.stat_result:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(upload_request, "stat_file", refuse)
    with pytest.raises(RequestRefused) as refused:
        contained_path(root, "a.png")
    assert (refused.value.status, str(refused.value)) == (403, f"a.png can't be read: {os.strerror(code)}.")


def test_a_name_that_no_file_can_have_is_not_found(root: Path) -> None:
    with pytest.raises(RequestRefused, match="File not found") as refused:
        contained_path(root, "a" * 300)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("root", "name", "other"),
    [
        (PureWindowsPath("C:/out"), r"\\evil\share\a.png", True),
        (PureWindowsPath("C:/out"), "//evil/share/a.png", True),
        (PureWindowsPath("C:/out"), r"\\?\UNC\evil\share\a.png", True),
        (PureWindowsPath("//nas/out/images"), r"\\evil\out\images\a.png", True),
        (PureWindowsPath("//nas/out/images"), r"\\NAS\out\images\a.png", False),
        (PureWindowsPath("//nas/out/images"), "a.png", False),
        (PureWindowsPath("C:/out"), r"folder\a.png", False),
        (PureWindowsPath("C:/out"), r"C:\out\a.png", False),
        (PurePosixPath("/out"), "//evil/share/a.png", False),
    ],
)
def test_a_path_on_another_server_is_known_without_asking_that_server(
    root: PurePath, name: str, other: bool
) -> None:
    assert names_another_server(root, name) is other


def test_a_path_on_another_server_is_refused_before_it_is_resolved(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.png").write_bytes(b"a")
    monkeypatch.setattr(upload_request, "names_another_server", lambda root, file_path: True)
    with pytest.raises(RequestRefused, match="outside the watched directory") as refused:
        contained_path(root, "a.png")
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 202),
        (FileChanged("a.png"), 202),
        (StoreError("PutObject", "k", explain("AccessDenied")), 502),
        (FileVanished("a.png"), 404),
        (KeyRejected("k", "too long"), 400),
        (FileUnreadable("a.png", "no"), 403),
        (CloudArchiveError("a bug"), 500),
    ],
)
def test_each_end_has_its_http_status(error: CloudArchiveError | None, status: int) -> None:
    answer = upload_answer("a.png", Submission(None, error))
    assert answer.http_status == status
    assert "a.png" in answer.message


def test_a_file_that_is_still_written_to_is_not_said_to_be_queued() -> None:
    answer = upload_answer("a.png", Submission(None))
    assert answer.message == (
        "a.png is not queued yet, because a program still writes to it. Try again when it is complete."
    )
