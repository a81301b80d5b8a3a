"""Send HEAD requests, with the checksum header if the store knows it, and find the cause of a refusal."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

from ..errors import FailureScope, StoreError
from .answers import is_web_page, not_s3_error, object_info
from .base import ObjectInfo
from .curl_client import Missing
from .failures import HEAD_REFUSED, concerns_every_request, is_denied
from .integrity import blame_name
from .requests import RequestExecutor

_CAUSE = "The store refuses HEAD requests for this key but answers for others."
_CURE = "Rename the file: the store may not accept a character in its name."


class HeadRequests:
    """Send HEAD requests; `list_objects` is `ObjectStore.list`."""

    def __init__(self, requests: RequestExecutor, list_objects: Callable[..., Iterator[ObjectInfo]]) -> None:
        self._requests = requests
        self._list = list_objects
        self._with_checksum = True
        self._missing_key: str | None = None  # answered with 404, so the credentials could send HEADs
        self._get_denied = False  # once true, the cause of a denied HEAD is not asked for

    def head(self, key: str) -> ObjectInfo | None:
        known = self._requests.capabilities
        with_checksum = (
            self._with_checksum and known.checksum == "sha256" and known.echoes_checksum is not False
        )
        try:
            answer = self._ask(key, checksum=with_checksum, fast=not self._requests.sdk_is_loaded)
        except StoreError as error:
            # An object encrypted with KMS shows its checksum only to those who may decrypt it, and some stores do not
            # know the header: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
            if error.status not in (400, 401, 403) and not (with_checksum and error.status == 501):
                raise
            try:
                answer = self._head_again(key, error, with_checksum=with_checksum)
            except StoreError as refused:
                self._raise_about_this_key(refused)
        if answer is not None and (
            not answer.get("ETag") or "ContentLength" not in answer or is_web_page(answer)
        ):
            raise not_s3_error("HeadObject", key)
        self._requests.remember(can_head=True)
        if answer is None:
            self._missing_key = key
            return None
        return object_info(key, answer, believe_checksum=self._requests.capabilities.echoes_checksum is True)

    def _head_again(self, key: str, refusal: StoreError, *, with_checksum: bool) -> dict[str, Any] | None:
        """Send a HEAD without the checksum header, and if that is refused too, find out why.

        A refused HEAD has no body that could name the cause, but a refused GET or listing has.
        """
        try:
            if with_checksum and refusal.status != 401:
                try:
                    answer = self._ask(key, checksum=False)
                except StoreError as error:
                    refusal = error
                else:
                    self._with_checksum = False
                    return answer
            is_denied_for_good = self._get_denied and refusal.status != 400
            if not refusal.failure.code.isdecimal() or is_denied_for_good:
                raise refusal
            try:
                if refusal.status == 400:
                    next(self._list(key, limit=1), None)
                else:
                    self._requests.call("GetObject", key)["Body"].close()
            except StoreError as named:
                if self._concerns_other_keys(named):
                    raise StoreError(
                        "HeadObject",
                        key,
                        named.failure,
                        status=named.status,
                        store_message=named.store_message,
                    ) from named
                if named.failure.code == "AccessDenied":
                    self._requests.credentials_accepted = True
                    if named.operation == "GetObject":
                        self._get_denied = True
                raise refusal from named
            if refusal.status != 400:
                raise refusal
            return self._ask(key, checksum=False)  # the SDK has learned the region from the listing's answer
        finally:
            del refusal  # as in `RequestExecutor.call`

    def _concerns_other_keys(self, named: StoreError) -> bool:
        if self._requests.credentials_accepted:
            named = blame_name(named)
        return concerns_every_request(named) or named.failure.transient

    def _raise_about_this_key(self, refused: StoreError) -> NoReturn:
        """Raise the refusal under way, with a code of its own if HEADs were allowed before.

        If the store says that a key beside an earlier one is missing, the refusal concerns only this key. The earlier
        one may exist by now, and an object is shown also without the right to list. A 401 is about the credentials,
        never about the key.
        """
        if self._missing_key is None or not is_denied(refused) or refused.status == 401:
            raise
        failure = replace(refused.failure, code=HEAD_REFUSED)
        try:
            folder = self._missing_key[: self._missing_key.rfind("/") + 1]
            missing = self._ask(folder + secrets.token_hex(8), checksum=False) is None
        except StoreError as other:
            if not is_denied(other):
                raise
        else:
            if missing:
                failure = replace(failure, cause=_CAUSE, cure=_CURE, scope=FailureScope.FILE)
        raise refused.with_failure(failure) from refused

    def _ask(self, key: str, *, checksum: bool, fast: bool = False) -> dict[str, Any] | None:
        mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if checksum else {}
        try:
            answer = self._requests.noted(self._requests.fast.head(key, mode)) if fast else None
        except Missing:
            return None
        if answer is not None:
            return answer
        try:
            return self._requests.call("HeadObject", key, **mode)
        except StoreError as error:
            if error.status == 404:
                return None
            raise
