"""A handle of Windows does not stay open after an error: its calls are simulated."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import sys
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest

from cloud_archive import beneath, windows_handles

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


@pytest.mark.parametrize(
    ("path", "extended"),
    [
        ("C:\\out", "\\\\?\\C:\\out"),
        ("C:/out/../in/", "\\\\?\\C:\\in"),
        ("C:\\", "\\\\?\\C:\\"),
        ("\\\\server\\share\\out", "\\\\?\\UNC\\server\\share\\out"),
        ("\\\\?\\C:\\out", "\\\\?\\C:\\out"),
        ("\\\\?\\UNC\\server\\share", "\\\\?\\UNC\\server\\share"),
        ("\\\\.\\Volume{1}\\out", "\\\\.\\Volume{1}\\out"),
    ],
)
def test_a_root_gets_the_prefix_that_lifts_the_limit_of_259_characters(path: str, extended: str) -> None:
    assert windows_handles.extended_path(path) == extended
    assert PureWindowsPath(extended, "a" * 300).parent == PureWindowsPath(extended)


def test_folders_are_held_below_the_root_that_windows_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long" / "a").mkdir(parents=True)
    held: list[Path] = []
    kernel = SimpleNamespace(
        root_path=lambda root: root / "long",
        hold=held.append,
        release=lambda handle: None,
        final_path=lambda handle: held[-1],
    )
    monkeypatch.setattr(beneath, "_windows_kernel", lambda: kernel)
    with beneath.HeldFolder.of_root(tmp_path) as root, root.enter("a"):
        assert held == [tmp_path / "long", tmp_path / "long" / "a"]
