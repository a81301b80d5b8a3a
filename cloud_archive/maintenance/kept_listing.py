"""Keep a listing of any length, so that it is requested once and can be read several times."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from ..errors import CloudArchiveError
from ..store.base import ObjectInfo

MEMORY_BYTES = 16 * 1024 * 1024  # about 100,000 objects; a longer listing goes into a temporary file


@contextlib.contextmanager
def kept_listing(
    objects: Iterable[ObjectInfo], on_object: Callable[[ObjectInfo], None]
) -> Iterator[Callable[[], Iterator[ObjectInfo]]]:
    """Read a listing to its end; yield a function that returns its objects again, for one reader at a time.

    Args:
        objects: from a listing, so without metadata.
        on_object: called with each object while the listing is read.

    Raises:
        CloudArchiveError: the temporary file can't be written.
    """
    with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as file:
        for info in objects:
            on_object(info)
            written = info.last_modified.isoformat() if info.last_modified is not None else None
            line = json.dumps([info.key, info.size_bytes, info.etag, written])
            try:
                file.write(line.encode() + b"\n")
            except OSError as error:
                raise CloudArchiveError(
                    f"The listing can't be kept in {tempfile.gettempdir()}: {error.strerror}. Free some space there,"
                    " or set TMPDIR to another directory."
                ) from error

        def read() -> Iterator[ObjectInfo]:
            file.seek(0)
            while line := file.readline():
                key, size_bytes, etag, written = json.loads(line)
                moment = datetime.fromisoformat(written) if written is not None else None
                yield ObjectInfo(key, size_bytes, etag, None, None, {}, moment)

        yield read
