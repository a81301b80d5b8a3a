"""The log of an archive has the lines that the pages show."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from cloud_archive.cli.logs import logging_to_stderr
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Fault, Kind
from tests.integration.archives import Archive
from tests.integration.examples import ROOT
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store


def documented_patterns() -> set[str]:
    """Return patterns of the log lines in docs/daemon.md and in the migration table."""
    daemon = (ROOT / "docs" / "daemon.md").read_text("utf-8")
    block = re.search(r"```text\n(.*?)```", daemon, re.DOTALL)
    assert block is not None
    lines = [re.sub(r"^\S+ \S+ \S+ +", "", line) for line in block[1].splitlines()]
    migration = (ROOT / "docs" / "migrating-from-r2-scripts.md").read_text("utf-8")
    table = re.search(r"## Log lines\n(.*?)\n## ", migration, re.DOTALL)
    assert table is not None
    for row in re.findall(r"^\|.*\|(.*)\|$", table[1], re.MULTILINE):
        lines += [
            span
            for span in re.findall(r"`([^`]+)`", row)
            if re.match(r"(Archiv|Already|\w+\.png (?:will be|waits))", span)
        ]
    assert len(lines) == 8
    return {pattern_of(line) for line in lines}


def pattern_of(line: str) -> str:
    """Return a pattern for the line in which names, keys, numbers and `…` match anything."""
    if re.search(r"will be retried|waits until this is fixed|Archiving", line):
        line = line.split(":")[0]
    line = re.sub(r"(?<=Archiving )\S+|\w+\.png|(?<= as )[^ …]+", "NAME", line)
    line = re.sub(r"\d+\.\d MB", "SIZE", re.sub(r"\d\.\d s", "SECONDS", line))
    words = {"NAME": r"\S+", "SIZE": r"[\d.]+ \w+", "SECONDS": r"[\d.]+ s", "…": ".*"}
    return re.sub("|".join(words), lambda found: words[found.group()], re.sub(r"([().])", r"\\\1", line))


def test_the_log_has_the_lines_that_the_pages_show(tmp_path: Path, seaweedfs: S3Server) -> None:
    log = tmp_path / "log"
    with FaultProxy(seaweedfs.endpoint, seed=1) as proxy, logging_to_stderr(log_file=log):
        proxy.add(  # twice in one attempt: after libcurl the SDK sends the same request
            Fault(Kind.ERROR_500), operations={"PutObject"}, when=lambda r: r.key == "out/again.png", times=2
        )
        archive = Archive(tmp_path, seaweedfs, S3_ENDPOINT_URL=proxy.url)
        seaweedfs.put("out/there.png", b"x" * 2000)
        archive.write("there.png", b"x" * 2000)
        archive.write("fine.png", b"y" * 2_000_000)
        archive.write("again.png", b"z" * 2000)
        archive.write("/".join(["d" * 200] * 6) + "/long.png", b"l" * 2000)
        with archive.running():
            wait_until(lambda: log.read_text("utf-8").count("Archived ") == 2, "both are logged")
            for pattern in documented_patterns():
                wait_until(lambda: bool(re.search(pattern, log.read_text("utf-8"))), pattern)  # noqa: B023
    text = log.read_text("utf-8")
    assert {"out/fine.png", "out/again.png"} <= set(seaweedfs.keys())
    assert re.search(r"Archived fine\.png as out/fine\.png \(2 MB, \d+\.\d s\)", text)
    assert "Traceback" not in text


def test_with_log_json_each_line_is_an_object_and_old_files_are_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cloud_archive.daemon.logs.LOG_BYTES", 2000)
    log = tmp_path / "logs" / "log"
    with logging_to_stderr(json_lines=True, log_file=log):
        for number in range(100):
            logging.getLogger("cloud_archive.test").warning('%s is "quoted"\n', number)
    kept = sorted(path.name for path in log.parent.iterdir())
    assert kept == ["log", "log.1", "log.2", "log.3"]
    assert all(path.stat().st_size <= 2000 for path in log.parent.iterdir())
    newest = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert newest[-1]["message"] == '99 is "quoted"\n'
    assert newest[-1].keys() == {"time", "level", "logger", "message"}
    assert re.search(r"[+-]\d\d:\d\d$", newest[-1]["time"]), "with its offset"
    assert len([json.loads(line) for line in capsys.readouterr().err.splitlines()]) == 100
