"""A bucket in S3: one method for each operation, and what its answer says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConditionsRejected, StoreError
from ..keys import VERSION_FOLDER, PrefixTemplate
from .answers import (
    ascii_metadata,
    bare_etag,
    check_done,
    check_written,
    is_html,
    is_web_page,
    not_s3_error,
    sha256_base64,
    sha256_hex,
)
from .base import (
    Body,
    Capabilities,
    Checksum,
    CreateOnly,
    ObjectInfo,
    Part,
    ProbeNotes,
    Progress,
    PutResult,
    UnfinishedUpload,
)
from .client import CONNECT_SECONDS, READ_SECONDS
from .deletions import delete_objects
from .evidence import answer_proves
from .failures import explain, is_missing
from .heads import HeadRequests
from .links import AnswerHeaders, PresignedLink, presign
from .listing import list_objects
from .object_reads import read_object
from .probe import PROBE_BODY, PROBE_METADATA, probe, probe_key, put_probe_object
from .requests import RequestExecutor
from .translate import web_page_failure

if TYPE_CHECKING:
    from ..config.settings import Settings

logger = logging.getLogger("cloud_archive.store")

MAX_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html


class S3Store:
    """The `ObjectStore` of an S3 endpoint.

    Args:
        settings: endpoint, bucket and credentials.
        capabilities: what is known of this destination from an earlier session; None = nothing.
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
        self._placement = _placement(settings)
        self._catalog_folder = f"{PrefixTemplate.parse(settings.prefix).reserved_folder}{VERSION_FOLDER}"
        self._requests = RequestExecutor(
            settings,
            capabilities=capabilities,
            on_capabilities=on_capabilities,
            connect_seconds=connect_seconds,
            read_seconds=read_seconds,
        )
        self._closed = threading.Event()
        self._heads = HeadRequests(self._requests, self.list)

    def __repr__(self) -> str:
        return f"S3Store({self.destination!r})"

    @property
    def destination(self) -> str:
        return self._requests.destination

    @property
    def capabilities(self) -> Capabilities:
        return self._requests.capabilities

    @property
    def probe_key(self) -> str:
        return probe_key(self._settings.prefix)

    @property
    def clock_offset_seconds(self) -> float | None:
        return self._requests.clock_offset_seconds

    @property
    def region(self) -> str:
        """Where the bucket is, as far as is known."""
        return self._requests.region

    def remember(self, **found: object) -> None:
        """See `RequestExecutor.remember`."""
        self._requests.remember(**found)

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
        conditional = create_only and self.capabilities.create_only is not CreateOnly.REJECTED
        try:
            answer = self._requests.send(
                "PutObject",
                key,
                body,
                sha256,
                progress,
                conditional=conditional,
                ContentType=content_type,
                Metadata=ascii_metadata(metadata),
                **({"IfNoneMatch": "*"} if conditional else {}),
                **self._placement_of(key),
            )
        except ConditionsRejected:
            self.remember(create_only=CreateOnly.REJECTED)
            raise
        check_written(key, answer, create_only=create_only)
        etag = bare_etag(answer.get("ETag"))
        checksum = sha256_hex(answer.get("ChecksumSHA256"))
        return PutResult(etag, answer_proves(body, sha256, checksum=checksum, etag=etag))

    def _placement_of(self, key: str) -> dict[str, Any]:
        """Return storage class and encryption; for catalog and shares no class, so that they can be read at once."""
        if key.startswith(self._catalog_folder):
            return {name: value for name, value in self._placement.items() if name != "StorageClass"}
        return self._placement

    def create_multipart(self, key: str, *, content_type: str, metadata: Mapping[str, str]) -> str:

        def begin(checksum: Checksum) -> dict[str, Any]:
            # AWS accepts a part's SHA-256, and lists it with the part, only if this request names the algorithm:
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
            # SeaweedFS 4.48, if the algorithm is named, requires at completion a checksum that it does not list with
            # the parts, so no upload could be resumed after a restart.
            is_named = checksum == "sha256" and self._settings.is_aws
            algorithm: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"} if is_named else {}
            return self._requests.call(
                "CreateMultipartUpload",
                key,
                ContentType=content_type,
                Metadata=ascii_metadata(metadata),
                **algorithm,
                **self._placement_of(key),
            )

        answer, _ = self._requests.with_either_checksum(begin)
        upload_id = answer.get("UploadId")
        if not isinstance(upload_id, str) or not upload_id:
            raise not_s3_error("CreateMultipartUpload", key)
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
        answer = self._requests.send(
            "UploadPart", key, body, sha256, progress, UploadId=upload_id, PartNumber=number
        )
        etag = answer.get("ETag")
        if not isinstance(etag, str) or not etag or is_web_page(answer):
            raise not_s3_error("UploadPart", key)
        echoed = sha256_hex(answer.get("ChecksumSHA256"))
        return Part(
            number,
            etag,
            len(body),
            echoed,
            answer_proves(body, sha256, checksum=echoed, etag=bare_etag(etag)),
        )

    def complete_multipart(
        self, key: str, upload_id: str, parts: Sequence[Part], *, create_only: bool
    ) -> str | None:
        conditional = create_only and self.capabilities.create_only_multipart is not CreateOnly.REJECTED
        listed = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({"ChecksumSHA256": sha256_base64(part.sha256)} if part.sha256 else {})
            for part in parts
        ]
        try:
            answer = self._requests.call(
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
        if not answer.keys() & {"ETag", "Key", "Bucket", "Location"}:
            # The answer lacks its document, so only a HEAD can tell whether the object exists.
            failure = web_page_failure(None) if is_html(answer) else explain("ConnectionClosed")
            raise StoreError("CompleteMultipartUpload", key, failure, status=200)
        return bare_etag(answer.get("ETag"))  # Ceph sends an empty one

    def abort_multipart(self, key: str, upload_id: str) -> None:
        try:
            answer = self._requests.call_with_retry("AbortMultipartUpload", key, UploadId=upload_id)
        except StoreError as error:
            if error.failure.code != "NoSuchUpload" and not is_missing(error):
                raise
        else:
            check_done("AbortMultipartUpload", key, answer)

    def delete(self, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
        return delete_objects(self._requests, keys)

    # --- reading

    def head(self, key: str) -> ObjectInfo | None:
        return self._heads.head(key)

    def presign(self, key: str, expires_seconds: float, answer: AnswerHeaders) -> PresignedLink:
        return presign(self._requests, self._settings.bucket, key, expires_seconds, answer)

    def unfinished_uploads(self, key: str) -> list[UnfinishedUpload]:
        # Exact matches come first, so one page is enough.
        answer = self._requests.call_with_retry("ListMultipartUploads", None, Prefix=key)
        if not answer.keys() & {"Bucket", "MaxUploads", "IsTruncated", "Uploads"}:
            raise not_s3_error("ListMultipartUploads", key)
        entries = [entry for entry in answer.get("Uploads", []) if entry.get("Key") == key]
        if not all(entry.keys() >= {"UploadId", "Initiated"} for entry in entries):
            raise not_s3_error("ListMultipartUploads", key)
        return [UnfinishedUpload(entry["UploadId"], entry["Initiated"].timestamp()) for entry in entries]

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        found: list[Part] = []
        marker: dict[str, Any] = {}
        while True:
            answer = self._requests.call_with_retry("ListParts", key, UploadId=upload_id, **marker)
            if "UploadId" not in answer and "Parts" not in answer:
                raise not_s3_error("ListParts", key)
            for entry in answer.get("Parts", []):
                if not entry.keys() >= {"PartNumber", "ETag", "Size"}:
                    raise not_s3_error("ListParts", key)
                sha256 = (
                    sha256_hex(entry.get("ChecksumSHA256")) if self.capabilities.echoes_checksum else None
                )
                found.append(Part(entry["PartNumber"], entry["ETag"], entry["Size"], sha256, proven=True))
            following = answer.get("NextPartNumberMarker")
            ended = (
                not answer.get("IsTruncated") or not following or following == marker.get("PartNumberMarker")
            )
            if ended or len(found) > MAX_PARTS:
                return found
            marker = {"PartNumberMarker": following}

    def read(
        self, key: str, limit_bytes: int, *, etag: str | None = None, byte_range: range | None = None
    ) -> Generator[bytes, None, None]:
        return read_object(self._requests, key, limit_bytes, etag=etag, byte_range=byte_range)

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        return list_objects(self._requests, prefix, limit=limit)

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
        probe(
            self,
            key,
            body,
            content_type=content_type,
            metadata=metadata,
            wait=self._closed.wait,
            notes=notes,
            in_parts=in_parts,
        )

    def probe_with_own_object(self, notes: ProbeNotes | None = None) -> None:
        try:
            put_probe_object(self)
        except StoreError as error:
            logger.debug("%s: the probe of create-only writes failed: %s", self.destination, error)
            return
        self.probe_create_only(
            self.probe_key, PROBE_BODY, content_type="text/plain", metadata=PROBE_METADATA, notes=notes
        )

    def use_sdk_only(self) -> None:
        self._requests.fast.use_sdk_only()

    def warm_up(self, *, in_parts: bool = False) -> None:
        try:
            if in_parts or self._requests.fast.client() is None:
                self._requests.client()
        except Exception:
            # The first request fails with the same cause, and explains it.
            logger.debug("The store's client could not be made in advance", exc_info=True)

    def close(self) -> None:
        self._closed.set()
        self._requests.close()


def _placement(settings: Settings) -> dict[str, Any]:
    wanted = {
        "StorageClass": settings.storage_class,
        "ServerSideEncryption": settings.server_side_encryption,
        "SSEKMSKeyId": settings.sse_kms_key_id,
    }
    return {name: value for name, value in wanted.items() if value}
