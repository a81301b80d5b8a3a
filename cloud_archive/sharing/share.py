"""Share archived files: presigned links to the files or to copies without metadata, and albums."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CloudArchiveError, RequestRefused, StoreError, StripRefused
from ..executor import unawaited_threads
from ..store.base import ObjectStore
from ..store.failures import concerns_every_request, is_denied, is_missing
from ..store.links import MAX_LINK_SECONDS, AnswerHeaders, PresignedLink
from ..text import clean_text, end_sentence
from .album import AlbumItem, ReadPicture, album_page
from .copies import put_stripped_copy
from .folder import ShareFolder, scratch_directory, unshare
from .links import LONGEST, MAY_END_EARLY, NOT_READABLE, link_json, make_link

_REQUESTS_AT_ONCE = 8
_IN_COLD_STORAGE = "InvalidObjectState"  # a 403, too
_ALBUM_NAME = "album.html"


@dataclass(frozen=True, slots=True)
class ShareOrder:
    """How files are to be shared.

    Attributes:
        expires_seconds: how long the links last; the store allows 7 days at the most.
        strip_metadata: share copies without prompt, workflow and tags.
        album: the title of a page that shows the files; None: no page.
        with_prompts: the page shows prompts.
    """

    expires_seconds: float
    strip_metadata: bool = False
    album: str | None = None
    with_prompts: bool = False


@dataclass(frozen=True, slots=True)
class SharedFile:
    """One link; `key` is the object that it leads to."""

    asset: Mapping[str, Any]
    key: str
    link: PresignedLink

    def to_json(self) -> dict[str, Any]:
        named = {"id": self.asset["id"], "name": self.asset["name"], "key": self.key}
        return named | link_json(self.link)


def share(
    store: ObjectStore,
    prefix: str,
    assets: Sequence[Mapping[str, Any]],
    order: ShareOrder,
    *,
    picture: ReadPicture = lambda asset: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Return the answer of `POST /cloud-sync/share`: links, and which files can't be shared and why.

    Args:
        prefix: S3_PREFIX; copies and albums go to the reserved folder below it.
        picture: returns a small picture of an asset for an album; if it raises CloudArchiveError, there is none.
        cancelled: returns True once nobody waits for the answer; asked before each file and picture, and at the end.

    Raises:
        CloudArchiveError: no file can be shared (the first cause), the album can't be written, or `cancelled`. The
            copies made so far are deleted; if they can't be, the message says how to delete them.
    """
    sharing = _Sharing(store, prefix, order, cancelled)
    with unawaited_threads(_REQUESTS_AT_ONCE, "cloud-archive-share") as threads:
        try:
            for asset, problem in zip(assets, threads.map(sharing.check, assets), strict=True):
                sharing.end_if_cancelled()
                sharing.add(asset, problem)
            answer = sharing.answer(picture)
            sharing.end_if_cancelled()
            return answer
        except BaseException as error:
            if not sharing.discard() and isinstance(error, CloudArchiveError):
                raise RequestRefused(502, f"{end_sentence(str(error))} {sharing.left_over}") from error
            raise


class _Sharing:
    """Collect the results of one call of `share`."""

    def __init__(
        self, store: ObjectStore, prefix: str, order: ShareOrder, cancelled: Callable[[], bool]
    ) -> None:
        self._store = store
        self._cancelled = cancelled
        self._prefix = prefix
        self._folder = ShareFolder(store, prefix)
        self._order = order
        self._may_not_read = False
        self._shared: list[SharedFile] = []
        self._errors: list[tuple[Mapping[str, Any], CloudArchiveError]] = []

    def check(self, asset: Mapping[str, Any]) -> CloudArchiveError | None:
        """Return why a link to this asset would not work; None if it works, or if the credentials may not check."""
        try:
            # As the link does: HEAD also finds an object in Glacier, which can't be read.
            b"".join(self._store.read(asset["key"], 1, byte_range=range(1) if asset["size"] else None))
        except StoreError as error:
            if not is_denied(error) or error.failure.code == _IN_COLD_STORAGE:
                return error
            self._may_not_read = True
        return None

    def add(self, asset: Mapping[str, Any], problem: CloudArchiveError | None) -> None:
        """Make the link to one file, or note why that is not possible."""
        if problem is None:
            try:
                self._shared.append(self._share(asset))
                return
            except CloudArchiveError as error:
                problem = error
        self._errors.append((asset, problem))

    def _share(self, asset: Mapping[str, Any]) -> SharedFile:
        key, mime_type = asset["key"], asset["mime_type"]
        if self._order.strip_metadata:
            key, mime_type = put_stripped_copy(self._store, self._folder, asset)
        link = make_link(self._store, key, asset["name"], mime_type, self._order.expires_seconds)
        return SharedFile(asset, key, link)

    def _album(self, title: str, picture: ReadPicture) -> dict[str, Any]:
        items = []
        for shared in self._shared:
            self.end_if_cancelled()  # a picture may have to be made
            small = None
            with contextlib.suppress(CloudArchiveError):  # then the album shows the name alone
                small = picture(shared.asset)
            items.append(AlbumItem(shared.asset, shared.link.url, small))
        until = min(shared.link.expires_at for shared in self._shared)
        page = album_page(title, items, until=until, with_prompts=self._order.with_prompts)
        with scratch_directory() as directory:
            (directory / _ALBUM_NAME).write_text(page, "utf-8", newline="\n")
            key = self._folder.put(directory, _ALBUM_NAME)
        answer = AnswerHeaders("text/html; charset=utf-8", "inline")
        link = self._store.presign(key, self._order.expires_seconds, answer)
        return {"title": title, "key": key} | link_json(link)

    def answer(self, picture: ReadPicture) -> dict[str, Any]:
        """Return the answer of `share`. Raises the first error if nothing was shared."""
        if not self._shared:
            raise self._first_error()
        title = self._order.album
        album = None if title is None else self._album(clean_text(title), picture)
        return {
            "share": self._folder.id if album is not None or self._order.strip_metadata else None,
            "album": album,
            "links": [shared.to_json() for shared in self._shared],
            "errors": [
                {"id": asset["id"], "name": asset["name"], "message": str(error)}
                for asset, error in self._errors
            ],
            "warnings": self._warnings(),
        }

    def end_if_cancelled(self) -> None:
        """Raise CloudArchiveError if nobody waits for the answer."""
        if self._cancelled():
            raise CloudArchiveError("The share was ended, because nobody waits for its links any more.")

    def discard(self) -> bool:
        """Delete the copies and the album of a call that fails. Return False if some may be left."""
        if not self._folder.used:
            return True
        try:
            return not any(result.cause for result in unshare(self._store, self._prefix, self._folder.id))
        except StoreError:
            return False

    @property
    def left_over(self) -> str:
        """The sentence for a user after `discard` returned False."""
        return (
            "Copies may be left in the bucket, without any link to them:"
            f" `cloud-archive unshare {self._folder.id}` deletes them."
        )

    def _first_error(self) -> CloudArchiveError:
        if not self._errors:
            return RequestRefused(400, "There is nothing to share.")
        asset, error = self._errors[0]
        if isinstance(error, StoreError) and not concerns_every_request(error):
            return RequestRefused(404 if is_missing(error) else 502, f"{asset['key']}: {error}")
        return RequestRefused(422, str(error)) if isinstance(error, StripRefused) else error

    def _warnings(self) -> list[str]:
        warnings = []
        if self._order.expires_seconds > MAX_LINK_SECONDS:
            warnings.append(LONGEST)
        if any(shared.link.may_end_early for shared in self._shared):
            warnings.append(MAY_END_EARLY)
        if self._may_not_read:
            warnings.append(NOT_READABLE)
        return warnings
