"""The engine's log file: rotated, and free of secrets."""

from __future__ import annotations

import logging
import logging.handlers
from io import TextIOWrapper
from pathlib import Path

from ..private_files import open_private
from ..redaction import redact

LOG_BYTES = 1_000_000
LOG_FILES = 3
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class RedactingFormatter(logging.Formatter):
    """A formatter that lets no secret through, tracebacks included."""

    def __init__(self, format: str, secret_values: tuple[str, ...]) -> None:
        super().__init__(format)
        self._secret_values = secret_values

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._secret_values)


class _PrivateFileHandler(logging.handlers.RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename,
            "a",
            encoding=self.encoding,
            errors=self.errors,
            opener=open_private,
        )


def log_to_file(
    path: Path,
    secrets_to_hide: tuple[str, ...],
    *,
    formatter: logging.Formatter | None = None,
    private: bool = False,
) -> logging.Handler:
    """Log to a rotating file: 1 MB, three old ones.

    Args:
        formatter: lets no secret through either; default: `RedactingFormatter` with `LOG_FORMAT`.
        private: create it with mode 0600 and follow no symbolic link; not for a file that the user named.

    Raises:
        OSError: it cannot be written.
    """
    kind = _PrivateFileHandler if private else logging.handlers.RotatingFileHandler
    handler = kind(
        path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(formatter or RedactingFormatter(LOG_FORMAT, secrets_to_hide))
    root = logging.getLogger("cloud_archive")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler
