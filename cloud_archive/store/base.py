"""The protocol of an object store, and the types of its arguments and results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal, NamedTuple, Protocol

from ..errors import StoreError
from .links import AnswerHeaders, PresignedLink

Progress = Callable[[int], None]
Checksum = Literal["sha256", "md5"]


class CreateOnly(Enum):
    """How a store treats `If-None-Match: *` on a write."""

    UNKNOWN = "unknown"
    HONOURED = "honoured"  # a taken key is refused with 412
    IGNORED = "ignored"  # the store answers 200 and overwrites the object
    REJECTED = "rejected"  # the header itself is refused, mostly with 501


OVERWRITES = (CreateOnly.IGNORED, CreateOnly.REJECTED)  # a rejected header is left out from then on


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What is known of one destination: what the store supports, and what the credentials allow.

    Attributes:
        create_only: how the store treats a create-only PutObject.
        create_only_multipart: how it treats a create-only CompleteMultipartUpload.
        checksum: the algorithm of the integrity header.
        can_head: whether the credentials allow HEAD; None: not known yet. A 403 for an object that may be missing
            proves nothing: without the right to list, S3 answers 403 for missing objects.
        echoes_checksum: whether the store repeats the SHA-256 in its answer to a write. If it does not, the checksum
            that it shows later may be what we sent (`rclone serve s3`), and does not count.
    """

    create_only: CreateOnly = CreateOnly.UNKNOWN
    create_only_multipart: CreateOnly = CreateOnly.UNKNOWN
    checksum: Checksum = "sha256"
    can_head: bool | None = None
    echoes_checksum: bool | None = None

    def writes(self, *, in_parts: bool) -> CreateOnly:
        """Return how the store treats create-only writes: those in one request, or multipart uploads."""
        return self.create_only_multipart if in_parts else self.create_only

    def refuses(self, *, in_parts: bool) -> bool:
        """Return whether the store is known to refuse to overwrite, so that no HEAD after the write is needed.

        For multipart uploads, PutObject must be create-only, too. In a store where only CompleteMultipartUpload is, two
        completions at the same moment may both succeed (OpenStack Swift 2.30 compares before it writes). SeaweedFS 4.48
        has the same fault although its PutObject is create-only. No probe can detect it.
        """
        return (
            self.create_only is CreateOnly.HONOURED and self.writes(in_parts=in_parts) is CreateOnly.HONOURED
        )

    def may_overwrite(self, *, in_parts: bool) -> bool:
        """Return whether the store is known to overwrite in writes of this kind.

        With `in_parts` also if it overwrites in one request; see `refuses`. While too little is known, this and
        `refuses` are both False.
        """
        return self.create_only in OVERWRITES or self.writes(in_parts=in_parts) in OVERWRITES

    @property
    def overwritable(self) -> Literal["", "large_files", "all_files"]:
        """Which uploads another writer may overwrite by a write at the same moment, because the store can't refuse.

        Empty if the store refuses to overwrite, at least when it completes multipart uploads, or if that is not known
        yet. Two completions at the same moment may still both succeed; see `refuses`.
        """
        if self.create_only is CreateOnly.UNKNOWN or self.create_only_multipart in (
            CreateOnly.UNKNOWN,
            CreateOnly.HONOURED,  # if PutObject overwrites, small files are then multipart uploads of one part
        ):
            return ""
        return "large_files" if self.create_only is CreateOnly.HONOURED else "all_files"

    def to_json(self) -> dict[str, str | bool | None]:
        return {
            "create_only": self.create_only.value,
            "create_only_multipart": self.create_only_multipart.value,
            "checksum": self.checksum,
            "can_head": self.can_head,
            "echoes_checksum": self.echoes_checksum,
        }

    @classmethod
    def from_json(cls, json: object) -> Capabilities:
        """Read what `to_json` of any version returned. A value that is not understood gets its default."""
        data = json if isinstance(json, Mapping) else {}

        def create_only(name: str) -> CreateOnly:
            value = data.get(name)
            return next((one for one in CreateOnly if one.value == value), CreateOnly.UNKNOWN)

        def flag(name: str) -> bool | None:
            value = data.get(name)
            return value if isinstance(value, bool) else None

        return cls(
            create_only("create_only"),
            create_only("create_only_multipart"),
            "md5" if data.get("checksum") == "md5" else "sha256",
            flag("can_head"),
            flag("echoes_checksum"),
        )


class ObjectInfo(NamedTuple):
    """An object as the store describes it.

    Attributes:
        etag: without its quotes.
        sha256: hexadecimal, from the object's metadata. Its writer stated it, so it proves nothing.
        checksum_sha256: hexadecimal, of the whole object, computed by the store; None if it may not have computed it.
        metadata: by name in lower case; empty in listings.
        encryption: how the store says that it encrypts the object; None also in listings.
    """

    key: str
    size_bytes: int
    etag: str | None
    sha256: str | None
    checksum_sha256: str | None
    metadata: Mapping[str, str]
    last_modified: datetime | None
    encryption: str | None = None


class PutResult(NamedTuple):
    """The store's answer to a write that succeeded.

    Attributes:
        proven: the answer holds a checksum that equals ours: the SHA-256, or an ETag that is the MD5 of the bytes.
    """

    etag: str | None
    proven: bool


class Part(NamedTuple):
    """A part that the store holds.

    Attributes:
        etag: as the store returned it, quotes included; the request that completes the upload sends it back.
        sha256: hexadecimal, as the store confirmed it; None if it did not.
        proven: the answer to the part's upload proved its bytes. Always True in the result of `list_parts`: the caller
            must compare the checksums.
    """

    number: int
    etag: str
    size_bytes: int
    sha256: str | None
    proven: bool = False


class UnfinishedUpload(NamedTuple):
    """A multipart upload that was neither completed nor aborted.

    Attributes:
        initiated_at: seconds since 1970 by the store's clock.
    """

    upload_id: str
    initiated_at: float


class ProbeNotes(Protocol):
    """Durable notes about a probe's multipart upload, so that the next process can abort it if this one is killed."""

    def beginning(self) -> None:
        """Note that an upload is about to begin."""

    def begun(self, upload_id: str) -> None:
        """Note the id of the upload."""

    def ended(self) -> None:
        """Note that the upload was completed or aborted."""


class StreamedBody(Protocol):
    """A body that is read while it is sent. Iterate over its pieces, or call `bytes` for all; both work repeatedly."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[memoryview]: ...

    def __bytes__(self) -> bytes: ...


Body = bytes | StreamedBody


class ObjectStore(Protocol):
    """A bucket. Thread-safe. Methods raise `StoreError` if a request fails, unless their docstrings say otherwise."""

    @property
    def destination(self) -> str:
        """`endpoint/bucket`: what the capabilities belong to."""

    @property
    def capabilities(self) -> Capabilities:
        """What is known of the store so far."""

    @property
    def clock_offset_seconds(self) -> float | None:
        """How many seconds the store's clock is ahead of ours, or a little less; see `translate.nearer_offset`.

        None: not known yet.
        """

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
        """Write one object in one request.

        Args:
            sha256: of `body`, hexadecimal.
            metadata: ASCII names and values.
            create_only: don't replace an object, if the store can refuse that (see `Capabilities.create_only`).
            progress: called with the number of bytes sent since its last call.

        Raises:
            ObjectExists: `create_only`, and the key is taken.
            ConditionsRejected: the store rejects the header of create-only writes, and nothing was written. Later
                calls leave the header out, so send a HEAD before them.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Describe the object by a HEAD; None: there is none."""

    def create_multipart(self, key: str, *, content_type: str, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload and return its id."""

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
        """Send part `number` (from 1). Sending it again replaces it."""

    def unfinished_uploads(self, key: str) -> list[UnfinishedUpload]:
        """Return the multipart uploads to exactly this key that were neither completed nor aborted."""

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that the store holds; StoreError with code NoSuchUpload if the upload is gone."""

    def complete_multipart(
        self, key: str, upload_id: str, parts: Sequence[Part], *, create_only: bool
    ) -> str | None:
        """Complete the upload and return the object's ETag; None if the answer has none. Raises as `put` does."""

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Abort an unfinished upload; no-op if it is gone already."""

    def read(
        self, key: str, limit_bytes: int, *, etag: str | None = None, byte_range: range | None = None
    ) -> Generator[bytes, None, None]:
        """Read an object's bytes, in pieces of at most 1 MiB.

        Args:
            limit_bytes: the size that the object should have. Of a larger object one byte more is read. Without effect
                if there is a `byte_range`.
            etag: raise StoreError with status 412 if the object has another ETag.
            byte_range: read only these bytes, such as `range(0, 65536)`; it must begin within the object.
        """

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """Yield the objects below `prefix`, at most `limit`, in the store's order; not every store sorts by UTF-8."""

    def presign(self, key: str, expires_seconds: float, answer: AnswerHeaders) -> PresignedLink:
        """Return a link with which anybody may read an object. Makes no request to the store.

        Args:
            expires_seconds: from now; shortened to 7 days, and to the expiry of temporary credentials.
            answer: the headers that the store's answer to the link will have.

        Raises:
            StoreError: the credentials have expired (code `ExpiredToken`), or can't be loaded.
        """

    def delete(self, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
        """Delete objects; yield each key with None, or with the error if it was not deleted."""

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
        """Find out what the store does with create-only writes, by writing an object again that was just written.

        Leaves no other object behind. Raises only what `notes` raises; after a StoreError, the answer stays unknown.

        Args:
            in_parts: probe multipart uploads even if the store refuses to overwrite in one request.
        """

    def probe_with_own_object(self, notes: ProbeNotes | None = None) -> None:
        """Do the same as `probe_create_only`, with a small object of its own at `probe_key`."""

    @property
    def probe_key(self) -> str:
        """The key of the small object that `probe_with_own_object` and the connection check write."""

    def warm_up(self, *, in_parts: bool = False) -> None:
        """Load what requests need (`in_parts`: multipart uploads), but make none."""

    def close(self) -> None:
        """Close all connections. A later request opens new ones."""
