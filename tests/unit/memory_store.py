"""A bucket in memory, for what no real store lets one do: any key, any refusal, any lie."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NoReturn

from cloud_archive.errors import StoreError, explain
from cloud_archive.object_store import ProbeNotes
from cloud_archive.store import Capabilities, ObjectInfo, Part, PutResult


@dataclass
class MemoryObject:
    """One object; `claims` is the size that listings and looks show where they lie."""

    body: bytes
    metadata: dict[str, str] = field(default_factory=dict)
    written: float = 1_700_000_000.0
    etag: str | None = None


class MemoryStore:
    """As much of an `ObjectStore` as the operations use.

    Attributes:
        calls: (operation, key) of every request.
        before: called before each request; raises what the store answers.
    """

    destination = "memory/bucket"
    capabilities = Capabilities()
    clock_offset_seconds: float | None = None
    probe_key = ".cloud-archive-check"

    def __init__(self) -> None:
        self.objects: dict[str, MemoryObject] = {}
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda operation, key: None
        self._lock = threading.Lock()

    def add(self, key: str, body: bytes, *, written: float = 1_700_000_000.0, **metadata: str) -> None:
        """As the archive would have written it."""
        facts = {"sha256": hashlib.sha256(body).hexdigest(), "archive-token": "t", **metadata}
        self.objects[key] = MemoryObject(body, facts, written)

    def add_foreign(self, key: str, body: bytes, *, written: float = 1_700_000_000.0) -> None:
        """As somebody else would have."""
        self.objects[key] = MemoryObject(body, {}, written)

    def count(self, operation: str) -> int:
        """Requests of this kind so far."""
        return sum(1 for name, _ in self.calls if name == operation)

    def _ask(self, operation: str, key: str) -> None:
        with self._lock:
            self.calls.append((operation, key))
        self.before(operation, key)

    def _info(self, key: str, *, listed: bool) -> ObjectInfo:
        found = self.objects[key]
        etag = found.etag or hashlib.md5(found.body, usedforsecurity=False).hexdigest()
        return ObjectInfo(
            key,
            len(found.body),
            etag,
            None if listed else found.metadata.get("sha256"),
            None,
            {} if listed else found.metadata,
            datetime.fromtimestamp(found.written, timezone.utc),
        )

    def head(self, key: str) -> ObjectInfo | None:
        self._ask("head", key)
        return self._info(key, listed=False) if key in self.objects else None

    def read(self, key: str) -> Iterator[bytes]:
        self._ask("read", key)
        if key not in self.objects:
            refuse("NoSuchKey", 404, key)
        body = self.objects[key].body
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        self._ask("list", prefix)
        for key in sorted(self.objects)[:limit]:
            if key.startswith(prefix):
                yield self._info(key, listed=True)

    def delete(self, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
        for key in keys:
            try:
                self._ask("delete", key)
            except StoreError as error:
                yield key, error
            else:
                self.objects.pop(key, None)
                yield key, None

    def close(self) -> None:
        pass

    # --- nothing here writes through the protocol

    def put(self, key: str, body: bytes, **_: Any) -> PutResult:
        raise NotImplementedError

    def create_multipart(self, key: str, *, content_type: str, metadata: Mapping[str, str]) -> str:
        raise NotImplementedError

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes, **_: Any) -> Part:
        raise NotImplementedError

    def list_parts(self, key: str, upload_id: str) -> list[Part]:  # type: ignore[valid-type]
        raise NotImplementedError

    def complete_multipart(
        self, key: str, upload_id: str, parts: Sequence[Part], *, create_only: bool
    ) -> str | None:
        raise NotImplementedError

    def abort_multipart(self, key: str, upload_id: str) -> None:
        raise NotImplementedError

    def probe_create_only(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        notes: ProbeNotes | None = None,
    ) -> None:
        raise NotImplementedError

    def probe_with_key(self, notes: ProbeNotes | None = None) -> None:
        raise NotImplementedError


def refuse(code: str, status: int | None, key: str | None = None) -> NoReturn:
    """What a store answers."""
    raise StoreError("Test", key, explain(code, status), status=status)
