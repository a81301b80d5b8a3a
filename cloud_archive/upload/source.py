"""Read and hash a file for its upload, whole or in parts, and notice when it changes meanwhile."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ..beneath import open_file
from ..errors import FileChanged, FileProblem, FileUnreadable, FileVanished
from ..files import FileVersion, within_64_bits
from ..ledger.rows import Claim
from .memory import BUDGET_BYTES

MEBIBYTE = 1024 * 1024
SINGLE_PUT_BYTES = 8 * MEBIBYTE  # larger files go in parts
MIN_PART_BYTES = 8 * MEBIBYTE  # S3 asks for 5 MiB at least
MAX_PARTS = 1000  # the limit at Scaleway; S3 allows 10,000
MAX_PARTS_OF_S3 = 10_000
HASH_BYTES = MEBIBYTE  # smaller pieces would take the interpreter lock too often
HASH_AHEAD = 4  # how many pieces may wait for the hash of the parts

# Types that ComfyUI and its plugins write. Python's own table differs from system to system.
_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".avif": "image/avif",
    ".exr": "image/x-exr",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".glb": "model/gltf-binary",
    ".safetensors": "application/octet-stream",
}


class Content(NamedTuple):
    """A file as it was read for its upload.

    Attributes:
        sha256: of the whole, hexadecimal.
        body: all bytes; None = the file is uploaded in parts.
        part_size_bytes: of all parts but the last; 0 if there are none.
        read: see `FileVersion.as_read_at`.
        part_sha256: of each part, hexadecimal.
    """

    size_bytes: int
    sha256: str
    body: bytes | None
    part_size_bytes: int
    read: FileVersion
    part_sha256: tuple[str, ...] = ()


def content_type(name: str) -> str:
    """Return the media type by the name's suffix; `application/octet-stream` if it is unknown."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a name, not a path
    if (known := _TYPES.get(suffix)) is not None:
        return known
    guessed, compression = mimetypes.guess_type(name)
    if compression is not None:  # then `guessed` is the type of what the file holds
        guessed = "application/gzip" if compression == "gzip" else None
    return guessed or "application/octet-stream"


def part_size_for(size_bytes: int) -> int:
    """Return the size in bytes of all parts but the last (R2 wants them equal).

    8 MiB, or more so that 1,000 parts are enough; more than the memory budget only if 10,000 such parts are too few.
    """
    needed = -(-size_bytes // MAX_PARTS)
    if needed > BUDGET_BYTES:
        needed = max(BUDGET_BYTES, -(-size_bytes // MAX_PARTS_OF_S3))
    return max(MIN_PART_BYTES, -(-needed // MEBIBYTE) * MEBIBYTE)


def part_size_or_zero(size_bytes: int) -> int:
    """Return the part size for a file of this size; 0: it is small enough to be sent whole."""
    return part_size_for(size_bytes) if size_bytes > SINGLE_PUT_BYTES else 0


def bytes_in_memory(claim: Claim) -> int:
    """Return how many bytes of the file stay in memory during its upload; 0 for a large file."""
    size = claim.version.size_bytes
    return size if size <= SINGLE_PUT_BYTES else 0


def read_content(source: BinaryIO, claim: Claim) -> Content:
    """Read the whole file once and hash it; small ones stay in memory.

    Raises:
        FileChanged: it is not, or no longer, the version that the claim names.
        FileUnreadable: the system failed to read it.
    """
    size = claim.version.size_bytes
    whole = hashlib.sha256()
    moment, before = time.time(), _version(source, claim)
    if not before.has_same_size_and_mtime(claim.version):
        raise FileChanged(claim.version.path)
    read = before.as_read_at(moment)
    try:
        if size <= SINGLE_PUT_BYTES:
            body = _read_body(source, size)
            whole.update(body)
            content = Content(len(body), whole.hexdigest(), body, 0, read)
        else:
            part_size = claim.part_size_bytes or part_size_for(size)
            content = _read_parts(source, part_size, whole, read)
    except OSError as error:
        raise file_problem(claim, error) from error
    # Compare all of it, because a program can set the mtime back after it wrote.
    if content.size_bytes != size or _version(source, claim) != before:
        raise FileChanged(claim.version.path)
    return content


def _read_parts(source: BinaryIO, part_size: int, whole: hashlib._Hash, read: FileVersion) -> Content:
    total, parts = 0, []
    waiting: deque[Future[None]] = deque()
    # New memory for each piece would cost as much as reading it. So buffers are used again, once the other thread has
    # hashed what they hold.
    buffers = cycle([memoryview(bytearray(HASH_BYTES)) for _ in range(HASH_AHEAD + 1)])
    with ThreadPoolExecutor(1, "cloud-archive-hash") as part_hasher:
        while True:
            part, length = hashlib.sha256(), 0
            while length < part_size:
                if len(waiting) > HASH_AHEAD:
                    waiting.popleft().result()
                buffer = next(buffers)[: part_size - length]
                piece = buffer[: read_into(source, buffer)]
                if not piece:
                    break
                waiting.append(part_hasher.submit(part.update, piece))
                whole.update(piece)
                length += len(piece)
            if not length:
                break
            total += length
            parts.append(part)
    return Content(total, whole.hexdigest(), None, part_size, read, tuple(part.hexdigest() for part in parts))


def _read_body(source: BinaryIO, size: int) -> bytes:
    """Return the file's first `size + 1` bytes. One call may return fewer, as on some network filesystems."""
    body = source.read(size + 1)
    while len(body) <= size and (more := source.read(size + 1 - len(body))):
        body += more
    return body


def read_into(source: BinaryIO, buffer: memoryview) -> int:
    """Read into `buffer`, and return how many bytes; 0 at the end of the file."""
    # `readinto` returns None only if it would block, which a regular file never does.
    return cast("io.RawIOBase", source).readinto(buffer) or 0


@contextmanager
def opened(root: Path, claim: Claim) -> Iterator[BinaryIO]:
    """Open the local file for reading. Raises FileVanished or FileUnreadable."""
    try:
        raw = open_file(root, claim.version.path)
    except OSError as error:
        raise file_problem(claim, error) from error
    with raw:
        yield raw


def has_changed(source: BinaryIO, claim: Claim) -> bool:
    """Return whether the open file has another size or mtime than the version that the claim names.

    Raises FileProblem if the system does not say.
    """
    now, known = _stat(source, claim), claim.version
    return now.st_size != known.size_bytes or within_64_bits(now.st_mtime_ns) != known.mtime_ns


def _version(source: BinaryIO, claim: Claim) -> FileVersion:
    return FileVersion.of_stat(claim.version.path, _stat(source, claim))


def _stat(source: BinaryIO, claim: Claim) -> os.stat_result:
    try:
        return os.fstat(source.fileno())
    except OSError as error:  # such as a file of NFS that was deleted on the server
        raise file_problem(claim, error) from error


def read_at(root: Path, version: FileVersion, source: BinaryIO, offset: int, length: int) -> bytes:
    """Return `length` bytes from `offset`, or fewer at the end of the file. Thread-safe, unlike `source.read`."""
    pieces: list[bytes] = []
    if hasattr(os, "pread"):
        while length and (piece := os.pread(source.fileno(), length, offset)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    with open_file(root, version.path) as own:  # Windows: a handle has one position
        own.seek(offset)
        return own.read(length)


def file_problem(claim: Claim, error: OSError) -> FileProblem:
    """Return the exception for a system error about the claimed file: FileVanished or FileUnreadable."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return FileVanished(claim.version.path)
    return FileUnreadable(claim.version.path, error.strerror or str(error))
