"""Execute requests to one bucket: the client and its credentials, integrity headers, errors, clock, bandwidth.

A request is sent again here only with the SDK after libcurl, with the other integrity header, after the AWS credentials
have changed, or in `call_with_retry`. libcurl itself repeats one if a kept connection was closed before any answer. The
SDK follows a redirect to the bucket's region.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from .. import __version__
from ..errors import FailureScope, ObjectExists, StoreError
from .address import Address
from .answers import md5_base64, sha256_base64
from .aws_session import MadeOnce
from .bandwidth import Throttle
from .base import Body, Capabilities, Checksum, CreateOnly, Progress
from .client import PIECE_BYTES, BodyProgress, Client, MeteredBody, make_client
from .credentials import credentials_source
from .failures import CREDENTIAL_CODES, explain
from .fast_path import FastPath
from .integrity import blame_name, got_further, names_checksum, refuses_checksum
from .proxies import proxy_of
from .translate import clock_offset_seconds, nearer_offset, redact_and_shorten, translate

if TYPE_CHECKING:
    from ..config.settings import Settings

logger = logging.getLogger("cloud_archive.store")


class RequestExecutor:
    """Sends requests to the bucket of `settings`. Thread-safe. For its arguments see `S3Store`.

    Attributes:
        destination: `endpoint/bucket`.
        region: where the bucket is, as far as is known.
        credentials_accepted: whether an answer has shown that the credentials are valid.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        capabilities: Capabilities | None,
        on_capabilities: Callable[[Capabilities], None] | None,
        connect_seconds: float,
        read_seconds: float,
    ) -> None:
        self.destination = settings.destination
        self.region = settings.region
        self.credentials_accepted = False
        self._settings = settings
        self._secrets = settings.secrets()
        self._on_capabilities = on_capabilities
        known = capabilities or Capabilities()
        known = replace(known, can_head=known.can_head or None)  # the right may have been granted since
        if settings.checksum in ("sha256", "md5"):
            known = replace(known, checksum="md5" if settings.checksum == "md5" else "sha256")
        self.capabilities = known
        self._has_fixed_checksum = settings.checksum == "sha256" or settings.is_aws
        self._lock = threading.Lock()
        self._client_made: Client | None = None
        self._maker = MadeOnce(lambda: make_client(settings, connect_seconds, read_seconds, self._meter))
        self.fast = FastPath(
            settings,
            user_agent=f"cloud-archive/{__version__}",
            read_seconds=read_seconds,
        )
        self._sending = threading.local()
        limit = settings.max_bandwidth_bytes
        self._throttle = None if limit is None else Throttle(limit)
        self.clock_offset_seconds: float | None = None  # see `ObjectStore`
        # Until a SHA-256 was accepted here, a refusal may be about that header.
        self._sha256_works = known.echoes_checksum is True

    def remember(self, **found: object) -> None:
        """Set capabilities by name; after a change, call `on_capabilities`, in the order of the changes."""
        with self._lock:
            before = self.capabilities
            self.capabilities = after = replace(before, **cast(Any, found))
            if after != before:
                logger.debug("%s: %s", self.destination, after.to_json())
                if self._on_capabilities is not None:
                    self._on_capabilities(after)

    def send(
        self,
        operation: str,
        key: str,
        body: Body,
        sha256: str,
        progress: Progress | None,
        *,
        conditional: bool = False,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Make a request with a body and its integrity header; `conditional`: it is a create-only write."""
        sent = BodyProgress(progress)

        def attempt(checksum: Checksum) -> dict[str, Any]:
            integrity = (
                {"ChecksumSHA256": sha256_base64(sha256)}
                if checksum == "sha256"
                else {"ContentMD5": md5_base64(bytes(body))}
            )
            known = integrity | parameters
            if operation == "PutObject" and isinstance(body, bytes):
                answer = self._put_fast(key, body, sha256, conditional, known)
                if answer is not None:
                    return answer
            self._sending.sent_bytes = sent
            # With Content-MD5 the SDK reads a body twice.
            streamed = checksum == "sha256" and not isinstance(body, bytes)
            whole = self._metered(body, sent) if streamed else bytes(body)
            began = time.monotonic()
            try:
                answer = self.call(operation, key, conditional=conditional, Body=whole, **known)
            finally:
                self._sending.sent_bytes = None
            self.fast.note_pace(len(body), time.monotonic() - began)
            self._learn(key)
            return answer

        answer, checksum = self.with_either_checksum(attempt)
        sent.reach(len(body))
        if checksum == "sha256" and self.capabilities.echoes_checksum is None and answer.get("ETag"):
            self.remember(echoes_checksum="ChecksumSHA256" in answer)
        return answer

    def _put_fast(
        self, key: str, body: bytes, sha256: str, conditional: bool, parameters: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Write an object without the SDK; None: the SDK must write it."""
        try:
            return self.noted(self.fast.put(key, body, sha256, parameters))
        except Exception as error:
            raise self._refusal(error, "PutObject", key, conditional=conditional) from None

    def noted(self, answer: dict[str, Any] | None) -> dict[str, Any] | None:
        """Note what an answer of `fast` shows of credentials and clock, and return it."""
        if answer is not None:
            self.credentials_accepted = True
            if self.clock_offset_seconds is None:
                self._note_time(answer)
        return answer

    def _learn(self, key: str) -> None:
        """Learn the bucket's address from the SDK's accepted request, for requests through libcurl."""
        url, authorization = getattr(self._sending, "signed", ("", ""))
        address, client = Address.of_request(url, authorization, key), self._client_made
        if address is None or client is None or client.credentials is None:
            return
        with self._lock:
            if address.region != self.region:
                self.region = address.region
                logger.warning(
                    "%s: the bucket is in the region %s: set S3_REGION.", self.destination, self.region
                )
        self.fast.learn(address, client.credentials)

    def with_either_checksum(
        self, attempt: Callable[[Checksum], dict[str, Any]]
    ) -> tuple[dict[str, Any], Checksum]:
        """Call `attempt`, again with `md5` if the store may have refused SHA-256. Return answer and checksum."""
        try:
            return self._with_either_checksum(attempt)
        except StoreError as error:
            raise (blame_name(error) if self.credentials_accepted else error) from error.__cause__

    def _with_either_checksum(
        self, attempt: Callable[[Checksum], dict[str, Any]]
    ) -> tuple[dict[str, Any], Checksum]:
        checksum = self.capabilities.checksum
        if checksum == "md5" or self._has_fixed_checksum:
            return attempt(checksum), checksum
        try:
            answer = attempt("sha256")
        except StoreError as refusal:
            works = self._sha256_works = self._sha256_works or isinstance(refusal, ObjectExists)
            if not (names_checksum(refusal) if works else refuses_checksum(refusal)):
                raise
            try:
                answer = attempt("md5")
            except StoreError as error:
                if not got_further(error, refusal):
                    raise refusal from refusal.__cause__
                if not works:
                    self.remember(checksum="md5")
                raise
            if not works:
                self.remember(checksum="md5")
            return answer, "md5"
        self._sha256_works = True
        return answer, "sha256"

    def call(
        self, operation: str, key: str | None, *, conditional: bool = False, **parameters: Any
    ) -> dict[str, Any]:
        """Make one request with the SDK; `conditional`: the request is a create-only write."""
        if key is not None:
            parameters["Key"] = key
        client: Client | None = None
        try:
            client = self.client()
            answer = self._call_sdk(client, operation, parameters)
        except Exception as error:
            refusal = self._refusal(error, operation, key, conditional=conditional)
            try:
                if client is None or not self._has_new_credentials(client, refusal):
                    raise refusal from self._without_secrets(error)
            finally:
                del refusal  # it and its traceback would keep the body until the next garbage collection
            answer = self._call_again(operation, key, conditional, parameters)
        self.credentials_accepted = True
        self._note_time(answer)
        return answer

    def _call_again(
        self, operation: str, key: str | None, conditional: bool, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make a request again, with a client for the new credentials."""
        if isinstance(body := parameters.get("Body"), MeteredBody):
            body.seek(0)  # the refusal may have come before the whole body was sent
        try:
            return self._call_sdk(self.client(), operation, parameters)
        except Exception as error:
            cause = self._without_secrets(error)
            raise self._refusal(error, operation, key, conditional=conditional) from cause

    def _call_sdk(self, client: Client, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        method = getattr(client.sdk, _METHODS[operation])
        return cast("dict[str, Any]", method(Bucket=self._settings.bucket, **parameters))

    def _has_new_credentials(self, client: Client, refusal: StoreError) -> bool:
        """Read the AWS chain again if the store refused its credentials; return whether `client` has old ones."""
        if self._settings.credentials != "aws" or refusal.failure.code not in CREDENTIAL_CODES:
            return False
        if client is self._client_made:
            try:
                credentials = MadeOnce(lambda: credentials_source(self._settings)).get()
                before = client.credentials
                if credentials is None or before is None or credentials() == before():
                    return False
            except Exception as error:
                logger.debug("The AWS credentials could not be read again: %s", type(error).__name__)
                return False
        with self._lock:
            if self._client_made is client:
                logger.info("%s: the AWS credentials have changed", self.destination)
                self._maker.drop()
                self._client_made = None
                self.fast.suspend()
        return True

    def _refusal(self, error: Exception, operation: str, key: str | None, *, conditional: bool) -> StoreError:
        """Return what `explained` returns, and remember what it shows about create-only writes."""
        explained = self.explained(error, operation, key, conditional=conditional)
        if isinstance(explained, ObjectExists):
            name = _conditional_capability(operation)
            if getattr(self.capabilities, name) is CreateOnly.UNKNOWN:
                self.remember(**{name: CreateOnly.HONOURED})
        return explained

    def _without_secrets(self, error: Exception) -> Exception | None:
        """Return the SDK's error, as the cause in a traceback; None if its text holds a secret."""
        return None if any(secret in str(error) for secret in self._secrets) else error

    def call_with_retry(self, operation: str, key: str | None, **parameters: Any) -> dict[str, Any]:
        """Make a request that may safely be made twice; again if the connection, perhaps a kept one, was closed."""
        try:
            return self.call(operation, key, **parameters)
        except StoreError as error:
            if error.failure.code != "ConnectionClosed":
                raise
        return self.call(operation, key, **parameters)

    def explained(
        self, error: Exception, operation: str, key: str | None, *, conditional: bool = False
    ) -> StoreError:
        """Return the `StoreError` for an exception of a request, and note the time in its answer."""
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            self._note_time(response)
        explained = translate(
            error,
            operation,
            key,
            secrets=self._secrets,
            conditional=conditional,
            proxy=proxy_of(self._settings.endpoint_url),
            aws_chain=self._settings.credentials == "aws",
        )
        if explained.failure.code in _PLACEMENT_CODES and operation in _PLACING:
            explained = self._blame_placement(explained)
        return explained

    def refused_entry(self, operation: str, key: str, entry: Mapping[str, Any]) -> StoreError:
        """Return the error for a key from its `entry` in the answer to a request for many keys."""
        code = str(entry.get("Code", "Unknown"))
        store_message = redact_and_shorten(str(entry.get("Message", "")), self._secrets)
        return StoreError(operation, key, explain(code, 400, store_message), store_message=store_message)

    def _blame_placement(self, error: StoreError) -> StoreError:
        """Return the error with a cure that names the set settings that the store may not support."""
        settings = self._settings
        named = {
            "S3_STORAGE_CLASS": settings.storage_class,
            "S3_SERVER_SIDE_ENCRYPTION": settings.server_side_encryption,
            "S3_SSE_KMS_KEY_ID": settings.sse_kms_key_id,
        }
        suspects = " and ".join(f"{name}={value}" for name, value in named.items() if value)
        if not suspects:
            return error
        cure = f"Correct or unset {suspects}, if the store does not support that."
        return error.with_failure(replace(error.failure, cure=cure, scope=FailureScope.STORE))

    def _note_time(self, answer: Mapping[str, Any]) -> None:
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        self.clock_offset_seconds = nearer_offset(
            self.clock_offset_seconds, clock_offset_seconds(date, time.time())
        )

    @property
    def sdk_is_loaded(self) -> bool:
        """Whether the SDK's client is made, so that a request need not wait for it."""
        return self._client_made is not None

    def client(self) -> Client:
        """Return the client. The first call makes it, which takes a quarter of a second."""
        client = self._client_made
        if client is None:
            client = self._client_made = self._maker.get()
        return client

    def _meter(self, request: Any, **_: object) -> None:
        """Meter a request's body, and keep its URL and signature for `_learn`."""
        sent = getattr(self._sending, "sent_bytes", None)
        authorization = request.headers.get("Authorization", "")
        text = authorization.decode() if isinstance(authorization, bytes) else str(authorization)
        self._sending.signed = (request.url, text)
        if sent is not None and isinstance(request.body, bytes):
            request.body = self._metered(request.body, sent)

    def _metered(self, body: Body, sent: BodyProgress) -> bytes | MeteredBody:
        piece_bytes = PIECE_BYTES if self._throttle is None else self._throttle.piece_bytes
        if len(body) > piece_bytes or not isinstance(body, bytes):
            return MeteredBody(body, sent, piece_bytes, self._throttle)
        if self._throttle is not None:
            self._throttle.take(len(body))
        return body

    def close(self) -> None:
        client = self._maker.drop()
        with self._lock:
            client, self._client_made = self._client_made or client, None
        if client is not None:
            client.sdk.close()
        self.fast.close()


_PLACING = ("PutObject", "CreateMultipartUpload")
_PLACEMENT_CODES = ("InvalidArgument", "InvalidRequest", "InvalidEncryptionAlgorithmError")
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


def _conditional_capability(operation: str) -> str:
    return "create_only_multipart" if operation == "CompleteMultipartUpload" else "create_only"
