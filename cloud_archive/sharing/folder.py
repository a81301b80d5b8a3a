"""The folder of one share in the bucket: put files there, proven like every upload, and delete them with `unshare`."""

from __future__ import annotations

import contextlib
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ..errors import CloudArchiveError, StoreError
from ..files import stat_version
from ..keys import PrefixTemplate, object_key
from ..ledger.rows import Claim
from ..store.base import ObjectInfo, ObjectStore
from ..store.failures import is_denied
from ..upload.uploader import Uploader

_SHARES = "v1/shares"
_ID_BYTES = 16
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")
_IN_KEY = re.compile(rf"\.cloud-archive/{_SHARES}/([A-Za-z0-9_-]{{16,64}})(?:/|\Z)")
_NO_DELETE = "This access key may not delete objects (s3:DeleteObject). Delete {key} with another access key."


def shares_folder(prefix: str) -> str:
    """Return the folder of all shares in the bucket, ending in `/`.

    >>> shares_folder("outputs/{Y}")
    'outputs/.cloud-archive/v1/shares/'
    """
    return f"{PrefixTemplate.parse(prefix).reserved_folder}{_SHARES}/"


def share_id_of(name: str) -> str | None:
    """Return the id of a share from a link, a key or the id itself; None: it is none of these."""
    if _ID.fullmatch(name):
        return name
    path = unquote(name.partition("?")[0]) if "://" in name else name
    found = _IN_KEY.search(path)
    return found[1] if found else None


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Make a directory for files that are about to be put into a share, and delete it afterwards.

    Raises:
        CloudArchiveError: the block raised OSError, or the directory can't be made.
    """
    place = "the directory for temporary files"
    try:
        place = tempfile.gettempdir()
        with tempfile.TemporaryDirectory(prefix="cloud-archive-share-") as made:
            yield Path(made)
    except OSError as error:
        raise CloudArchiveError(
            f"No file could be written in {place} (TMPDIR): {error.strerror or error}."
        ) from error


class ShareFolder:
    """A new share, whose id nobody can guess. Nothing is written before the first file.

    Args:
        prefix: the archive's S3_PREFIX.

    Attributes:
        used: whether an upload to it has begun.
    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        # In hex, because the command would take an id that begins with `-` for an option.
        self.id = secrets.token_hex(_ID_BYTES)
        self.used = False
        self._folder = f"{shares_folder(prefix)}{self.id}"

    def put(self, directory: Path, name: str) -> str:
        """Upload the file `name` of a directory, and return its key; a taken name gets a number.

        Raises:
            StoreError, KeyRejected, FileProblem: it is not in the bucket, or not proven.
        """
        uploader = Uploader(
            self._store, directory, make_key=lambda path: object_key(self._folder, path), session_id="share"
        )
        version = stat_version(directory, name)
        self.used = True
        claim = Claim(row=0, name="share", version=version, token=secrets.token_hex(16), attempts=1)
        journal = _ShareJournal()
        try:
            return uploader.upload(claim, journal, lambda sent: None).key
        except BaseException:
            if journal.unfinished is not None:
                uploader.abort(*journal.unfinished)
            raise


class _ShareJournal:
    """A `Journal` that is kept in memory only: the upload is not resumed in another process."""

    def __init__(self) -> None:
        self._key = ""
        self.unfinished: tuple[str, str] | None = None  # key and id of a multipart upload

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None:
        self._key = key

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None:
        self.unfinished = None if upload_id is None else (self._key, upload_id)

    def abandon(self, key: str, upload_id: str) -> None:
        self.unfinished = (key, upload_id)


@dataclass(frozen=True, slots=True)
class UnshareResult:
    """One object of a share; `cause`: why it could not be deleted, empty if it was."""

    key: str
    cause: str = ""


def unshare(store: ObjectStore, prefix: str, share_id: str) -> list[UnshareResult]:
    """Delete every object of one share, and nothing else. Return what became of each.

    Raises:
        CloudArchiveError: the id is not valid.
        StoreError: the share can't be listed.
    """
    if not _ID.fullmatch(share_id):
        raise CloudArchiveError("This is not the id of a share.")
    folder = f"{shares_folder(prefix)}{share_id}/"
    keys = [info.key for info in store.list(folder)]
    return [UnshareResult(key, _cause(key, error)) for key, error in store.delete(keys)] if keys else []


def _cause(key: str, error: StoreError | None) -> str:
    if error is None:
        return ""
    return _NO_DELETE.format(key=key) if is_denied(error) else f"{key}: {error}"


def shared_objects(store: ObjectStore, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
    """Yield every object of every share, each with the id of its share."""
    for info in store.list(shares_folder(prefix)):
        if (share_id := share_id_of(info.key)) is not None:
            yield share_id, info
