"""Whether a file has a writer on Windows: its system calls are simulated, with their rules of sharing a file."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_archive.intake import open_files
from cloud_archive.intake.open_files import has_writer

READ_ATTRIBUTES, READ, WRITE = 0x80, 0x80000000, 0x40000000
SHARE_READ, SHARE_WRITE, SHARE_DELETE = 0x1, 0x2, 0x4
SHARE_ALL = SHARE_READ | SHARE_WRITE | SHARE_DELETE
SHARING_VIOLATION = 32


class Function:
    """A function of a DLL, whose types may be set."""

    restype: Any = None
    argtypes: Any = None

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class Windows:
    """One file, and who has it open.

    Attributes:
        others: access and sharing of other processes' handles.
        tells_users: whether the filesystem can tell which processes use the file.
        denied: how others were kept from opening the file while one of our handles was open.
    """

    def __init__(self, *others: tuple[int, int], tells_users: bool = True) -> None:
        self.others = others
        self.tells_users = tells_users
        self.open: dict[int, tuple[int, int]] = {}
        self.denied: list[int] = []
        self.error = 0

    def dll(self, name: str, **_: object) -> SimpleNamespace:
        if name == "ntdll":
            return SimpleNamespace(NtQueryInformationFile=Function(self._query))
        return SimpleNamespace(CreateFileW=Function(self._create), CloseHandle=Function(self._close))

    def _create(self, _path: str, access: int, sharing: int, *_: object) -> int:
        for held, shared in self.others:
            if not _agree(access, sharing, held, shared):
                self.error = SHARING_VIOLATION
                return ctypes.c_void_p(-1).value or 0
        if access != READ_ATTRIBUTES and sharing != SHARE_ALL:
            self.denied.append(SHARE_ALL & ~sharing)
        handle = 100 + len(self.open)
        self.open[handle] = (access, sharing)
        return handle

    def _close(self, handle: ctypes.c_void_p) -> int:
        del self.open[handle.value or 0]
        return 1

    def _query(self, _handle: int, _status: Any, answer: Any, _size: int, what: int) -> int:
        assert what == 47
        if not self.tells_users:
            return -1
        word = ctypes.sizeof(ctypes.c_void_p)
        users = [os.getpid(), *(90_000 + number for number, _ in enumerate(self.others))]
        values = [len(users), *users]
        ctypes.memmove(
            answer, b"".join(value.to_bytes(word, "little") for value in values), word * len(values)
        )
        return 0


def _agree(access: int, sharing: int, held: int, shared: int) -> bool:
    """https://learn.microsoft.com/windows/win32/fileio/creating-and-opening-files"""
    wants = {READ: SHARE_READ, WRITE: SHARE_WRITE}
    for kind, share in wants.items():
        if (access & kind and not shared & share) or (
            held & kind and access != READ_ATTRIBUTES and not sharing & share
        ):
            return False
    return True


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Windows], Windows]:
    def install(windows: Windows) -> Windows:
        monkeypatch.setattr(open_files, "sys", SimpleNamespace(platform="win32", byteorder="little"))
        monkeypatch.setattr(ctypes, "WinDLL", windows.dll, raising=False)
        monkeypatch.setattr(ctypes, "get_last_error", lambda: windows.error, raising=False)
        return windows

    return install


def test_a_file_that_nobody_else_uses_is_never_locked_for_a_moment(use: Any) -> None:
    windows = use(Windows())
    assert has_writer(Path("root"), "a.png") is False
    assert windows.denied == [], "a program that opens it to write at this moment would fail"
    assert windows.open == {}


@pytest.mark.parametrize("tells_users", [True, False])
def test_a_writer_is_seen_and_not_disturbed(use: Any, tells_users: bool) -> None:
    windows = use(Windows((WRITE, SHARE_ALL), tells_users=tells_users))
    assert has_writer(Path("root"), "a.png") is True
    assert (windows.denied, windows.open) == ([], {})


@pytest.mark.parametrize("tells_users", [True, False])
def test_a_reader_is_no_writer(use: Any, tells_users: bool) -> None:
    windows = use(Windows((READ, SHARE_ALL), tells_users=tells_users))
    assert has_writer(Path("root"), "a.png") is False
    assert windows.open == {}


def test_a_file_that_is_gone_tells_nothing(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Windows())
    monkeypatch.setattr(open_files, "_windows_open", lambda *_: None)
    assert has_writer(Path("root"), "a.png") is None
