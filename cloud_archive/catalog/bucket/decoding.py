"""Decode segments in a child process, so that a second core helps where there are many.

The child gets frames on its standard input, each 8 bytes of length and a segment, and answers each with a frame. It
ends with its input, so that it does not outlive a parent that is killed.
"""

from __future__ import annotations

import contextlib
import logging
import marshal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ..thumbnails.maker import child_environment
from .segment import Decoded, SegmentError, decode

logger = logging.getLogger("cloud_archive.catalog")

MAX_TEXT_BYTES = (
    8 * 1024 * 1024
)  # of the rows of one segment; what has more is decoded piece by piece elsewhere
_ROOT = Path(__file__).parents[3]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from cloud_archive.catalog.bucket.decoding import answer_all; answer_all()"
)
_ROWS, _REFUSED, _TOO_LARGE = "rows", "refused", "too large"
Rows = list[dict[str, Any]]


class SegmentDecoder:
    """One child for all threads. Where it can't be started, or ends, nothing is lost: its caller decodes by itself.

    Args:
        command: for tests.
    """

    def __init__(self, command: list[str] | None = None) -> None:
        self._command = command or [sys.executable, "-B", "-c", _PROGRAM, str(_ROOT)]
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_broken = False

    def decode(self, body: bytes) -> tuple[Rows, Decoded] | None:
        """Return the rows of a whole segment, and what else was found. None: decode it without the child.

        Raises:
            SegmentError: it can't be read.
        """
        with self._lock:
            if self._is_broken:
                return None
            try:
                data = self._ask(body)
            except (OSError, EOFError) as error:
                logger.warning("Segments are decoded without a process of their own: %s", error)
                self._is_broken = True
                self._end()
                return None
        kind, *found = marshal.loads(data)  # noqa: S302 - our own child's, which made it of JSON
        if kind == _REFUSED:
            raise SegmentError(found[0], newer=found[1])
        return None if kind == _TOO_LARGE else (found[0], Decoded(**found[1]))

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._is_broken = True
            self._end()

    def _ask(self, body: bytes) -> bytes:
        child = self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        _write_frame(child.stdin, body)
        answer = _read_frame(child.stdout)
        if answer is None:
            raise EOFError("it ended")
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=child_environment(),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            child.wait()


def answer_all() -> None:
    """Answer frames until standard input ends: what the child does."""
    wanted, answers = sys.stdin.buffer, sys.stdout.buffer
    while (body := _read_frame(wanted)) is not None:
        _write_frame(answers, marshal.dumps(_decoded(body)))


def _decoded(body: bytes) -> tuple[Any, ...]:
    found = Decoded()
    rows: Rows = []
    try:
        for row in decode([body], found, size_bytes=len(body)):
            rows.append(row)
            if found.text_bytes > MAX_TEXT_BYTES:
                return (_TOO_LARGE,)
    except SegmentError as error:
        return _REFUSED, str(error), error.newer
    return _ROWS, rows, asdict(found)


def _write_frame(file: IO[bytes], data: bytes) -> None:
    file.write(len(data).to_bytes(8, "big"))
    file.write(data)
    file.flush()


def _read_frame(file: IO[bytes]) -> bytes | None:
    """Return the next frame; None: the file ended."""
    length = file.read(8)
    if len(length) < 8:
        return None
    data = file.read(int.from_bytes(length, "big"))
    return data if len(data) == int.from_bytes(length, "big") else None
