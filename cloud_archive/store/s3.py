"""The bucket behind S3: every request, and what its answer proves.

Every failure is a `StoreError` (see store_errors.py). Nothing is retried here but a request in the other integrity
dialect, and what tidies up: retries are durable and belong to the ledger. What a store can do is found out, not assumed
(store_probes.py), and kept in `Capabilities`. The SDK is set up in s3_client.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from ..errors import ConditionsRejected, FailureScope, ObjectExists, StoreError
from .aws_session import MadeOnce
from .bandwidth import Throttle
from .base import (
    Capabilities,
    Checksum,
    CreateOnly,
    ObjectInfo,
    ObjectStore,
    Part,
    ProbeNotes,
    Progress,
    PutResult,
    UnfinishedUpload,
)
from .client import (
    CONNECT_SECONDS,
    PIECE_BYTES,
    READ_SECONDS,
    Client,
    Metered,
    Told,
    addressing_style,
    certificate_authorities,
    keys_of,
    make_client,
)
from .failures import CREDENTIAL_CODES, concerns_every_request, explain
from .fast_put import SDK_STATUSES, Address, AnswerError, SignedPut
from .probe import PROBE_BODY, PROBE_WITH_BYTES, probe, probe_key
from .proxies import proxy_of
from .translate import (
    clock_offset_seconds,
    names_checksum,
    redact,
    refuses_checksum,
    translate,
    web_page,
)

if TYPE_CHECKING:
    from ..config.settings import Settings

__all__ = [
    "DELETE_AT_ONCE",
    "PROBE_BODY",
    "PROBE_WITH_BYTES",
    "Capabilities",
    "CreateOnly",
    "ObjectInfo",
    "ObjectStore",
    "Part",
    "PutResult",
    "S3Store",
    "UnfinishedUpload",
    "addressing_style",
    "certificate_authorities",
    "probe_key",
]

logger = logging.getLogger("cloud_archive.store")

MEBIBYTE = 1024 * 1024
READ_BYTES = MEBIBYTE
_REPLACED = replace(
    explain("PreconditionFailed"), cause="The object was replaced meanwhile.", cure="Run the command again."
)
_ENDLESS = replace(
    explain("NotS3"),
    cause="The store's listing goes round in circles.",
    cure="Report this to the store's provider.",
)
MAX_EMPTY_PAGES = 100  # one now and then is allowed
MAX_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
DELETE_AT_ONCE = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html


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
        self._client_made: Client | None = None
        self._maker = MadeOnce(lambda: make_client(settings, *self._timeouts, self._meter))
        # The way past the SDK: made when a request of the SDK's showed it, trusted until something fails.
        self._past_sdk: SignedPut | None = None
        self._past_trusted = False
        self._sending = threading.local()
        limit = settings.max_bandwidth_bytes
        self._throttle = None if limit is None else Throttle(limit)
        self._answered: tuple[str, float] | None = None
        # Until a SHA-256 was accepted here, a refusal may be about that header.
        self._sha256_works = known.echoes_checksum is True
        self._head_with_checksum = True
        self._keys_accepted = False  # a request has succeeded
        self.region = settings.region  # where the bucket is, as far as is known

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
            logger.debug("%s: %s", self.destination, after.to_json())
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
            self._call_twice("AbortMultipartUpload", key, UploadId=upload_id)
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
            if error.status not in (400, 401, 403) and not (ask and error.status == 501):
                raise
            answer = self._head_again(key, error, with_checksum=ask)
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

    def _head_again(self, key: str, refusal: StoreError, *, with_checksum: bool) -> dict[str, Any] | None:
        """Look without the checksum header, and where that is refused too, find out why.

        A refused HEAD has no body that could name wrong credentials or a wrong region, so a listing is asked for.
        """
        if with_checksum and refusal.status != 401:
            try:
                answer = self._head(key, checksum=False)
            except StoreError as error:
                refusal = error
            else:
                self._head_with_checksum = False
                return answer
        if not refusal.failure.code.isdecimal() or (self._keys_accepted and refusal.status != 400):
            raise refusal
        try:
            next(self.list(key, limit=1), None)
        except StoreError as named:
            if concerns_every_request(named):
                raise StoreError(
                    "HeadObject", key, named.failure, status=named.status, said=named.said
                ) from named
            self._keys_accepted = self._keys_accepted or named.failure.code == "AccessDenied"
            raise refusal from named
        if refusal.status != 400:
            raise refusal
        return self._head(key, checksum=False)  # the SDK has learned the region from the listing's answer

    def unfinished_uploads(self, key: str) -> list[UnfinishedUpload]:
        """See `ObjectStore`."""
        answer = self._call_twice("ListMultipartUploads", None, Prefix=key)  # exact matches come first
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
            answer = self._call_twice("ListParts", key, UploadId=upload_id, **marker)
            if "UploadId" not in answer and "Parts" not in answer:
                raise StoreError("ListParts", key, web_page(None), status=200)
            for entry in answer.get("Parts", []):
                told = (
                    _hexadecimal(entry.get("ChecksumSHA256")) if self._capabilities.echoes_checksum else None
                )
                found.append(Part(entry["PartNumber"], entry["ETag"], entry["Size"], told, proven=True))
            following = answer.get("NextPartNumberMarker")
            ended = (
                not answer.get("IsTruncated") or not following or following == marker.get("PartNumberMarker")
            )
            if ended or len(found) > MAX_PARTS:
                return found
            marker = {"PartNumberMarker": following}

    def read(self, key: str, limit_bytes: int, *, etag: str | None = None) -> Generator[bytes, None, None]:
        """See `ObjectStore`."""
        answer = self._call("GetObject", key)
        body = answer["Body"]
        came = 0
        try:
            if not answer.get("ETag") and _is_html(answer):
                raise StoreError("GetObject", key, web_page(None), status=200)
            if etag is not None and _bare(answer.get("ETag")) != etag:
                raise StoreError("GetObject", key, _REPLACED, status=412)
            while came <= limit_bytes and (piece := body.read(READ_BYTES)):
                came += len(piece)
                yield piece
        except StoreError:
            raise
        except Exception as error:
            raise self._explained(error, "GetObject", key) from error
        finally:
            body.close()

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        left = limit
        more: dict[str, Any] = {}
        empty_pages = 0
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
            following = answer.get("NextContinuationToken")
            if not answer.get("IsTruncated") or not following:
                return
            empty_pages = 0 if entries else empty_pages + 1
            if following == more.get("ContinuationToken") or empty_pages > MAX_EMPTY_PAGES:
                # Nothing more would come, for ever; and what is missing must not look like deleted objects.
                raise StoreError("ListObjectsV2", None, _ENDLESS, status=200)
            more["ContinuationToken"] = following

    # --- finding out

    def probe_create_only(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        notes: ProbeNotes | None = None,
    ) -> None:
        """See `ObjectStore`."""
        if len(body) <= PROBE_WITH_BYTES:
            self._probe(key, body, content_type, metadata, notes)

    def probe_with_key(self, notes: ProbeNotes | None = None) -> None:
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
        self._probe(self.probe_key, PROBE_BODY, "text/plain", metadata, notes)

    def _probe(
        self, key: str, body: bytes, content_type: str, metadata: Mapping[str, str], notes: ProbeNotes | None
    ) -> None:
        wait = self._closed.wait
        probe(self, key, body, content_type=content_type, metadata=metadata, wait=wait, notes=notes)

    def warm_up(self) -> None:
        """See `ObjectStore`; half a second, for the SDK has a thousand modules."""
        try:
            self._client()
        except Exception:
            logger.debug(
                "The store's client could not be made ahead", exc_info=True
            )  # the first request tells why

    def close(self) -> None:
        """See `ObjectStore`."""
        self._closed.set()
        client = self._maker.drop()
        with self._lock:
            client, self._client_made = self._client_made or client, None
            past, self._past_sdk = self._past_sdk, None
        if client is not None:
            client.sdk.close()
        if past is not None:
            past.close()

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
        told = Told(progress)

        def attempt(dialect: Checksum) -> dict[str, Any]:
            integrity = (
                {"ChecksumSHA256": _base64(sha256)} if dialect == "sha256" else {"ContentMD5": _md5(body)}
            )
            known = integrity | parameters
            if self._past_trusted and (past := self._past_sdk) is not None:
                answer = self._send_past_sdk(past, operation, key, body, sha256, told, conditional, known)
                if answer is not None:
                    return answer
            self._sending.told = told
            try:
                answer = self._call(operation, key, conditional=conditional, Body=body, **known)
            finally:
                self._sending.told = None
            self._learn(key)
            return answer

        answer, dialect = self._in_either_dialect(attempt)
        told.reach(len(body))
        if dialect == "sha256" and self._capabilities.echoes_checksum is None and answer.get("ETag"):
            self.remember(echoes_checksum="ChecksumSHA256" in answer)
        return answer

    def _send_past_sdk(
        self,
        past: SignedPut,
        operation: str,
        key: str,
        body: bytes,
        sha256: str,
        told: Told,
        conditional: bool,
        parameters: Mapping[str, Any],
    ) -> dict[str, Any] | None:
        """See signed_put.py. None: the SDK is to send it, which may know a way around what the store answered."""
        try:
            answer = past.send(key, self._metered(body, told), len(body), sha256, parameters)
        except Exception as error:
            if isinstance(error, AnswerError) and error.status in SDK_STATUSES:
                self._past_trusted = False
                return None
            explained = self._refusal(error, operation, key, conditional=conditional)
            if not isinstance(explained, ObjectExists):
                self._past_trusted = False
            raise explained from self._shown(error)
        self._note_time(answer)
        return answer

    def _learn(self, key: str) -> None:
        """The SDK's request was taken: the next bodies can go the same way without it."""
        url, authorization = getattr(self._sending, "sent", ("", ""))
        make = self._client().signed_put
        address = None if make is None else Address.of(url, authorization, key)
        if make is None or address is None:
            return
        with self._lock:
            if address.region != self.region:
                self.region = address.region
                logger.warning(
                    "%s: the bucket is in the region %s: set S3_REGION.", self.destination, self.region
                )
            if self._past_sdk is None or self._past_sdk.address != address:
                self._past_sdk = make(address)
            self._past_trusted = True

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
        client: Client | None = None
        try:
            client = self._client()
            answer: dict[str, Any] = _method(client, operation)(Bucket=self._settings.bucket, **parameters)
        except Exception as error:
            refusal = self._refusal(error, operation, key, conditional=conditional)
            if client is None or not self._has_new_keys(client, refusal):
                raise refusal from self._shown(error)
            answer = self._call_again(operation, key, conditional, parameters)
        self._keys_accepted = True
        self._note_time(answer)
        return answer

    def _call_again(
        self, operation: str, key: str | None, conditional: bool, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make a request with the client as it is now, whatever comes of it."""
        try:
            answer: dict[str, Any] = _method(self._client(), operation)(
                Bucket=self._settings.bucket, **parameters
            )
        except Exception as error:
            raise self._refusal(error, operation, key, conditional=conditional) from self._shown(error)
        return answer

    def _has_new_keys(self, client: Client, refusal: StoreError) -> bool:
        """Read the AWS chain again where the store refuses its keys; True where it has others now (key rotation)."""
        if self._settings.credentials != "aws" or refusal.failure.code not in CREDENTIAL_CODES:
            return False
        if client is self._client_made:
            try:
                keys = MadeOnce(lambda: keys_of(self._settings)).get()
                if keys is None or client.keys is None or keys() == client.keys():
                    return False
            except Exception as error:
                logger.info("The AWS credentials could not be read again: %s", type(error).__name__)
                return False
        with self._lock:
            if self._client_made is client:
                logger.info("%s: the AWS credentials have changed", self.destination)
                self._maker.drop()
                self._client_made = self._past_sdk = None
        return True

    def _refusal(self, error: Exception, operation: str, key: str | None, *, conditional: bool) -> StoreError:
        """`_explained`, and what it tells about create-only writes is remembered."""
        told = self._explained(error, operation, key, conditional=conditional)
        if isinstance(told, ObjectExists):
            name = _conditional_capability(operation)
            if getattr(self._capabilities, name) is CreateOnly.UNKNOWN:
                self.remember(**{name: CreateOnly.HONOURED})
        return told

    def _shown(self, error: Exception) -> Exception | None:
        """The SDK's own text stays out of tracebacks where it holds a secret."""
        return None if any(secret in str(error) for secret in self._secrets) else error

    def _call_twice(self, operation: str, key: str | None, **parameters: Any) -> dict[str, Any]:
        """A request that tidies up, for which nobody comes back, and which may be made again without harm.

        A connection that the store has closed shows that only when it is used next, as after an answer cut short.
        """
        try:
            return self._call(operation, key, **parameters)
        except StoreError as error:
            if error.failure.code != "ConnectionClosed":
                raise
        return self._call(operation, key, **parameters)

    def _explained(
        self, error: Exception, operation: str, key: str | None, *, conditional: bool = False
    ) -> StoreError:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            self._note_time(response)
        told = translate(
            error,
            operation,
            key,
            secrets=self._secrets,
            conditional=conditional,
            proxy=proxy_of(self._settings.endpoint_url),
            aws_chain=self._settings.credentials == "aws",
        )
        if told.failure.code in ("InvalidArgument", "InvalidRequest") and operation in _PLACING:
            told = self._blame_placement(told)
        return told

    def _blame_placement(self, error: StoreError) -> StoreError:
        """Name the settings of an upload that a store may not support, where one is set."""
        settings = self._settings
        named = {
            "S3_STORAGE_CLASS": settings.storage_class,
            "S3_SERVER_SIDE_ENCRYPTION": settings.server_side_encryption,
            "S3_SSE_KMS_KEY_ID": settings.sse_kms_key_id,
        }
        found = " and ".join(f"{name}={value}" for name, value in named.items() if value)
        if not found:
            return error
        cure = f"Correct or unset {found}, if the store does not support that."
        failure = replace(error.failure, cure=cure, scope=FailureScope.STORE)
        return StoreError(error.operation, error.key, failure, status=error.status, said=error.said)

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

    def _client(self) -> Client:
        client = self._client_made
        if client is None:
            client = self._client_made = self._maker.get()
        return client

    def _meter(self, request: Any, **_: object) -> None:
        """Before a body is sent: let it tell how far it is, and wait for its share of the bandwidth."""
        told = getattr(self._sending, "told", None)
        authorization = request.headers.get("Authorization", "")
        text = authorization.decode() if isinstance(authorization, bytes) else str(authorization)
        self._sending.sent = (request.url, text)
        if told is not None and isinstance(request.body, bytes):
            request.body = self._metered(request.body, told)

    def _metered(self, body: bytes, told: Told) -> bytes | Metered:
        piece_bytes = PIECE_BYTES if self._throttle is None else self._throttle.piece_bytes
        if len(body) > piece_bytes:
            return Metered(body, told, piece_bytes, self._throttle)
        if self._throttle is not None:
            self._throttle.take(len(body))
        return body


_PLACING = ("PutObject", "CreateMultipartUpload")
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


def _method(client: Client, operation: str) -> Callable[..., Any]:
    return cast("Callable[..., Any]", getattr(client.sdk, _METHODS[operation]))


def _got_further(error: StoreError, refusal: StoreError) -> bool:
    """Whether a request with Content-MD5 was refused for another reason than the one with the SHA-256."""
    if isinstance(error, ObjectExists):
        return True
    return error.status is not None and error.status < 502 and error.failure.code != refusal.failure.code


def _conditional_capability(operation: str) -> str:
    return "create_only_multipart" if operation == "CompleteMultipartUpload" else "create_only"


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
