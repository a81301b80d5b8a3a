"""The bucket: what an object store must be able to do, and its S3 form. The only module that imports boto3's core.

`ObjectStore` is the protocol that uploads, checks and reports work with; `S3Store` speaks S3 through botocore.
Every failure is a `StoreError` (see store_errors.py). Nothing is retried here but a request in the other integrity
dialect: retries are durable and belong to the ledger.

What a store can do is found out, not assumed, and kept in `Capabilities`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast
from urllib.parse import quote, urlsplit

from . import __version__
from .bandwidth import Throttle
from .errors import ConditionsRejected, ObjectExists, StoreError, explain
from .store_errors import (
    clock_offset_seconds,
    names_checksum,
    redact,
    refuses_checksum,
    translate,
    web_page,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from .settings import Settings

logger = logging.getLogger("cloud_archive.store")

MEBIBYTE = 1024 * 1024
CONNECT_SECONDS = 10
READ_SECONDS = 60
# Above this size a request asks first (Expect: 100-continue), so that a refusal costs no upload; below, the extra
# round trip costs more than the body.
EXPECT_ABOVE_BYTES = MEBIBYTE
PIECE_BYTES = 256 * 1024  # progress is told in these steps
READ_BYTES = MEBIBYTE
PROBE_NAME = ".cloud-archive-check"
PROBE_BODY = b"Cloud Archive looks with this object what the bucket allows. It may be deleted.\n"
PROBE_WITH_BYTES = 4 * MEBIBYTE  # a larger object is not sent three times only to learn something
DELETE_AT_ONCE = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html

Progress = Callable[[int], None]
Checksum = Literal["sha256", "md5"]


class CreateOnly(Enum):
    """What a store makes of `If-None-Match: *` on a write."""

    UNKNOWN = "unknown"
    HONOURED = "honoured"  # a taken key is refused with 412
    IGNORED = "ignored"  # answered 200, and overwritten
    REJECTED = "rejected"  # the header itself is refused (501)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was found out about one destination.

    Attributes:
        create_only: on PutObject.
        create_only_multipart: on CompleteMultipartUpload.
        checksum: the integrity header that goes with each body.
        can_head: whether this key may look at objects; None: not known yet. A 403 for a key that may be missing
            proves nothing: without the right to list, S3 answers 403 for what is not there.
        can_list: whether this key may list.
        echoes_checksum: whether the store repeats the SHA-256 in its answer to a write, as those do that compute it
            themselves. One that doesn't, yet shows it later, only keeps what we said (`rclone serve s3` does), so
            what it shows is believed only where this is True.
    """

    create_only: CreateOnly = CreateOnly.UNKNOWN
    create_only_multipart: CreateOnly = CreateOnly.UNKNOWN
    checksum: Checksum = "sha256"
    can_head: bool | None = None
    can_list: bool | None = None
    echoes_checksum: bool | None = None

    def to_json(self) -> dict[str, str | bool | None]:
        """As kept in the ledger and shown by `check`."""
        return {
            "create_only": self.create_only.value,
            "create_only_multipart": self.create_only_multipart.value,
            "checksum": self.checksum,
            "can_head": self.can_head,
            "can_list": self.can_list,
            "echoes_checksum": self.echoes_checksum,
        }

    @classmethod
    def from_json(cls, found: object) -> Capabilities:
        """What `to_json` gave, also of another version: whatever is not understood counts as unknown."""
        data = found if isinstance(found, Mapping) else {}

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
            flag("can_list"),
            flag("echoes_checksum"),
        )


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as the store describes it.

    Attributes:
        etag: without its quotes.
        sha256: hexadecimal, from the object's own metadata: what its writer said, no proof.
        checksum_sha256: hexadecimal, of the whole object, as computed by the store itself; None where it tells
            none, or may only be repeating what it was told.
        metadata: names in lower case; empty in listings.
    """

    key: str
    size_bytes: int
    etag: str | None
    sha256: str | None
    checksum_sha256: str | None
    metadata: Mapping[str, str]
    last_modified: datetime | None


@dataclass(frozen=True, slots=True)
class PutResult:
    """The store took an object.

    Attributes:
        proven: its answer holds a checksum that equals ours: the SHA-256 echoed, or an ETag that is the bytes' MD5.
    """

    etag: str | None
    proven: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the store holds.

    Attributes:
        etag: as the store gave it, quotes included; it goes back with the completion.
        sha256: hexadecimal, as confirmed by the store; None where it tells none.
        proven: the answer to its upload proved its bytes. In a list of parts True: whoever goes on with a listed
            part compares its checksum.
    """

    number: int
    etag: str
    size_bytes: int
    sha256: str | None
    proven: bool = False


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A multipart upload that somebody began; `initiated_at` in seconds since 1970 by the store's clock."""

    upload_id: str
    initiated_at: float


class ObjectStore(Protocol):
    """A bucket. Every method may be called from any thread, and raises `StoreError` when the store fails it."""

    @property
    def destination(self) -> str:
        """`endpoint/bucket`: what the capabilities belong to."""

    @property
    def capabilities(self) -> Capabilities:
        """What is known of the store so far."""

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
            create_only: refuse where the key is taken, as far as the store can (see `Capabilities.create_only`).
            progress: called with the bytes sent since its last call.

        Raises:
            ObjectExists: `create_only`, and the key is taken.
            ConditionsRejected: the store refuses create-only writes as such; nothing was written. From now on the
                header is left out, so look first and call again.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Look at an object; None: there is none."""

    def create_multipart(self, key: str, *, content_type: str, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload, and its id."""

    def upload_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: bytes,
        *,
        sha256: str,
        progress: Progress | None = None,
    ) -> Part:
        """Send part `number` (from 1). Sending it again replaces it."""

    def unfinished_uploads(self, key: str) -> list[UnfinishedUpload]:
        """The multipart uploads to exactly this key that have neither been completed nor aborted."""

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """The parts that have arrived. StoreError with code NoSuchUpload: the upload is gone."""

    def complete_multipart(
        self, key: str, upload_id: str, parts: Sequence[Part], *, create_only: bool
    ) -> str | None:
        """Make the parts an object; its ETag. Raises as `put` does."""

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Drop an unfinished upload; that it is gone already is fine."""

    def read(self, key: str) -> Iterator[bytes]:
        """An object's bytes, in pieces of at most 1 MiB."""

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """Objects below `prefix` in the order of their keys, at most `limit`."""

    def delete(self, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
        """Delete objects; each key comes back with None or why not."""

    def probe_create_only(
        self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> None:
        """Find out what create-only writes do, at a key that was just written with exactly this. Never raises.

        Leaves no object behind. Does nothing with a body over 4 MiB: a smaller one will come.
        """

    def probe_with_key(self) -> None:
        """The same with a small object of its own. Never raises."""

    def close(self) -> None:
        """Let go of connections."""


def probe_key(prefix: str) -> str:
    """The key of the small object that probes and checks write: below the part of the prefix that never changes."""
    head, brace, _ = prefix.partition("{")
    if brace:
        head = head.rpartition("/")[0]
    return "/".join([*(part for part in head.split("/") if part), PROBE_NAME])


def certificate_authorities(settings: Settings) -> str | None:
    """The CA file to trust: S3_CA_BUNDLE, else AWS_CA_BUNDLE, else the system's; None: the one of botocore."""
    if settings.ca_bundle is not None:
        return str(settings.ca_bundle)
    if os.environ.get("AWS_CA_BUNDLE"):
        return None  # botocore reads it
    usual = (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt")
    return next((path for path in usual if path and Path(path).is_file()), None)


class S3Store:
    """A bucket behind an S3 endpoint.

    One client serves all threads; it is made at the first request (a quarter of a second).

    Args:
        settings: where and who.
        capabilities: what an earlier session found out about this destination.
        on_capabilities: called with every change, from the thread that found it.
        connect_seconds, read_seconds: timeouts of one request.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        capabilities: Capabilities | None = None,
        on_capabilities: Callable[[Capabilities], None] | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._settings = settings
        self._secrets = settings.secrets()
        self._timeouts = (connect_seconds, read_seconds)
        self._on_capabilities = on_capabilities
        known = capabilities or Capabilities()
        if settings.checksum in ("sha256", "md5"):
            known = replace(known, checksum="md5" if settings.checksum == "md5" else "sha256")
        self._capabilities = known
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._client_made: S3Client | None = None
        self._sending = threading.local()
        limit = settings.max_bandwidth_bytes
        self._throttle = None if limit is None else Throttle(limit)
        self._answered: tuple[str, float] | None = None
        # Until a SHA-256 was accepted here, a refusal may be about that header.
        self._sha256_works = known.echoes_checksum is True
        self._head_with_checksum = True

    def __repr__(self) -> str:
        return f"S3Store({self.destination!r})"

    @property
    def destination(self) -> str:
        """See `ObjectStore`."""
        return f"{self._settings.endpoint_label}/{self._settings.bucket}"

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`."""
        return self._capabilities

    @property
    def probe_key(self) -> str:
        """Where `probe_with_key` and the connection check write."""
        return probe_key(self._settings.prefix)

    @property
    def clock_offset_seconds(self) -> float | None:
        """By how much the store's clock was ahead of ours in its last answer; None before the first."""
        return None if self._answered is None else clock_offset_seconds(*self._answered)

    def remember(self, **found: object) -> None:
        """Note capabilities by name; a change is announced."""
        with self._lock:
            before = self._capabilities
            self._capabilities = after = replace(before, **cast(Any, found))
        if after != before:
            logger.info("%s: %s", self.destination, after.to_json())
            if self._on_capabilities is not None:
                self._on_capabilities(after)

    # --- writing

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
        """See `ObjectStore`."""
        conditional = create_only and self._capabilities.create_only is not CreateOnly.REJECTED
        try:
            answer = self._send(
                "PutObject",
                key,
                body,
                sha256,
                progress,
                conditional=conditional,
                ContentType=content_type,
                Metadata=_ascii(metadata),
                **({"IfNoneMatch": "*"} if conditional else {}),
                **self._placement(),
            )
        except ConditionsRejected:
            self.remember(create_only=CreateOnly.REJECTED)
            raise
        etag = _bare(answer.get("ETag"))
        if etag is None and _is_html(answer):
            raise StoreError("PutObject", key, web_page(None), status=200)
        return PutResult(etag, self._proves(answer, body, sha256))

    def create_multipart(self, key: str, *, content_type: str, metadata: Mapping[str, str]) -> str:
        """See `ObjectStore`."""

        def begin(dialect: Checksum) -> dict[str, Any]:
            # AWS takes a part's SHA-256 only where the upload was announced with it, and tells it in its list of
            # parts: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
            # Others verify it unannounced; once announced, SeaweedFS 4.48 wants at completion what it does not list,
            # so that no upload could be gone on with after a restart.
            announce = dialect == "sha256" and self._settings.is_aws
            announced: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"} if announce else {}
            return self._call(
                "CreateMultipartUpload",
                key,
                ContentType=content_type,
                Metadata=_ascii(metadata),
                **announced,
                **self._placement(),
            )

        answer, _ = self._in_either_dialect(begin)
        upload_id = answer.get("UploadId")
        if not isinstance(upload_id, str) or not upload_id:
            raise StoreError("CreateMultipartUpload", key, web_page(None), status=200)
        return upload_id

    def upload_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: bytes,
        *,
        sha256: str,
        progress: Progress | None = None,
    ) -> Part:
        """See `ObjectStore`."""
        answer = self._send("UploadPart", key, body, sha256, progress, UploadId=upload_id, PartNumber=number)
        etag = answer.get("ETag")
        if not isinstance(etag, str) or not etag:
            raise StoreError("UploadPart", key, web_page(None), status=200)
        echoed = _hexadecimal(answer.get("ChecksumSHA256"))
        return Part(number, etag, len(body), echoed, self._proves(answer, body, sha256))

    def complete_multipart(
        self, key: str, upload_id: str, parts: Sequence[Part], *, create_only: bool
    ) -> str | None:
        """See `ObjectStore`."""
        conditional = create_only and self._capabilities.create_only_multipart is not CreateOnly.REJECTED
        listed = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({"ChecksumSHA256": _base64(part.sha256)} if part.sha256 else {})
            for part in parts
        ]
        try:
            answer = self._call(
                "CompleteMultipartUpload",
                key,
                conditional=conditional,
                UploadId=upload_id,
                MultipartUpload={"Parts": listed},
                **({"IfNoneMatch": "*"} if conditional else {}),
            )
        except ConditionsRejected:
            self.remember(create_only_multipart=CreateOnly.REJECTED)
            raise
        etag = _bare(answer.get("ETag"))
        if etag is None:
            # The document that must be there is not: whether the object is, only a look can tell.
            failure = web_page(None) if _is_html(answer) else explain("ConnectionClosed")
            raise StoreError("CompleteMultipartUpload", key, failure, status=200)
        return etag

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """See `ObjectStore`."""
        try:
            self._call("AbortMultipartUpload", key, UploadId=upload_id)
        except StoreError as error:
            if error.failure.code != "NoSuchUpload" and error.status != 404:
                raise

    def delete(self, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
        """See `ObjectStore`."""
        for first in range(0, len(keys), DELETE_AT_ONCE):
            yield from self._delete_batch(keys[first : first + DELETE_AT_ONCE])

    # --- reading

    def head(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore`."""
        able = self._capabilities
        ask = self._head_with_checksum and able.checksum == "sha256" and able.echoes_checksum is not False
        try:
            answer = self._head(key, checksum=ask)
        except StoreError as error:
            # An object encrypted with KMS shows its checksum only to who may decrypt it, and some stores do not
            # know the header: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
            if not ask or error.status not in (400, 403, 501):
                raise
            answer = self._head(key, checksum=False)
            self._head_with_checksum = False
        if answer is not None and not answer.get("ETag"):
            raise StoreError("HeadObject", key, web_page(None), status=200)
        self.remember(can_head=True)
        if answer is None:
            return None
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        believed = self._capabilities.echoes_checksum and answer.get("ChecksumType") != "COMPOSITE"
        return ObjectInfo(
            key,
            int(answer.get("ContentLength", 0)),
            _bare(answer.get("ETag")),
            metadata.get("sha256"),
            _hexadecimal(answer.get("ChecksumSHA256")) if believed else None,
            metadata,
            answer.get("LastModified"),
        )

    def unfinished_uploads(self, key: str) -> list[UnfinishedUpload]:
        """See `ObjectStore`."""
        answer = self._call("ListMultipartUploads", None, Prefix=key)  # exact matches come first
        return [
            UnfinishedUpload(entry["UploadId"], entry["Initiated"].timestamp())
            for entry in answer.get("Uploads", [])
            if entry["Key"] == key
        ]

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """See `ObjectStore`."""
        found: list[Part] = []
        marker: dict[str, Any] = {}
        while True:
            answer = self._call("ListParts", key, UploadId=upload_id, **marker)
            if "UploadId" not in answer and "Parts" not in answer:
                raise StoreError("ListParts", key, web_page(None), status=200)
            for entry in answer.get("Parts", []):
                told = (
                    _hexadecimal(entry.get("ChecksumSHA256")) if self._capabilities.echoes_checksum else None
                )
                found.append(Part(entry["PartNumber"], entry["ETag"], entry["Size"], told, proven=True))
            following = answer.get("NextPartNumberMarker")
            if not answer.get("IsTruncated") or not following or following == marker.get("PartNumberMarker"):
                return found
            marker = {"PartNumberMarker": following}

    def read(self, key: str) -> Iterator[bytes]:
        """See `ObjectStore`."""
        answer = self._call("GetObject", key)
        body = answer["Body"]
        if not answer.get("ETag") and _is_html(answer):
            body.close()
            raise StoreError("GetObject", key, web_page(None), status=200)
        try:
            while piece := body.read(READ_BYTES):
                yield piece
        except Exception as error:
            raise self._explained(error, "GetObject", key) from error
        finally:
            body.close()

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        left = limit
        more: dict[str, Any] = {}
        while left is None or left > 0:
            if left is not None:
                more["MaxKeys"] = min(left, 1000)
            answer = self._call("ListObjectsV2", None, Prefix=prefix, **more)
            if not answer.keys() & {"KeyCount", "Name", "MaxKeys", "IsTruncated"}:
                raise StoreError("ListObjectsV2", None, web_page(None), status=200)
            self.remember(can_list=True)
            entries = answer.get("Contents", [])[:left]
            for entry in entries:
                yield ObjectInfo(
                    entry["Key"],
                    entry["Size"],
                    _bare(entry.get("ETag")),
                    None,
                    None,
                    {},
                    entry.get("LastModified"),
                )
            left = None if left is None else left - len(entries)
            if not answer.get("IsTruncated") or not answer.get("NextContinuationToken"):
                return
            more["ContinuationToken"] = answer["NextContinuationToken"]

    # --- finding out

    def probe_create_only(
        self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> None:
        """See `ObjectStore`."""
        if len(body) <= PROBE_WITH_BYTES:
            self._probe(key, body, content_type, metadata)

    def probe_with_key(self) -> None:
        """See `ObjectStore`."""
        sha256 = hashlib.sha256(PROBE_BODY).hexdigest()
        metadata = {"sha256": sha256}
        try:
            self.put(
                self.probe_key,
                PROBE_BODY,
                sha256=sha256,
                content_type="text/plain",
                metadata=metadata,
                create_only=False,
            )
        except StoreError as error:
            logger.info("%s: what it can do could not be found out: %s", self.destination, error)
            return
        self._probe(self.probe_key, PROBE_BODY, "text/plain", metadata)

    def _probe(self, key: str, body: bytes, content_type: str, metadata: Mapping[str, str]) -> None:
        """Each write here sends what is there already, so that a store that ignores the condition harms nothing."""
        sha256 = hashlib.sha256(body).hexdigest()

        def put() -> None:
            self.put(key, body, sha256=sha256, content_type=content_type, metadata=metadata, create_only=True)

        def multipart() -> None:
            upload_id = self.create_multipart(key, content_type=content_type, metadata=metadata)
            try:
                part = self.upload_part(key, upload_id, 1, body, sha256=sha256)
                self.complete_multipart(key, upload_id, [part], create_only=True)
            except StoreError:
                try:
                    self.abort_multipart(key, upload_id)
                except StoreError as error:
                    logger.info("%s: a probe's upload could not be aborted: %s", self.destination, error)
                raise

        if self._capabilities.can_head is None:
            self._probe_head(key)
        if self._capabilities.create_only is CreateOnly.UNKNOWN:
            self.remember(create_only=self._outcome(put))
        if self._capabilities.create_only_multipart is CreateOnly.UNKNOWN:
            self.remember(create_only_multipart=self._outcome(multipart))

    def _probe_head(self, key: str) -> None:
        try:
            self.head(key)
        except StoreError as error:
            if error.status in (401, 403) and not error.failure.passing:
                self.remember(can_head=False)

    def _outcome(self, attempt: Callable[[], None]) -> CreateOnly:
        """What a write did that must be refused. R2 allows one write a second to a key, hence the second try."""
        for pause_seconds in (1.1, None):
            try:
                attempt()
            except ObjectExists:
                return CreateOnly.HONOURED
            except ConditionsRejected:
                return CreateOnly.REJECTED
            except StoreError as error:
                if not error.failure.passing or pause_seconds is None or self._closed.wait(pause_seconds):
                    logger.info("%s: create-only writes could not be tried: %s", self.destination, error)
                    break
            else:
                return CreateOnly.IGNORED
        return CreateOnly.UNKNOWN

    def close(self) -> None:
        """See `ObjectStore`."""
        self._closed.set()
        with self._lock:
            client, self._client_made = self._client_made, None
        if client is not None:
            client.close()

    # --- one request

    def _send(
        self,
        operation: str,
        key: str,
        body: bytes,
        sha256: str,
        progress: Progress | None,
        *,
        conditional: bool = False,
        **parameters: Any,
    ) -> dict[str, Any]:
        """A request with a body and its integrity header."""
        told = _Told(progress)

        def attempt(dialect: Checksum) -> dict[str, Any]:
            integrity = (
                {"ChecksumSHA256": _base64(sha256)} if dialect == "sha256" else {"ContentMD5": _md5(body)}
            )
            self._sending.told = told
            try:
                return self._call(
                    operation, key, conditional=conditional, Body=body, **integrity, **parameters
                )
            finally:
                self._sending.told = None

        answer, dialect = self._in_either_dialect(attempt)
        told.reach(len(body))
        if dialect == "sha256" and self._capabilities.echoes_checksum is None and answer.get("ETag"):
            self.remember(echoes_checksum="ChecksumSHA256" in answer)
        return answer

    def _in_either_dialect(
        self, attempt: Callable[[Checksum], dict[str, Any]]
    ) -> tuple[dict[str, Any], Checksum]:
        """Once more with Content-MD5 where the refusal may mean the SHA-256 header; at once, in the same call."""
        dialect = self._capabilities.checksum
        if dialect == "md5" or self._settings.checksum == "sha256" or self._settings.is_aws:
            return attempt(dialect), dialect
        try:
            answer = attempt("sha256")
        except StoreError as refusal:
            works = self._sha256_works = self._sha256_works or isinstance(refusal, ObjectExists)
            if not (names_checksum(refusal) if works else refuses_checksum(refusal)):
                raise
            try:
                answer = attempt("md5")
            except StoreError as error:
                if not _got_further(error, refusal):
                    raise refusal from refusal.__cause__
                if not works:
                    self.remember(checksum="md5")
                raise
            if not works:
                self.remember(checksum="md5")
            return answer, "md5"
        self._sha256_works = True
        return answer, "sha256"

    def _head(self, key: str, *, checksum: bool) -> dict[str, Any] | None:
        mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if checksum else {}
        try:
            return self._call("HeadObject", key, **mode)
        except StoreError as error:
            if error.status == 404:
                return None
            raise

    def _delete_batch(self, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
        """Many in one request where the store takes that (Google does not), else one by one."""
        # What XML cannot hold would make the whole document invalid.
        plain = [key for key in keys if all(sign >= " " for sign in key)]
        single = [key for key in keys if any(sign < " " for sign in key)]
        if len(plain) > 1:
            objects = [{"Key": key} for key in plain]
            try:
                answer = self._call("DeleteObjects", None, Delete={"Objects": objects, "Quiet": True})
            except StoreError as error:
                if error.status is None or error.failure.passing:
                    yield from ((key, error) for key in keys)
                    return
                single = list(keys)
            else:
                failed = {entry["Key"]: entry for entry in answer.get("Errors", []) if "Key" in entry}
                for key in plain:
                    entry = failed.get(key)
                    yield key, None if entry is None else self._not_deleted(key, entry)
        else:
            single = list(keys)
        for key in single:
            try:
                self._call("DeleteObject", key)
            except StoreError as error:
                yield key, None if error.status == 404 else error
            else:
                yield key, None

    def _not_deleted(self, key: str, entry: Mapping[str, Any]) -> StoreError:
        code, said = str(entry.get("Code", "Unknown")), redact(str(entry.get("Message", "")), self._secrets)
        return StoreError("DeleteObjects", key, explain(code, 400, said), said=said)

    def _placement(self) -> dict[str, Any]:
        settings = self._settings
        wanted = {
            "StorageClass": settings.storage_class,
            "ServerSideEncryption": settings.server_side_encryption,
            "SSEKMSKeyId": settings.sse_kms_key_id,
        }
        return {name: value for name, value in wanted.items() if value}

    def _call(
        self, operation: str, key: str | None, *, conditional: bool = False, **parameters: Any
    ) -> dict[str, Any]:
        """The only place where a request is made."""
        if key is not None:
            parameters["Key"] = key
        try:
            method = getattr(self._client(), _METHODS[operation])
            answer: dict[str, Any] = method(Bucket=self._settings.bucket, **parameters)
        except Exception as error:
            told = self._explained(error, operation, key, conditional=conditional)
            if isinstance(told, ObjectExists):
                name = _conditional_capability(operation)
                if getattr(self._capabilities, name) is CreateOnly.UNKNOWN:
                    self.remember(**{name: CreateOnly.HONOURED})
            # The SDK's own text stays out of tracebacks where it holds a secret.
            raise told from (None if any(secret in str(error) for secret in self._secrets) else error)
        self._note_time(answer)
        return answer

    def _explained(
        self, error: Exception, operation: str, key: str | None, *, conditional: bool = False
    ) -> StoreError:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            self._note_time(response)
        return translate(error, operation, key, secrets=self._secrets, conditional=conditional)

    def _note_time(self, answer: Mapping[str, Any]) -> None:
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if date:
            self._answered = (date, time.time())

    @staticmethod
    def _proves(answer: Mapping[str, Any], body: bytes, sha256: str) -> bool:
        """Whether the answer holds a checksum of the bytes that equals ours.

        An ETag is the MD5 of the bytes unless the object is encrypted with KMS or the store does as it likes; then
        it equals nothing that we computed: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        """
        echoed = _hexadecimal(answer.get("ChecksumSHA256"))
        if echoed is not None:
            return echoed == sha256
        return _bare(answer.get("ETag")) == hashlib.md5(body, usedforsecurity=False).hexdigest()

    # --- the client

    def _client(self) -> S3Client:
        client = self._client_made
        if client is None:
            with self._lock:
                client = self._client_made
                if client is None:
                    client = self._client_made = self._make_client()
        return client

    def _make_client(self) -> S3Client:
        # Not at the top: a quarter of a second and 25 MB, which `--help` or a wrong setting need not pay.
        import botocore.session
        from botocore.config import Config
        from botocore.handlers import convert_body_to_file_like_object

        settings = self._settings
        connect_seconds, read_seconds = self._timeouts
        session = botocore.session.Session(session_vars=None if settings.credentials == "aws" else _NO_FILES)
        credentials: dict[str, Any] = {}
        if settings.credentials == "env":
            secret, token = settings.secret_access_key, settings.session_token
            credentials = {
                "aws_access_key_id": settings.access_key_id,
                "aws_secret_access_key": secret.get_secret_value() if secret else None,
                "aws_session_token": token.get_secret_value() if token else None,
            }
        options: dict[str, Any] = {
            # One variable decides where files go. (The type stubs do not know this option yet.)
            "ignore_configured_endpoint_urls": True,
            "s3": {"addressing_style": addressing_style(settings)},
        }
        config = Config(
            region_name=settings.region,
            connect_timeout=connect_seconds,
            read_timeout=read_seconds,
            max_pool_connections=max(10, settings.workers * 2),
            tcp_keepalive=True,
            retries={"total_max_attempts": 1},
            # DESIGN: newer SDKs add CRC trailers of their own, which several providers refuse.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent=f"cloud-archive/{__version__} Botocore/{botocore.__version__}",
            # A proxy cannot reach this machine's loopback.
            proxies={} if _is_loopback(settings.endpoint_url) else None,
            **options,
        )
        client = session.create_client(
            "s3",
            endpoint_url=settings.endpoint_url,
            verify=certificate_authorities(settings),
            config=config,
            **credentials,
        )
        # Bodies stay bytes: wrapped as files, each one would be sent with Expect: 100-continue, a round trip more.
        for operation in ("PutObject", "UploadPart"):
            client.meta.events.unregister(
                f"before-parameter-build.s3.{operation}", convert_body_to_file_like_object
            )
            client.meta.events.register(f"before-call.s3.{operation}", _ask_first)
            client.meta.events.register(f"before-send.s3.{operation}", self._meter)
        return cast("S3Client", client)

    def _meter(self, request: Any, **_: object) -> None:
        """Before a body is sent: let it tell how far it is, and wait for its share of the bandwidth."""
        told = getattr(self._sending, "told", None)
        if told is None or not isinstance(request.body, bytes):
            return
        piece_bytes = PIECE_BYTES if self._throttle is None else self._throttle.piece_bytes
        if len(request.body) > piece_bytes:
            request.body = _Metered(request.body, told, piece_bytes, self._throttle)
        elif self._throttle is not None:
            self._throttle.take(len(request.body))


def addressing_style(settings: Settings) -> str:
    """`path`, `virtual` or (AWS only) `auto`.

    Off AWS `auto` means path: `https://host/bucket/key` works at every provider in the guides, on IP addresses, on
    localhost and under certificates that hold only the host's name. The known exceptions say so themselves
    (Alibaba: SecondLevelDomainForbidden), and want S3_ADDRESSING_STYLE=virtual.
    """
    if settings.addressing_style in ("path", "virtual"):
        return str(settings.addressing_style)
    return "auto" if settings.is_aws else "path"


# Neither files nor variables of AWS's own decide anything while S3_CREDENTIALS is `env`:
# name: (name in the file, variable, default, conversion).
_NO_FILES: dict[str, Any] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}

_METHODS = {
    "PutObject": "put_object",
    "HeadObject": "head_object",
    "GetObject": "get_object",
    "CreateMultipartUpload": "create_multipart_upload",
    "UploadPart": "upload_part",
    "ListParts": "list_parts",
    "ListMultipartUploads": "list_multipart_uploads",
    "CompleteMultipartUpload": "complete_multipart_upload",
    "AbortMultipartUpload": "abort_multipart_upload",
    "ListObjectsV2": "list_objects_v2",
    "DeleteObject": "delete_object",
    "DeleteObjects": "delete_objects",
}


class _Told:
    """How many bytes of one body were told as sent; sending it again tells nothing twice."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._bytes = 0

    def reach(self, position: int) -> None:
        if self._progress is not None and position > self._bytes:
            step, self._bytes = position - self._bytes, position
            self._progress(step)


class _Metered:
    """Bytes as a file that tells how far it was read, without copying them."""

    def __init__(self, body: bytes, told: _Told, piece_bytes: int, throttle: Throttle | None) -> None:
        self._view = memoryview(body)
        self._told = told
        self._piece_bytes = piece_bytes
        self._throttle = throttle
        self._position = 0

    def read(self, _size: int = -1) -> memoryview:
        """The next piece; larger than asked for, since 16 KiB at a time would hold the interpreter lock often."""
        self._told.reach(self._position)
        piece = self._view[self._position : self._position + self._piece_bytes]
        self._position += len(piece)
        if self._throttle is not None and piece:
            self._throttle.take(len(piece))
        return piece

    def seek(self, position: int, _whence: int = 0) -> int:
        self._position = position
        return position


def _ask_first(params: dict[str, Any], **_: object) -> None:
    body = params.get("body")
    if isinstance(body, bytes) and len(body) > EXPECT_ABOVE_BYTES:
        params["headers"]["Expect"] = "100-continue"


def _got_further(error: StoreError, refusal: StoreError) -> bool:
    """Whether a request with Content-MD5 was refused for another reason than the one with the SHA-256."""
    if isinstance(error, ObjectExists):
        return True
    return error.status is not None and error.status < 502 and error.failure.code != refusal.failure.code


def _conditional_capability(operation: str) -> str:
    return "create_only_multipart" if operation == "CompleteMultipartUpload" else "create_only"


def _is_loopback(endpoint_url: str | None) -> bool:
    host = urlsplit(endpoint_url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_html(answer: Mapping[str, Any]) -> bool:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return "html" in headers.get("content-type", "").lower()


def _bare(etag: object) -> str | None:
    """An ETag without quotes and without the sign of a weak one; None where there is none."""
    return etag.removeprefix("W/").strip('"') or None if isinstance(etag, str) else None


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _hexadecimal(checksum: object) -> str | None:
    """A SHA-256 in base64 as hexadecimal; None for anything else, such as one of parts (`…-3`)."""
    if not isinstance(checksum, str):
        return None
    try:
        raw = base64.b64decode(checksum, validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw.hex() if len(raw) == hashlib.sha256().digest_size else None


def _ascii(metadata: Mapping[str, str]) -> dict[str, str]:
    """HTTP headers carry ASCII only, so anything else is percent-encoded."""
    return {name: quote(value, safe=_PRINTABLE) for name, value in metadata.items()}


_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F))
