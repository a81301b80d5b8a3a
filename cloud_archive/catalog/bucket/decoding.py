"""Decode segments in a child process, so that a second core helps where there are many.

The child gets frames on its standard input, each 8 bytes of length and a file. It answers each with frames of rows, and
a last one with what else was found, or why the file can't be read. It ends with its input, and so with its parent.
"""

from __future__ import annotations

import contextlib
import logging
import marshal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ..child_process import start_child
from .segment import Decoded, SegmentError, decode

logger = logging.getLogger("cloud_archive.catalog")

MAX_TEXT_BYTES = 8 * 1024 * 1024  # of rows of one file that are held in memory; a larger file is streamed
_FRAME_BYTES = 1024 * 1024  # of text in one frame
_ROOT = Path(__file__).parents[3]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from cloud_archive.catalog.bucket.decoding import answer_all; answer_all()"
)
_ROWS, _REFUSED, _END = "rows", "refused", "end"
Rows = list[dict[str, Any]]


class SegmentDecoder:
    """One child for all threads. If it can't be started, or ends, its callers decode in their own process."""

    def __init__(self, command: list[str] | None = None) -> None:
        self._command = command or [sys.executable, "-B", "-c", _PROGRAM, str(_ROOT)]
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_broken = False

    def decode(self, body: bytes) -> tuple[Rows, Decoded] | None:
        """Return a file's rows, and what else was found; None: decode it without the child. Raises SegmentError."""
        found = Decoded()
        rows: Rows = []
        try:
            with contextlib.closing(self._answers(body, found)) as pages:
                for page in pages:
                    if found.text_bytes <= MAX_TEXT_BYTES:
                        rows += page
        except (OSError, EOFError):
            return None
        return (rows, found) if found.text_bytes <= MAX_TEXT_BYTES else None

    def stream(self, body: bytes, found: Decoded) -> Generator[dict[str, Any], None, None]:
        """Yield the rows of a file, and fill in `found`, as `segment.decode` does; some rows may come twice."""
        try:
            with contextlib.closing(self._answers(body, found)) as pages:
                for page in pages:
                    yield from page
        except (OSError, EOFError):
            found.rows = found.text_bytes = 0
            yield from decode([body], found, size_bytes=len(body))

    def _answers(self, body: bytes, found: Decoded) -> Generator[Rows, None, None]:
        """Yield pages of rows. OSError, EOFError: there is no child, or it ended."""
        with self._lock:
            if self._is_broken:
                raise EOFError("there is no child")
            ended = False
            try:
                child = self._started()
                assert child.stdin is not None
                assert child.stdout is not None
                _write_frame(child.stdin, body)
                while not ended:
                    kind, *answer = _read_answer(child.stdout)
                    if kind == _ROWS:
                        found.text_bytes = answer[1]
                        yield answer[0]
                        continue
                    ended = True
                    if kind == _REFUSED:
                        raise SegmentError(answer[0], newer=answer[1])
                    _fill_in(found, Decoded(**answer[0]))
            except (OSError, EOFError) as error:
                logger.info("Segments are decoded without a process of their own: %s", error)
                raise
            finally:
                if not ended:  # the rest of the answer is not wanted, or the child ended
                    self._is_broken = True
                    self._end()

    def close(self) -> None:
        with self._lock:
            self._is_broken = True
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = start_child(self._command)
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
    """Answer frames until standard input ends."""
    wanted, answers = sys.stdin.buffer, sys.stdout.buffer
    while (body := _read_frame(wanted)) is not None:
        for answer in _decoded(body):
            _write_frame(answers, marshal.dumps(answer))


def _decoded(body: bytes) -> Iterator[tuple[Any, ...]]:
    found = Decoded()
    rows: Rows = []
    sent = 0
    try:
        for row in decode([body], found, size_bytes=len(body)):
            rows.append(row)
            if found.text_bytes - sent > _FRAME_BYTES:
                yield _ROWS, rows, found.text_bytes
                rows, sent = [], found.text_bytes
    except SegmentError as error:
        yield _REFUSED, str(error), error.newer
        return
    yield _ROWS, rows, found.text_bytes
    yield _END, asdict(found)


def _fill_in(found: Decoded, other: Decoded) -> None:
    """Copy what the child found into `found`, and add the rows that it skipped to those counted there."""
    for reason, count in other.skipped.items():
        found.skipped[reason] = found.skipped.get(reason, 0) + count
    found.replaces, found.rows, found.text_bytes = other.replaces, other.rows, other.text_bytes


def _read_answer(file: IO[bytes]) -> Any:
    data = _read_frame(file)
    if data is None:
        raise EOFError("the child ended")
    return marshal.loads(data)  # noqa: S302 - our own child's, which made it of JSON


def _write_frame(file: IO[bytes], data: bytes) -> None:
    file.write(len(data).to_bytes(8, "big"))
    file.write(data)
    file.flush()


def _read_frame(file: IO[bytes]) -> bytes | None:
    length = file.read(8)
    if len(length) < 8:
        return None
    data = file.read(int.from_bytes(length, "big"))
    return data if len(data) == int.from_bytes(length, "big") else None
