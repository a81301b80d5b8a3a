"""Read an object's bytes; a small one without the SDK, if that is not loaded."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from ..errors import StoreError
from .answers import bare_etag, is_web_page, not_s3_error
from .curl_client import Missing
from .failures import explain
from .requests import RequestExecutor

READ_BYTES = 1024 * 1024
_REPLACED = replace(
    explain("PreconditionFailed"), cause="The object was replaced meanwhile.", cure="Run the command again."
)


def read_object(
    requests: RequestExecutor, key: str, limit_bytes: int, *, etag: str | None, byte_range: range | None
) -> Generator[bytes, None, None]:
    """See `ObjectStore.read`."""
    if etag is None and byte_range is None and not requests.sdk_is_loaded and limit_bytes <= READ_BYTES:
        small = _read_small(requests, key, limit_bytes)
        if small is not None:
            yield small
            return
    parameters: dict[str, Any] = {}
    if byte_range:  # an empty object has no range that a store would accept
        parameters["Range"] = f"bytes={byte_range.start}-{byte_range.stop - 1}"
    answer = requests.call("GetObject", key, **parameters)
    body = answer["Body"]
    left = limit_bytes + 1 if byte_range is None else len(byte_range)  # a store may ignore the range
    try:
        no_object = not answer.get("ETag") or is_web_page(answer)
        if no_object or (byte_range and byte_range.start and not answer.get("ContentRange")):
            raise not_s3_error("GetObject", key)
        if etag is not None and bare_etag(answer.get("ETag")) != etag:
            raise StoreError("GetObject", key, _REPLACED, status=412)
        while left and (piece := body.read(min(READ_BYTES, left))):
            left -= len(piece)
            yield piece
    except StoreError:
        raise
    except Exception as error:
        raise requests.explained(error, "GetObject", key) from error
    finally:
        body.close()


def _read_small(requests: RequestExecutor, key: str, limit_bytes: int) -> bytes | None:
    try:
        answer = requests.noted(requests.fast.read(key, limit_bytes))
    except Missing:
        raise StoreError("GetObject", key, explain("NoSuchKey"), status=404) from None
    if answer is not None and (not answer.get("ETag") or is_web_page(answer)):
        raise not_s3_error("GetObject", key)
    return None if answer is None else bytes(answer["Body"])
