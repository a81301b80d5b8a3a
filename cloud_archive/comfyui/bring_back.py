"""Bring an archived file into ComfyUI's input directory, like an upload through ComfyUI's page.

A file in this directory that has the name and the bytes already is used; one with other bytes is never overwritten. The
bytes are compared with the archive's size and SHA-256 (if it is known) before the file gets its name.

ComfyUI's process loads this: standard library and aiohttp only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError, ClientTimeout

from ..errors import RequestRefused
from ..text import safe_file_name

if TYPE_CHECKING:
    from .engine_client import EngineClient

MAX_NUMBER = 100  # the last number for a name that is taken; ComfyUI's own form: "name (1).png"
_PIECE_BYTES = 1024 * 1024
_PARTIAL = re.compile(r"\.cloud-archive-[0-9a-f]{16}\.part")
_LEFTOVER_SECONDS = 86_400.0
_STREAM_SECONDS = 65.0  # how long the engine may send nothing
_OPEN_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_LINKS_UNSUPPORTED = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)


async def bring_back(
    asset: Mapping[str, Any], directory: Path, read: Callable[[], AsyncIterator[bytes]]
) -> dict[str, str]:
    """Put an asset into `directory` and return `{"name", "subfolder", "type"}`, as `/upload/image` answers.

    Args:
        directory: made if missing, as `/upload/image` does.
        asset: its `name`, `size` and `sha256`, as the engine answered.
        read: returns the file's bytes piece by piece; not called if a file with this `sha256` is there already.

    Raises:
        RequestRefused: 502, the engine sent other bytes than were archived; 409, all numbered names are taken; 507, the
            file can't be written. What `read` raises is passed on.
    """
    name, size, digest = safe_file_name(str(asset["name"])), int(asset["size"]), asset.get("sha256")
    try:
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        if digest:
            existing = await asyncio.to_thread(_find, directory, name, size, str(digest))
            if existing is not None:
                return _answer(existing)
        await asyncio.to_thread(_remove_leftovers, directory)
        temporary = directory / f".cloud-archive-{secrets.token_hex(8)}.part"
        try:
            found = await _write(temporary, read())
            if found != (size, digest or found[1]):
                raise RequestRefused(
                    502,
                    "The archive returned other bytes than were archived, so nothing was saved. Try again. If that"
                    " does not help, find out with `cloud-archive verify --deep` whether the object is damaged.",
                )
            return _answer(await asyncio.to_thread(_publish, temporary, directory, name, *found))
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RequestRefused(507, f"ComfyUI's input directory can't be written: {reason}.") from error


async def content_of(client: EngineClient, path: str) -> AsyncIterator[bytes]:
    """Yield the engine's answer to a GET piece by piece.

    Raises:
        EngineUnavailable: there is no engine, or it stopped answering.
        RequestRefused: the engine refused, with its reason.
    """
    timeout = ClientTimeout(total=None, sock_connect=_STREAM_SECONDS, sock_read=_STREAM_SECONDS)
    async with client.open("GET", path, timeout=timeout) as answer:
        if answer.status != 200:
            try:
                reason = str((await answer.json())["message"])
            except (ValueError, KeyError, ClientError):
                reason = f"The archive answered with HTTP {answer.status}."
            raise RequestRefused(answer.status, reason)
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            yield piece


def _answer(name: str) -> dict[str, str]:
    return {"name": name, "subfolder": "", "type": "input"}


def _numbered_names(name: str) -> list[str]:
    stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    return [name, *(f"{stem} ({number}){ending}" for number in range(1, MAX_NUMBER + 1))]


def _find(directory: Path, name: str, size: int, digest: str) -> str | None:
    """Return the name of a file that has these bytes already; None if a numbered name is free before one is found."""
    for each in _numbered_names(name):
        found = _has_bytes(directory / each, size, digest)
        if found is None:
            return None
        if found:
            return each
    return None


def _has_bytes(path: Path, size: int, digest: str) -> bool | None:
    """Return whether a regular file with these bytes is at `path`; None if nothing is there."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _OPEN_FLAGS)
    except FileNotFoundError:
        return None
    except OSError:  # a symlink, a directory, or not ours to read
        return False
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_size != size:
            return False
        sha256 = hashlib.sha256()
        while piece := os.read(handle, _PIECE_BYTES):
            sha256.update(piece)
        return sha256.hexdigest() == digest
    finally:
        os.close(handle)


def _remove_leftovers(directory: Path) -> None:
    """Remove the partial files of a ComfyUI that was killed: those that nothing has changed for a day."""
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if _PARTIAL.fullmatch(entry.name)]
    for name in names:
        with contextlib.suppress(OSError):
            about = (directory / name).lstat()
            if max(about.st_mtime, about.st_ctime) < time.time() - _LEFTOVER_SECONDS:
                (directory / name).unlink()


async def _write(path: Path, pieces: AsyncIterator[bytes]) -> tuple[int, str]:
    """Write a new file, and return its size and SHA-256."""
    size, sha256 = 0, hashlib.sha256()

    def write(piece: bytes) -> None:
        sha256.update(piece)
        file.write(piece)
        file.flush()  # here, in a thread: closing the file must not write

    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o644)
    with os.fdopen(handle, "wb") as file:  # buffered: a raw write may write only a part
        async for piece in pieces:
            size += len(piece)
            await asyncio.to_thread(write, piece)
    return size, sha256.hexdigest()


def _publish(temporary: Path, directory: Path, name: str, size: int, digest: str) -> str:
    """Give the file the first numbered name that is free or has the same bytes, and return it."""
    for each in _numbered_names(name):
        target = directory / each
        for _ in range(2):  # the file there may vanish between the two checks
            if _has_bytes(target, size, digest):
                return each
            if _link(temporary, target):
                return each
            if _has_bytes(target, size, digest) is False:
                break
    raise RequestRefused(
        409,
        f"{name} and its {MAX_NUMBER} numbered names are taken in ComfyUI's input directory. Delete or rename some.",
    )


def _link(temporary: Path, target: Path) -> bool:
    """Give the file its name. Return False if the name is taken."""
    try:
        if os.name == "nt":
            from ..windows_handles import rename_once_closed  # ComfyUI needs it nowhere else

            rename_once_closed(lambda: temporary.rename(target))  # on Windows this fails if the name is taken
        else:
            os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _LINKS_UNSUPPORTED:
            raise
        return _copy(temporary, target)
    return True


def _copy(temporary: Path, target: Path) -> bool:
    """Do what `_link` does, on a filesystem without hard links."""
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "wb") as copy, temporary.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                copy.write(piece)
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink()
        raise
    return True
