"""The log of `watch`, `upload --baseline` and `demo`: lines or JSON, without secrets."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..daemon.logs import RedactingFormatter, log_to_file
from ..own_files import note_own_file
from ..redaction import secret_values

if TYPE_CHECKING:
    _TextHandler = logging.StreamHandler[TextIO]
else:
    _TextHandler = logging.StreamHandler  # Python 3.10 can't subscript it

_TIME = "%Y-%m-%d %H:%M:%S"


class LineFormatter(RedactingFormatter):
    """`2026-04-01 12:34:56 INFO    Archived a.png as outputs/a.png`.

    Args:
        traces: True adds the traceback of an error; False, only its last line.
    """

    def __init__(self, secrets: tuple[str, ...], *, traces: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", secrets)
        self.datefmt = _TIME
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        if self._traces or not record.exc_info:
            return super().format(record)
        kind, error, _ = record.exc_info
        short = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
        short.msg, short.args = "%s (%s: %s)", (record.getMessage(), kind and kind.__name__, error)
        return super().format(short)


class JsonFormatter(RedactingFormatter):
    """One JSON object a line: time (ISO 8601 with its offset), level, logger, and message with a traceback if any."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__("%(message)s", secrets)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        moment = datetime.fromtimestamp(record.created).astimezone()
        found = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.message,
        }
        return json.dumps(found)

    def format(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return super().format(record)
        error = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
        trace = self.formatException(record.exc_info)
        error.msg, error.args = "%s\n%s", (record.getMessage(), trace)
        return super().format(error)


class StderrHandler(_TextHandler):
    """Writes to `sys.stderr` as it is now: a progress bar replaces it, so that lines appear above the bar."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        pass


@contextmanager
def logging_to_stderr(
    *,
    json_lines: bool = False,
    log_file: Path | None = None,
    level: int = logging.INFO,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[logging.Handler | None]:
    """Log to standard error, and to `log_file`; yield its handler. Raises OSError if it can't be written."""
    secrets = secret_values(environ)

    def formatter(traces: bool) -> logging.Formatter:
        return JsonFormatter(secrets) if json_lines else LineFormatter(secrets, traces=traces)

    ours = logging.getLogger("cloud_archive")
    handlers: list[logging.Handler] = [StderrHandler()]
    handlers[0].setFormatter(formatter(False))
    if log_file is not None:
        note_own_file(log_file)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(log_to_file(log_file, secrets, formatter=formatter(True)))
    ours.addHandler(handlers[0])
    ours.setLevel(level)
    try:
        yield handlers[1] if log_file is not None else None
    finally:
        for handler in handlers:
            ours.removeHandler(handler)
            handler.close()
