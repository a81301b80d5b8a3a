"""What tests of `restore` share."""

from __future__ import annotations

from pathlib import Path

from cloud_archive.scope import KeyScope

OUT = KeyScope.folder("out")


def files(directory: Path) -> dict[str, bytes]:
    """Return path to bytes of every file below `directory`, without links."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
