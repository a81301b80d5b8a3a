"""The lines of the log: for people and as JSON, and where they go."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.cli.logs import JsonFormatter, LineFormatter, StderrHandler, logging_to_stderr

SECRET = "secret-of-this-test"


def record(*, error: Exception | None = None, level: int = logging.INFO) -> logging.LogRecord:
    fields: dict[str, Any] = {"name": "cloud_archive.a", "levelno": level, "created": 1_775_044_800.5}
    fields |= {"levelname": logging.getLevelName(level), "msg": "Archived %s", "args": ("a\n.png " + SECRET,)}
    return logging.makeLogRecord(fields | {"exc_info": error and (type(error), error, None)})


def test_a_line_for_people_is_one_line_without_secrets() -> None:
    line = LineFormatter((SECRET,), traces=False).format(record())
    assert line.endswith(" INFO    Archived a\\n.png ***")
    assert line[:4] == "2026"


def test_a_traceback_is_for_files_and_standard_error_names_the_error() -> None:
    failed = record(error=ValueError("No " + SECRET), level=logging.ERROR)
    short = LineFormatter((SECRET,), traces=False).format(failed)
    assert short.endswith("Archived a\\n.png *** (ValueError: No ***)")
    assert LineFormatter((SECRET,), traces=True).format(failed).splitlines()[-1] == "ValueError: No ***"


def test_a_line_of_json_has_four_fields_and_the_message_ends_with_the_error() -> None:
    found = json.loads(JsonFormatter((SECRET,)).format(record(error=ValueError("No " + SECRET))))
    assert list(found) == ["time", "level", "logger", "message"]
    assert found["time"][:4] == "2026"
    assert ".500" in found["time"]
    assert (found["level"], found["logger"]) == ("info", "cloud_archive.a")
    assert found["message"] == "Archived a\n.png ***\nValueError: No ***"


def test_lines_go_to_what_standard_error_is_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = StderrHandler()
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr", other)
    handler.emit(record())
    assert other.getvalue().startswith("Archived ")


def test_the_log_ends_with_its_block_and_the_file_has_its_folder_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("cloud_archive.a")
    file = tmp_path / "new" / "watch.log"
    with logging_to_stderr(log_file=file, environ={"S3_SECRET_ACCESS_KEY": SECRET}):
        logger.info("first %s", SECRET)
    logger.warning("second")
    assert file.read_text().splitlines()[0].endswith("first ***")
    assert "second" not in file.read_text() + capsys.readouterr().err
