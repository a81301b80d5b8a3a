"""The engine's log file: rotated, and free of secrets."""

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

LOG_BYTES = 1_000_000
LOG_FILES = 3
_STDERR = 2  # the descriptor, whatever `sys.stderr` is
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class RedactingFormatter(logging.Formatter):
    """A formatter that lets no secret through, tracebacks included."""

    def __init__(self, format: str, secret_values: tuple[str, ...]) -> None:
        super().__init__(format)
        self._secret_values = secret_values

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._secret_values)


class PrivateFileHandler(logging.handlers.RotatingFileHandler):
    """A rotating log of mode 0600, which can also take what the process writes to standard error."""

    _takes_stderr = False

    def follow(self, path: Path, *, rotate: bool) -> None:
        """Go on in this file.

        Args:
            rotate: False where the file may be another process's: it is neither renamed nor removed.
        """
        with self.lock or contextlib.nullcontext():
            self.maxBytes = LOG_BYTES if rotate else 0
            if self._takes_stderr:
                point_at_nothing(_STDERR)  # else Windows keeps the old file open
            if self.stream is not None:
                self.stream.close()
            self.baseFilename = os.path.abspath(path)  # noqa: PTH100 - as `FileHandler` does
            self.stream = self._open()

    def take_stderr(self) -> None:
        """Send standard error into this log from now on, faulthandler's report of a crash included.

        What Python code writes becomes log lines, without secrets. What else is written to descriptor 2, by C code or
        while the process crashes, goes to the file as it is.
        """
        self._takes_stderr = True
        if self.stream is not None:
            os.dup2(self.stream.fileno(), _STDERR)
        faulthandler.enable(file=_STDERR)
        sys.stderr = _LogLines(logging.getLogger("cloud_archive.stderr"))

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        """See `RotatingFileHandler`."""
        if self._takes_stderr:
            point_at_nothing(_STDERR)  # Windows renames no file that is open
        super().doRollover()

    def _open(self) -> TextIOWrapper:
        stream = open(  # noqa: SIM115 - the handler closes it
            self.baseFilename,
            "a",
            encoding=self.encoding,
            errors=self.errors,
            opener=open_private,
        )
        if self._takes_stderr:
            os.dup2(stream.fileno(), _STDERR)
        return stream


class _LogLines(TextIOBase):
    """A text stream whose lines become log lines."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._thread = _Unfinished()

    def write(self, text: str) -> int:
        if not self._thread.logging:
            *lines, self._thread.line = (self._thread.line + text).split("\n")
            self._write_lines(lines)
        return len(text)

    def flush(self) -> None:
        line, self._thread.line = self._thread.line, ""
        self._write_lines([line])

    def fileno(self) -> int:
        return _STDERR

    def writable(self) -> bool:
        return True

    def _write_lines(self, lines: list[str]) -> None:
        self._thread.logging = True  # a handler that fails writes to standard error, too
        try:
            for line in lines:
                if line.strip():
                    self._log.error("%s", line)
        finally:
            self._thread.logging = False


class _Unfinished(threading.local):
    """What one thread wrote without a line feed yet, and whether it is inside the log."""

    line = ""
    logging = False


def point_at_nothing(descriptor: int) -> None:
    """Let what is written to this descriptor disappear."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, descriptor)
    os.close(devnull)


def log_to_file(
    path: Path,
    secrets_to_hide: tuple[str, ...],
    *,
    formatter: logging.Formatter | None = None,
    private: bool = False,
) -> logging.handlers.RotatingFileHandler:
    """Log to a rotating file: 1 MB, three old ones.

    Args:
        formatter: lets no secret through either; default: `RedactingFormatter` with `LOG_FORMAT`.
        private: create it with mode 0600 and follow no symbolic link; not for a file that the user named.

    Raises:
        OSError: it cannot be written.
    """
    kind = PrivateFileHandler if private else logging.handlers.RotatingFileHandler
    handler = kind(
        path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(formatter or RedactingFormatter(LOG_FORMAT, secrets_to_hide))
    root = logging.getLogger("cloud_archive")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler
