"""`store.ObjectStore` in memory: a bucket whose failures a test scripts, call by call."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NoReturn
from urllib.parse import quote

from cloud_archive.errors import ObjectExists, StoreError
from cloud_archive.store.base import (
    Body,
    Capabilities,
    CreateOnly,
    ObjectInfo,
    Part,
    ProbeNotes,
    PutResult,
    UnfinishedUpload,
)
from cloud_archive.store.failures import explain
from cloud_archive.store.links import MAX_LINK_SECONDS, AnswerHeaders, PresignedLink

HONOURS = Capabilities(CreateOnly.HONOURED, CreateOnly.HONOURED, can_head=True, echoes_checksum=True)
Progress = Callable[[int], None]
WRITTEN = 1_700_000_000.0
PIECE_BYTES = 1000  # of a body that is read


class Hanging:
    """Requests that hang until the test ends: `on_call` calls it. The fixture `hang` makes one.

    Attributes:
        begun: set once a request hangs.
        ended: the keys of requests that were let go.
    """

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended: list[str] = []
        self._go_on = threading.Event()

    def __call__(self, key: str) -> None:
        self.begun.set()
        self._go_on.wait(60)
        self.ended.append(key)

    def end(self) -> None:
        self._go_on.set()


@dataclass
class StoredObject:
    """One object; `written` in seconds since 1970."""

    body: bytes
    metadata: dict[str, str] = field(default_factory=dict)
    written: float = WRITTEN
    etag: str | None = None  # None: the bytes' MD5


@dataclass
class Unfinished:
    """One multipart upload under way."""

    key: str
    metadata: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)
    initiated_at: float = field(default_factory=time.time)


class MemoryStore:
    """A bucket that honours create-only writes, and proves every body.

    Attributes:
        objects: by key.
        uploads: multipart uploads that have not ended, by id.
        aborted: (key, upload id) of every call of `abort_multipart`, also without effect.
        on_call: called with (operation, key) before each call; it may raise, or wait. A test may replace it.
    """

    def __init__(self, capabilities: Capabilities = HONOURS) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, Unfinished] = {}
        self.aborted: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str]] = []
        self.on_call: Callable[[str, str], None] = lambda operation, key: None
        self._capabilities = capabilities
        self._lock = threading.Lock()
        self._ids = itertools.count(1)

    def warm_up(self, *, in_parts: bool = False) -> None:
        """No-op: it is always ready."""

    def add(self, key: str, body: bytes, *, written: float = WRITTEN, **metadata: str) -> None:
        """Add an object with the metadata that the archive writes."""
        facts = {"sha256": hashlib.sha256(body).hexdigest(), "archive-token": "t", **metadata}
        self.objects[key] = StoredObject(body, facts, written)

    def add_foreign(self, key: str, body: bytes, *, written: float = WRITTEN) -> None:
        """Add an object without metadata, as another program writes it."""
        self.objects[key] = StoredObject(body, {}, written)

    def count(self, operation: str) -> int:
        """Return the number of calls of this operation so far."""
        return sum(1 for name, _ in self.calls if name == operation)

    def bodies(self) -> dict[str, bytes]:
        """Return key to bytes of all outputs: without the catalog's own objects."""
        with self._lock:
            outputs = [(key, stored) for key, stored in self.objects.items() if ".cloud-archive/" not in key]
            return {key: stored.body for key, stored in outputs}

    def _call(self, operation: str, key: str) -> None:
        self.calls.append((operation, key))
        self.on_call(operation, key)

    @property
    def destination(self) -> str:
        return "memory/bucket"

    clock_offset_seconds: float | None = None
    probe_key = ".cloud-archive/check"

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def put(
        self,
        key: str,
        body: bytes,
        *,
        sha256: str,
        content_type: str,
        metadata: Mapping[str, str],
        create_only: bool,
        progress: Progress | None = None,
    ) -> PutResult:
        self._call("PutObject", key)
        self._write("PutObject", key, body, metadata, create_only=create_only)
        if progress is not None:
            progress(len(body))
        return PutResult(hashlib.md5(body).hexdigest(), proven=True)

    def _write(
        self, operation: str, key: str, body: bytes, metadata: Mapping[str, str], *, create_only: bool
    ) -> None:
        with self._lock:
            if create_only and key in self.objects:
                raise ObjectExists(operation, key, explain("PreconditionFailed"), status=412)
            self.objects[key] = StoredObject(bytes(body), dict(metadata))

    def head(self, key: str) -> ObjectInfo | None:
        self._call("HeadObject", key)
        with self._lock:
            stored = self.objects.get(key)
        return None if stored is None else _info(key, stored, listed=False)

    def create_multipart(self, key: str, *, content_type: str, metadata: Mapping[str, str]) -> str:
        self._call("CreateMultipartUpload", key)
        with self._lock:
            upload_id = f"upload-{next(self._ids)}"
            self.uploads[upload_id] = Unfinished(key, dict(metadata))
        return upload_id

    def upload_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: Body,
        *,
        sha256: str,
        progress: Progress | None = None,
    ) -> Part:
        self._call("UploadPart", key)
        body = bytes(body)
        computed = hashlib.sha256(body).hexdigest()
        if computed != sha256:
            raise StoreError("UploadPart", key, explain("BadDigest"), status=400)
        self._upload(upload_id, key).parts[number] = body
        if progress is not None:
            progress(len(body))
        return Part(number, f'"{hashlib.md5(body).hexdigest()}"', len(body), computed, proven=True)

    def _upload(self, upload_id: str, key: str) -> Unfinished:
        with self._lock:
            found = self.uploads.get(upload_id)
        if found is None or found.key != key:
            raise StoreError("UploadPart", key, explain("NoSuchUpload"), status=404)
        return found

    def unfinished_uploads(self, key: str) -> list[UnfinishedUpload]:
        self._call("ListMultipartUploads", key)
        with self._lock:
            return [
                UnfinishedUpload(upload_id, found.initiated_at)
                for upload_id, found in self.uploads.items()
                if found.key == key
            ]

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        self._call("ListParts", key)
        return [
            Part(
                number,
                f'"{hashlib.md5(body).hexdigest()}"',
                len(body),
                hashlib.sha256(body).hexdigest(),
                proven=True,
            )
            for number, body in sorted(self._upload(upload_id, key).parts.items())
        ]

    def complete_multipart(
        self, key: str, upload_id: str, parts: Sequence[Part], *, create_only: bool
    ) -> str | None:
        self._call("CompleteMultipartUpload", key)
        found = self._upload(upload_id, key)
        body = b"".join(found.parts[part.number] for part in parts)
        self._write("CompleteMultipartUpload", key, body, found.metadata, create_only=create_only)
        with self._lock:
            del self.uploads[upload_id]
        return f"{hashlib.md5(body).hexdigest()}-{len(parts)}"

    def abort_multipart(self, key: str, upload_id: str) -> None:
        self._call("AbortMultipartUpload", key)
        with self._lock:
            self.aborted.append((key, upload_id))
            found = self.uploads.get(upload_id)
            if found is not None and found.key == key:
                del self.uploads[upload_id]

    def read(
        self, key: str, limit_bytes: int, *, etag: str | None = None, byte_range: range | None = None
    ) -> Generator[bytes, None, None]:
        self._call("GetObject", key)
        with self._lock:
            stored = self.objects.get(key)
        if stored is None:
            refuse("NoSuchKey", 404, key)
        if etag is not None and _info(key, stored, listed=True).etag != etag:
            refuse("PreconditionFailed", 412, key)
        body = stored.body if byte_range is None else stored.body[byte_range.start : byte_range.stop]
        for start in range(0, min(len(body), limit_bytes + 1), PIECE_BYTES):
            yield body[start : start + PIECE_BYTES]

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        self._call("ListObjectsV2", prefix)
        with self._lock:
            found = sorted(
                (item for item in self.objects.items() if item[0].startswith(prefix)),
                key=lambda item: item[0],
            )
        for key, stored in itertools.islice(found, limit):
            yield _info(key, stored, listed=True)

    def presign(self, key: str, expires_seconds: float, answer: AnswerHeaders) -> PresignedLink:
        self._call("Presign", key)
        seconds = min(expires_seconds, MAX_LINK_SECONDS)
        return PresignedLink(f"https://memory.example/{quote(key)}?X-Amz-Signature=s", time.time() + seconds)

    def delete(self, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
        for key in keys:
            try:
                self._call("DeleteObject", key)
            except StoreError as error:
                yield key, error
                continue
            with self._lock:
                self.objects.pop(key, None)
            yield key, None

    def probe_create_only(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        notes: ProbeNotes | None = None,
        in_parts: bool = True,
    ) -> None:
        pass

    def probe_with_own_object(self, notes: ProbeNotes | None = None) -> None:
        pass

    def close(self) -> None:
        pass


def _info(key: str, stored: StoredObject, *, listed: bool) -> ObjectInfo:
    return ObjectInfo(
        key,
        len(stored.body),
        stored.etag or hashlib.md5(stored.body).hexdigest(),
        None if listed else stored.metadata.get("sha256"),
        None,
        {} if listed else stored.metadata,
        datetime.fromtimestamp(stored.written, timezone.utc),
    )


def refuse(code: str, status: int | None, key: str | None = None) -> NoReturn:
    """Raise the error that a store's refusal with this code becomes."""
    raise StoreError("Test", key, explain(code, status), status=status)
