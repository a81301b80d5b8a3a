"""Hold folders open on Windows, find the real path of an open file or folder, and rename files that others may read.

https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation
https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfinalpathnamebyhandlew
"""

from __future__ import annotations

import ctypes
import ntpath
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

_FILE_LIST_DIRECTORY = 0x1  # with FILE_READ_ATTRIBUTES alone, others could rename the folder
_SHARE_READ_WRITE = 0x3  # without FILE_SHARE_DELETE, so that others can't rename it
_SHARE_DELETE = 0x4
_GENERIC_READ = 0x80000000
_OPEN_EXISTING = 3
_BACKUP_SEMANTICS = 0x02000000  # without it, folders can't be opened
_LONGEST_PATH = 32_768  # characters
_INVALID_HANDLE = ctypes.c_void_p(-1).value
_RENAME_TRIES = 20
_RENAME_SECONDS = 0.05  # between two tries


def rename_once_closed(rename: Callable[[], object]) -> None:
    """Call `rename`, and again for a second while another program, such as a virus scanner, has the file open."""
    for _ in range(_RENAME_TRIES):
        try:
            rename()
        except PermissionError:  # Windows renames and replaces no file that another program has open
            time.sleep(_RENAME_SECONDS)
        else:
            return
    rename()


def extended_path(path: str | Path) -> str:
    r"""Return the absolute path as `\\?\C:\…`; other paths may have only 259 characters."""
    full = ntpath.abspath(path)
    if full.startswith(("\\\\?\\", "\\\\.\\")):
        return full
    return "\\\\?\\UNC" + full[1:] if full.startswith("\\\\") else "\\\\?\\" + full


if sys.platform == "win32":
    import msvcrt

    _dword, _pointer, _text = ctypes.c_uint32, ctypes.c_void_p, ctypes.c_wchar_p
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _create, _close = _kernel32.CreateFileW, _kernel32.CloseHandle
    _create.restype = _pointer
    _create.argtypes = [_text, _dword, _dword, _pointer, _dword, _dword, _pointer]
    _close.argtypes = [_pointer]
    _final_path = _kernel32.GetFinalPathNameByHandleW
    _final_path.restype = _dword
    _final_path.argtypes = [_pointer, _text, _dword, _dword]

    def _last_error(path: Path | None = None) -> OSError:
        number = ctypes.get_last_error()
        # As Python's own errors: without a full stop. (`ctypes.WinError` keeps it.)
        text = ctypes.FormatError(number).strip().rstrip(".")
        return OSError(None, text, None if path is None else str(path), number)

    def _opened(path: Path, access: int, sharing: int, flags: int) -> int:
        handle: int | None = _create(str(path), access, sharing, None, _OPEN_EXISTING, flags, None)
        if handle is None or handle == _INVALID_HANDLE:
            raise _last_error(path)
        return handle

    class WindowsKernel:
        """See `beneath.Kernel`."""

        def root_path(self, root: str | Path) -> Path:
            return Path(extended_path(root))

        def hold(self, path: Path) -> int:
            return _opened(path, _FILE_LIST_DIRECTORY, _SHARE_READ_WRITE, _BACKUP_SEMANTICS)

        def release(self, handle: int) -> None:
            _close(handle)

        def open_file(self, path: Path) -> int:
            handle = _opened(path, _GENERIC_READ, _SHARE_READ_WRITE | _SHARE_DELETE, 0)
            try:
                return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_NOINHERIT)
            except BaseException:
                _close(handle)
                raise

        def final_path(self, handle: int) -> Path:
            buffer = ctypes.create_unicode_buffer(_LONGEST_PATH)
            if not 0 < _final_path(handle, buffer, _LONGEST_PATH, 0) < _LONGEST_PATH:
                raise _last_error()
            return Path(buffer.value)  # as \\?\C:\…

        def final_path_of_file(self, descriptor: int) -> Path:
            return self.final_path(msvcrt.get_osfhandle(descriptor))
