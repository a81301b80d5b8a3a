"""Send requests through obstore (Rust), at a fifth of the SDK's cost.

Only a plain success, a key that is taken and a missing object are distinguished. Everything else is `Unexpected`: the
SDK then sends the same request, because its errors name the cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .address import Address
from .answers import may_be_web_page
from .credentials import Credentials
from .guarded_requests import AnswerTooLarge, GuardedRequests

if TYPE_CHECKING:
    from obstore.store import S3Store as ObstoreS3

    from .base import WholeBody

logger = logging.getLogger("cloud_archive.store")

T = TypeVar("T")

# obstore's names for headers of an answer; all other attributes are the object's metadata.
_HEADERS = frozenset(
    (
        "Cache-Control",
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        "Content-Type",
        "Storage-Class",
    )
)
PAGE_OBJECTS = 1000  # as many as S3 sends in a page of a listing
LIST_SECONDS = 60.0  # for one page; empty pages may come before it
_STATUS = re.compile(r"Server returned non-2xx status code: ([0-9]{3}) ")


class Unexpected(Exception):
    """Any other error or answer. obstore's text may hold secrets, so it is never shown."""


class Missing(Exception):
    """There is no such object."""


class Endless(Unexpected):
    """See `AnswerTooLarge`."""


class KeyTaken(Exception):
    """A create-only write was refused with 412, in the shape of botocore's `ClientError`."""

    response: Mapping[str, Any] = {
        "Error": {"Code": "PreconditionFailed", "Message": ""},
        "ResponseMetadata": {"HTTPStatusCode": 412, "HTTPHeaders": {}},
    }


class ObstoreClient:
    """Send requests to one bucket; each may raise `Unexpected`. Thread-safe.

    Args:
        encryption: the value of `x-amz-server-side-encryption`.
        client_options: see obstore's `ClientConfig`.
        seconds: the time limit of a request.

    Raises:
        ImportError: obstore is not installed.
        Exception: obstore refuses these options.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        *,
        encryption: str | None,
        client_options: Mapping[str, Any],
        seconds: float,
        requests: GuardedRequests,
    ) -> None:
        import obstore
        from obstore.store import S3Store

        self.address = address
        self.credentials = credentials
        self._obstore: Any = obstore
        self._requests = requests
        config: Any = {
            # This endpoint includes the bucket, in its host name or as a folder of its path.
            "endpoint": address.url,
            "virtual_hosted_style_request": True,
            "region": address.region,
            "access_key_id": credentials.access_key_id,
            "secret_access_key": credentials.secret_access_key,
            "checksum_algorithm": "SHA256",
        }
        if credentials.session_token is not None:
            config["session_token"] = credentials.session_token
        if encryption is not None:
            config["server_side_encryption"] = encryption
        options: Any = {
            "allow_http": address.scheme == "http",
            "connect_timeout": timedelta(seconds=seconds),
            "timeout": timedelta(seconds=seconds),
            **client_options,
        }
        self._store: ObstoreS3 = S3Store(
            "bucket", config=config, client_options=options, retry_config={"max_retries": 0}
        )

    def put(
        self,
        key: str,
        body: WholeBody,
        *,
        attributes: Mapping[str, str],
        create_only: bool,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> str:
        """Write an object and return its ETag.

        Args:
            attributes: `Content-Type`, `Storage-Class`, and metadata under its own names.
            meanwhile: called in this thread while the request is under way.

        Raises:
            KeyTaken: the store answers 412.
            Missing: the store answers 404, as if there is no such bucket.
            Unexpected: the object may have been written.
        """
        mode = "create" if create_only else "overwrite"
        answer = self._ask(
            lambda: self._obstore.put_async(
                self._store, key, body, attributes=dict(attributes), mode=mode, use_multipart=False
            ),
            is_single=True,
            is_write=True,
            meanwhile=meanwhile,
        )
        return _etag_of(answer)

    def head(self, key: str) -> dict[str, Any]:
        """Return what an object's HEAD says, as boto3 would, but without a checksum.

        Raises:
            Missing: there is no such object, or no such bucket.
        """
        found = self._ask(
            lambda: self._obstore.get_async(self._store, key, options={"head": True}), is_single=True
        )
        return _as_boto3(found)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return an object's bytes; None: they are more than the limit, or may be a web page.

        Raises:
            Missing: the store says that there is no such key.
        """

        async def read() -> bytes | None:
            found = await self._obstore.get_async(self._store, key)
            if may_be_web_page(_as_boto3(found)):
                return None
            return bytes(await found.bytes_async()) if found.meta["size"] <= limit_bytes else None

        return self._ask(read, needs_code=True)

    def list(self, folder: str) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the objects in a folder, `PAGE_OBJECTS` at a time, as obstore describes them.

        Args:
            folder: ends with a slash.

        Raises:
            Unexpected: also if a page does not come in time.
        """
        stream = self._obstore.list(self._store, folder, chunk_size=PAGE_OBJECTS)

        async def following() -> Sequence[Mapping[str, Any]] | None:
            return await asyncio.wait_for(anext(stream, None), LIST_SECONDS)

        pages = 0
        try:
            while (page := self._ask(following)) is not None:
                pages += 1
                yield page
            if not pages:
                self._expect_s3(f"{folder}.none")
        except Missing:
            raise Unexpected from None

    def _expect_s3(self, key: str) -> None:
        """Raise Unexpected unless the store says that there is no object `key`.

        obstore takes any XML document without objects for an empty listing.
        """
        with contextlib.suppress(Missing):
            self.read(key, 0)
            raise Unexpected

    def _ask(
        self,
        request: Callable[[], Awaitable[T]],
        *,
        is_single: bool = False,
        is_write: bool = False,
        needs_code: bool = False,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> T:
        """Make a request.

        Args:
            is_single: it is one call of obstore, which needs no event loop.
            is_write: a 412 means `KeyTaken`; in an answer to another request it is `Unexpected`.
            meanwhile: see `put`.
            needs_code: a 404 only counts as `Missing` if the answer's code shows that the bucket exists.
        """
        try:
            run = self._requests.wait_for if is_single else self._requests.run
            return run(request, meanwhile=meanwhile)
        except AnswerTooLarge:
            raise Endless from None
        except FileNotFoundError as error:
            if needs_code and "<Code>NoSuchKey</Code>" not in str(error):
                raise Unexpected from None
            raise Missing from None
        except Unexpected:
            raise
        except Exception as error:
            found = _STATUS.search(str(error))
            status = found[1] if found else "none"
            # The class alone is not enough: a 409 (another write to this key is under way) has the same.
            if status == "412" and is_write:
                raise KeyTaken from None
            logger.debug("obstore: %s, status %s", type(error).__name__, status)
            raise Unexpected from None


def _as_boto3(found: Any) -> dict[str, Any]:
    """Return what an answer says about an object, as boto3 would, but without a checksum. Unexpected: no ETag."""
    return {
        "ContentLength": found.meta["size"],
        "ETag": _etag_of(found.meta),
        "LastModified": found.meta["last_modified"],
        "ContentType": found.attributes.get("Content-Type", ""),
        "Metadata": {name: value for name, value in found.attributes.items() if name not in _HEADERS},
    }


def _etag_of(answer: Mapping[str, Any]) -> str:
    """Return the ETag, which every answer of S3 about an object has. Unexpected: there is none."""
    etag = answer.get("e_tag")
    if not isinstance(etag, str) or not etag:
        raise Unexpected
    return etag
