"""Delete objects, many in one request if the store accepts that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import StoreError
from .answers import check_done
from .failures import concerns_every_request, is_missing
from .requests import RequestExecutor

DELETE_AT_ONCE = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html


def delete_objects(requests: RequestExecutor, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
    """See `ObjectStore.delete`."""
    for first in range(0, len(keys), DELETE_AT_ONCE):
        yield from _delete_batch(requests, keys[first : first + DELETE_AT_ONCE])


def _delete_batch(requests: RequestExecutor, keys: Sequence[str]) -> Iterator[tuple[str, StoreError | None]]:
    """Delete at most `DELETE_AT_ONCE` objects.

    A store that does not know DeleteObjects (Google) may answer as if the credentials were wrong. So after any lasting
    refusal each key gets its own request, until one of these gets no answer or fails with a cause that concerns every
    request.
    """
    # A control character would make the whole XML document invalid.
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
                # A key that we did not send may stand for any of ours that has no error.
                single = [key for key in keys if key not in errors]
                plain = [key for key in plain if key in errors]
            for key in plain:
                entry = errors.get(key)
                if entry is None or entry.get("Code") == "NoSuchKey":
                    yield key, None
                else:
                    yield key, requests.refused_entry("DeleteObjects", key, entry)
    else:
        single = list(keys)
    for index, key in enumerate(single):
        try:
            _call(requests, "DeleteObject", key)
        except StoreError as error:
            if error.status is None or concerns_every_request(error):
                yield from ((left, error) for left in single[index:])
                return
            yield key, None if is_missing(error) else error
        else:
            yield key, None


def _call(requests: RequestExecutor, operation: str, key: str | None, **parameters: Any) -> dict[str, Any]:
    answer = requests.call(operation, key, **parameters)
    check_done(operation, key, answer)
    return answer
