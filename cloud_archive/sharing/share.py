"""Share archived files: presigned links, to the files themselves or to copies without metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..errors import CloudArchiveError, RequestRefused, StoreError
from ..store.base import ObjectStore
from ..store.failures import concerns_every_request, explain, is_denied
from ..store.links import MAX_LINK_SECONDS, PresignedLink
from .links import LONGEST, MAY_END_EARLY, NOT_READABLE, link_json, presigned

_REQUESTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ShareOrder:
    """How files are to be shared.

    Attributes:
        expires_seconds: how long the links last; 7 days at the most.
    """

    expires_seconds: float


@dataclass(frozen=True, slots=True)
class SharedFile:
    """One link; `key` is the object that it leads to."""

    asset: Mapping[str, Any]
    key: str
    link: PresignedLink

    def to_json(self) -> dict[str, Any]:
        """As the answer shows it."""
        named = {"id": self.asset["id"], "name": self.asset["name"], "key": self.key}
        return named | link_json(self.link)


def share(store: ObjectStore, assets: Sequence[Mapping[str, Any]], order: ShareOrder) -> dict[str, Any]:
    """Return the answer of `POST /cloud-sync/share`: links, and which files can't be shared and why.

    Raises:
        CloudArchiveError: no file can be shared; the first cause.
    """
    sharing = _Sharing(store, order)
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE, "cloud-archive-share") as threads:
        for asset, problem in zip(assets, threads.map(sharing.check, assets), strict=True):
            sharing.add(asset, problem)
    return sharing.answer()


class _Sharing:
    """One call of `share`."""

    def __init__(self, store: ObjectStore, order: ShareOrder) -> None:
        self._store = store
        self._order = order
        self._may_not_read = False
        self._shared: list[SharedFile] = []
        self._errors: list[tuple[Mapping[str, Any], CloudArchiveError]] = []

    def check(self, asset: Mapping[str, Any]) -> CloudArchiveError | None:
        """Return why a link to this asset would not work, as far as can be seen."""
        try:
            found = self._store.head(asset["key"])
        except StoreError as error:
            if not is_denied(error):
                return error
            self._may_not_read = True
            return None
        return None if found is not None else _missing(asset["key"])

    def add(self, asset: Mapping[str, Any], problem: CloudArchiveError | None) -> None:
        """Share one file, or note why it can't be."""
        if problem is None:
            try:
                self._shared.append(self._share(asset))
                return
            except CloudArchiveError as error:
                problem = error
        self._errors.append((asset, problem))

    def _share(self, asset: Mapping[str, Any]) -> SharedFile:
        seconds = self._order.expires_seconds
        link = presigned(self._store, asset["key"], asset["name"], asset["mime_type"], seconds)
        return SharedFile(asset, asset["key"], link)

    def answer(self) -> dict[str, Any]:
        """Return what was shared. Raises the first error where nothing was."""
        if not self._shared:
            raise self._first_error()
        return {
            "links": [shared.to_json() for shared in self._shared],
            "errors": [
                {"id": asset["id"], "name": asset["name"], "message": str(error)}
                for asset, error in self._errors
            ],
            "warnings": self._warnings(),
        }

    def _first_error(self) -> CloudArchiveError:
        if not self._errors:
            return RequestRefused(400, "There is nothing to share.")
        asset, error = self._errors[0]
        if isinstance(error, StoreError) and not concerns_every_request(error):
            return RequestRefused(404 if error.status == 404 else 502, f"{asset['key']}: {error}")
        return error

    def _warnings(self) -> list[str]:
        found = []
        if self._order.expires_seconds > MAX_LINK_SECONDS:
            found.append(LONGEST)
        if any(shared.link.may_end_early for shared in self._shared):
            found.append(MAY_END_EARLY)
        if self._may_not_read:
            found.append(NOT_READABLE)
        return found


def _missing(key: str) -> StoreError:
    return StoreError("HeadObject", key, explain("NoSuchKey", 404), status=404)
