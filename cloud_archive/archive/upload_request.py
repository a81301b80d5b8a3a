"""`POST /cloud-sync/upload`: find the file that a request names, and word the answer."""

from __future__ import annotations

import errno
import stat as stat_module
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ..beneath import stat_file
from ..errors import (
    FileChanged,
    FileUnreadable,
    FileVanished,
    KeyBeingPruned,
    KeyRejected,
    RequestRefused,
    StoreError,
)
from ..files import real_path, to_relative
from .status import row_to_json
from .submission import Submission

# With the last two, no file can have this name.
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)


class UploadAnswer(NamedTuple):
    """The answer to `POST /cloud-sync/upload`.

    `file` is the ledger's row as JSON; once archived, with `already_archived`: whether it was so before the request.
    """

    http_status: int
    message: str
    file: dict[str, Any] | None = None


def contained_path(root: Path, file_path: str) -> str:
    """Return the path, relative to `root`, of a regular file below it, without symlinks and as its folder lists it.

    Raises:
        RequestRefused: 400 if it names no regular file or an empty one, 403 if it is outside `root` or can't be read
            now, 404 if there is none.
    """
    try:
        root = Path(real_path(root))
        if names_another_server(root, file_path):
            raise ValueError
        target = Path(real_path(root / file_path))
        path = to_relative(root, target)
    except ValueError:
        raise RequestRefused(403, "This file is outside the watched directory.") from None
    except OSError:
        raise RequestRefused(400, "This is not a file's path.") from None
    try:
        found = root.stat() if target == root else stat_file(root, path)
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise RequestRefused(404, f"File not found: {file_path}") from None
        raise RequestRefused(403, f"{file_path} can't be read: {error.strerror or error}.") from None
    if not stat_module.S_ISREG(found.st_mode):
        kind = "a directory" if stat_module.S_ISDIR(found.st_mode) else "not a regular file"
        raise RequestRefused(400, f"{file_path} is {kind}; name one file.")
    if found.st_size == 0:
        raise RequestRefused(400, f"{file_path} is empty: there is nothing to archive.")
    return path


def names_another_server(root: PurePath, file_path: str) -> bool:
    r"""Return whether `file_path` is a UNC or device path (`\\…`), but not of the share of `root`, which is resolved.

    Windows sends the user's credentials to a server whose path is only looked up, so such a path must not be resolved.
    """
    drive = type(root)(file_path).drive
    return drive.startswith("\\\\") and drive.casefold() != root.drive.casefold()


def upload_answer(path: str, found: Submission) -> UploadAnswer:
    """Return the answer for a file that was submitted."""
    row = None if found.row is None else row_to_json(found.row)
    if found.archived:
        assert row is not None
        what = "Already archived" if found.already else f"Archived {path}"
        return UploadAnswer(200, f"{what} as {row['s3_key']}.", row | {"already_archived": found.already})
    error = found.error
    if error is None and row is None:
        return UploadAnswer(
            202,
            f"{path} is not queued yet, because a program still writes to it. Try again when it is complete.",
        )
    if error is None or isinstance(error, (FileChanged, KeyBeingPruned)):
        return UploadAnswer(202, f"{path} is queued.", row)
    if isinstance(error, StoreError):
        return UploadAnswer(502, f"{path} was not archived. {error}", row)
    if isinstance(error, FileVanished):
        return UploadAnswer(404, f"File not found: {path}", row)
    status = 400 if isinstance(error, KeyRejected) else 500
    if isinstance(error, FileUnreadable):
        status = 403
    return UploadAnswer(status, f"{path} was not archived: {error}", row)
