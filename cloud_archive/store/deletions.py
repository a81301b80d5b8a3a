"""Delete objects: many in one request if the store accepts that, else one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import StoreError
from .answers import is_web_page, not_s3_error
from .failures import concerns_every_request
from .requests import RequestExecutor

DELETE_AT_ONCE = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html


def delete_objects(requests: RequestExecutor, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
    """Delete objects; yield each key with None, or with why it was not deleted."""
    for first in range(0, len(keys), DELETE_AT_ONCE):
        yield from _delete_batch(requests, keys[first : first + DELETE_AT_ONCE])


def _delete_batch(requests: RequestExecutor, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
    """Delete at most `DELETE_AT_ONCE` objects: in one request if the store accepts that (Google does not).

    A store that does not know DeleteObjects may refuse it with the code of wrong credentials. So each key then gets a
    request of its own, until one of these is refused with a cause that concerns every request.
    """
    # XML can't hold control characters: one of them would make the whole document invalid.
    plain = [key for key in keys if all(character >= " " for character in key)]
    single = [key for key in keys if any(character < " " for character in key)]
    if len(plain) > 1:
        objects = [{"Key": key} for key in plain]
        try:
            answer = _call(requests, "DeleteObjects", None, Delete={"Objects": objects, "Quiet": True})
        except StoreError as error:
            if error.status is None or error.failure.transient:
                yield from ((key, error) for key in keys)
                return
            single = list(keys)
        else:
            errors = {entry.get("Key"): entry for entry in answer.get("Errors", [])}
            if not errors.keys() <= set(plain):
                # An error names no key of ours, so any key without an error may be the one that was not deleted.
                single = [key for key in keys if key not in errors]
                plain = [key for key in plain if key in errors]
            for key in plain:
                entry = errors.get(key)
                yield key, None if entry is None else requests.refused_entry("DeleteObjects", key, entry)
    else:
        single = list(keys)
    for index, key in enumerate(single):
        try:
            _call(requests, "DeleteObject", key)
        except StoreError as error:
            if concerns_every_request(error):
                yield from ((left, error) for left in single[index:])
                return
            yield key, None if error.status == 404 else error
        else:
            yield key, None


def _call(requests: RequestExecutor, operation: str, key: str | None, **parameters: Any) -> dict[str, Any]:
    """Make a request and return its answer.

    Raises:
        StoreError: the store refuses, or a web page came, such as that of a login in front of the store.
    """
    answer = requests.call(operation, key, **parameters)
    sent = answer.get("ResponseMetadata", {})
    # Some servers call their empty answers HTML as well.
    is_empty = sent.get("HTTPStatusCode") == 204 or sent.get("HTTPHeaders", {}).get("content-length") == "0"
    if not is_empty and is_web_page(answer):
        raise not_s3_error(operation, key)
    return answer
