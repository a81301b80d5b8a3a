"""The engine's log file: rotated, and without secrets."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import logging.handlers
import os
import sys
import threading
from io import TextIOBase, TextIOWrapper
from pathlib import Path

from ..private_files import open_private
from ..redaction import redact
from ..terminal import redirect_to_devnull
from ..text import make_printable

logger = logging.getLogger("cloud_archive.log")

LOG_BYTES = 1_000_000
LOG_FILES = 3
_STDERR = 2  # the descriptor; `sys.stderr` may be another one
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class RedactingFormatter(logging.Formatter):
    """Formats log records without secrets, also in tracebacks, and without control characters in the message."""

    def __init__(self, format: str, secret_values: tuple[str, ...]) -> None:
        super().__init__(format)
        self._secret_values = secret_values

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = make_printable(record.message)  # a file's name may hold line breaks
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._secret_values)


class LogFileHandler(logging.handlers.RotatingFileHandler):
    """A rotating log that formats each line once. Python's own formats it twice, first to learn its length."""

    _failed = False  # whether the last line could not be written

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + self.terminator
            self.stream = self.stream or self._open()
            # A pipe has no position, and is never full.
            if self.stream.seekable() and self._is_full(self.stream.seek(0, os.SEEK_END) + len(line)):
                self.doRollover()
            self.stream.write(line)
            self.flush()
            self._failed = False
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say once that the log can't be written. Python's own report would show the record with its secrets."""
        if self._failed:
            return
        self._failed = True
        error = sys.exc_info()[1]
        cause = getattr(error, "strerror", None) or error
        logger.warning(
            "The log %s can't be written: %s. Free space on its disk, or allow this user to write it.",
            self.baseFilename,
            cause,
        )

    def close(self) -> None:
        with contextlib.suppress(OSError):  # `handleError` has named it
            super().close()

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        try:
            os.rename(self.baseFilename, self.baseFilename)  # noqa: PTH104 - as `FileHandler` names it
            super().doRollover()
        except OSError:  # Windows renames no file that another program has open, so this one grows
            self.stream = self.stream or self._open()

    def _is_full(self, size_bytes: int) -> bool:
        if not 0 < self.maxBytes <= size_bytes:
            return False
        path = Path(self.baseFilename)
        return path.is_file() or not path.exists()  # a device is never renamed


class PrivateFileHandler(LogFileHandler):
    """A rotating log with mode 0600, which can also receive standard error."""

    _receives_stderr = False

    def follow(self, path: Path, *, rotate: bool) -> None:
        """Continue the log in another file.

        Args:
            rotate: False if another process may write the file, so that it is never renamed or removed.

        Raises:
            OSError: it can't be opened now. Each line tries again.
        """
        with self.lock or contextlib.nullcontext():
            self.maxBytes = LOG_BYTES if rotate else 0
            if self._receives_stderr:
                redirect_to_devnull(_STDERR)  # otherwise standard error keeps the old file open
            if self.stream is not None:
                self.stream.close()
                self.stream = None  # so that the next line tries again if the file can't be opened now
            self.baseFilename = os.path.abspath(path)  # noqa: PTH100 - as `FileHandler` does
            self.stream = self._open()

    def receive_stderr(self) -> None:
        """Write standard error to this log from now on.

        Text from Python code becomes log lines without secrets. Text from C code, and faulthandler's report of a crash,
        go to the file as they are.
        """
        self._receives_stderr = True
        if self.stream is not None:
            os.dup2(self.stream.fileno(), _STDERR)
        faulthandler.enable(file=_STDERR)
        sys.stderr = _LogLines(logging.getLogger("cloud_archive.stderr"))

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        if self._receives_stderr:
            redirect_to_devnull(_STDERR)  # Windows can't rename an open file
        super().doRollover()

    def _open(self) -> TextIOWrapper:
        stream = open(  # noqa: SIM115 - the handler closes it
            self.baseFilename,
            "a",
            encoding=self.encoding,
            errors=self.errors,
            opener=open_private,
        )
        if self._receives_stderr:
            os.dup2(stream.fileno(), _STDERR)
        return stream


class _LogLines(TextIOBase):
    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._buffer = _LineBuffer()

    def write(self, text: str) -> int:
        *lines, self._buffer.line = (self._buffer.line + text).split("\n")
        self._write_lines(lines)
        return len(text)

    def flush(self) -> None:
        line, self._buffer.line = self._buffer.line, ""
        self._write_lines([line])

    def fileno(self) -> int:
        return _STDERR

    def writable(self) -> bool:
        return True

    def _write_lines(self, lines: list[str]) -> None:
        for line in lines:
            if line.strip():
                self._log.error("%s", line)


class _LineBuffer(threading.local):
    line = ""  # the thread's unfinished one


def log_to_file(
    path: Path,
    secrets_to_hide: tuple[str, ...],
    *,
    formatter: logging.Formatter | None = None,
    private: bool = False,
) -> logging.handlers.RotatingFileHandler:
    """Log to a rotating file of 1 MB, and keep three old ones.

    Args:
        secrets_to_hide: for the default `formatter`, which removes them from every line.
        formatter: default: `RedactingFormatter` with `LOG_FORMAT`.
        private: create the file with mode 0600 and follow no symbolic link; not for a file that the user chose.

    Raises:
        OSError: the file can't be written.
    """
    kind = PrivateFileHandler if private else LogFileHandler
    handler = kind(
        path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(formatter or RedactingFormatter(LOG_FORMAT, secrets_to_hide))
    root = logging.getLogger("cloud_archive")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler
