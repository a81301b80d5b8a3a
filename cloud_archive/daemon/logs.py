"""The engine's log file: rotated, and free of secrets."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

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


def log_to_file(
    path: Path, secrets_to_hide: tuple[str, ...], *, formatter: logging.Formatter | None = None
) -> logging.Handler:
    """Log to a rotating file: 1 MB, three old ones.

    Args:
        formatter: lets no secret through either; default: `RedactingFormatter` with `LOG_FORMAT`.

    Raises:
        OSError: it cannot be written.
    """
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(formatter or RedactingFormatter(LOG_FORMAT, secrets_to_hide))
    root = logging.getLogger("cloud_archive")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler
