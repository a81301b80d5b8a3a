"""A handle of Windows does not stay open after an error: its calls are simulated."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_archive import windows_handles

HANDLE = 7


def test_a_handle_that_gets_no_descriptor_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []

    def too_many(handle: int, flags: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    kernel32 = SimpleNamespace(
        CreateFileW=lambda *_: HANDLE,
        CloseHandle=lambda handle: closed.append(handle),
        GetFinalPathNameByHandleW=lambda *_: 0,
    )
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "O_NOINHERIT", 0, raising=False)
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: kernel32, raising=False)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(open_osfhandle=too_many))
    spec = importlib.util.spec_from_file_location("windows_handles", windows_handles.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    with pytest.raises(OSError, match="open files"):
        module.WindowsKernel().open_file(Path("a.png"))
    assert closed == [HANDLE]
