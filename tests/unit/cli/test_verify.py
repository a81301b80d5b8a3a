"""What `verify` says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.cli.common import ledger_path
from cloud_archive.cli.verify import _describe, _name, _show
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.verify import Finding, VerifyReport
from cloud_archive.store.evidence import Verdict, md5_of
from tests.archived_rows import mark_archived
from tests.commands import run_command
from tests.functional.archives import added
from tests.memory_store import MemoryStore


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding("a.png", "out/a.png", Verdict.MISSING, True), "a.png: missing from the bucket (out/a.png)"),
        (
            Finding("a\n.png", "k", Verdict.DIFFERENT, True, queued=True),
            "a\\n.png: different in the bucket (k); queued again",
        ),
        (
            Finding("a.png", "k", Verdict.UNDECIDED, False, cause="It may not."),
            "a.png: could not be checked (k); also missing locally: It may not.",
        ),
    ],
)
def test_a_finding_is_one_line(finding: Finding, line: str) -> None:
    assert _describe(finding) == line


def test_a_cause_that_files_share_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        Finding(name, "k", Verdict.UNDECIDED, True, cause="It may not.") for name in ("b.png", "a.png")
    ]
    _name(VerifyReport(checked=3, undecided=3, findings=findings))
    assert capsys.readouterr().err.splitlines() == [
        "a.png: could not be checked (k)",
        "b.png: could not be checked (k)",
        "… and 1 more",
        "Not checked: It may not.",
    ]
    findings.append(Finding("c.png", "k", Verdict.UNDECIDED, True, cause="It is locked."))
    _name(VerifyReport(checked=3, undecided=3, findings=findings))
    assert capsys.readouterr().err.splitlines() == [
        "a.png: could not be checked (k): It may not.",
        "b.png: could not be checked (k): It may not.",
        "c.png: could not be checked (k): It is locked.",
    ]


def lines(
    capsys: pytest.CaptureFixture[str], report: VerifyReport, *, repair: bool = False, running: bool = False
) -> list[str]:
    _show(report, repair=repair, running=running)
    return capsys.readouterr().out.splitlines()


def test_an_intact_bucket_needs_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report = VerifyReport(
        checked=3, same=3, list_requests=1, head_requests=1, read_requests=3, bytes_read=3000
    )
    assert lines(capsys, report) == [
        "Checked 3 files (1 list request, 4 object requests, 3 kB read back).",
        "All of them are in the bucket, as they were archived.",
    ]
    assert lines(capsys, VerifyReport()) == ["Nothing was checked: the ledger lists no archived file."]


def test_problems_are_counted_and_the_cure_is_offered_once(capsys: pytest.CaptureFixture[str]) -> None:
    report = VerifyReport(checked=5, same=1, missing=2, different=1, undecided=1, lost=1)
    found = lines(capsys, report)
    assert found[1] == "Missing: 2. Different: 1. Not checked: 1. Also missing locally: 1."
    assert "--repair" in found[-1]
    assert "--repair" not in "".join(lines(capsys, report, repair=True))
    all_lost = VerifyReport(checked=1, missing=1, lost=1)
    assert "--repair" not in "".join(lines(capsys, all_lost)), "nothing could be archived again"


@pytest.mark.parametrize(("lost", "is_lost", "them"), [(1, "1 file is", "it"), (2, "2 files are", "them")])
def test_what_is_lost_in_both_places_comes_with_what_to_do(
    capsys: pytest.CaptureFixture[str], lost: int, is_lost: str, them: str
) -> None:
    assert lines(capsys, VerifyReport(checked=lost, missing=lost, lost=lost))[-1] == (
        f"{is_lost} lost: neither the bucket nor this disk holds {them} as archived. Put {them} back from a backup and"
        " verify again. `cloud-archive compact` takes old files out of this check."
    )


@pytest.mark.parametrize(
    ("count", "running", "words"),
    [
        (1, True, "1 file waits to be archived again. The running archive uploads it."),
        (2, False, "2 files wait to be archived again. The next start uploads them."),
    ],
)
def test_files_that_wait_are_named_with_who_uploads_them(
    capsys: pytest.CaptureFixture[str], count: int, running: bool, words: str
) -> None:
    found = lines(capsys, VerifyReport(checked=3, same=3, waiting=count), running=running)
    assert found[1] == "The files that were checked are in the bucket, as they were archived."
    assert found[2] == f"{words} Verify again after that."


def test_a_key_that_may_not_list_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    report = VerifyReport(checked=1, same=1, listing_refused="Denied.")
    found = lines(capsys, report)
    assert "may not list" in found[0]
    assert "s3:ListBucket" not in "".join(found)
    undecided = VerifyReport(checked=1, undecided=1, listing_refused="Denied.")
    assert "allow s3:ListBucket" in lines(capsys, undecided)[1], "the object may be missing"


@pytest.mark.usefixtures("own_state", "settings_in_environment")
def test_a_store_that_does_not_answer_is_mentioned_before_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, mentioned = MemoryStore(), threading.Event()
    store.add("out/a.png", b"x")

    def on_call(operation: str, key: str) -> None:
        mentioned.wait(60)

    store.on_call = on_call

    @contextmanager
    def bucket(settings: Any) -> Iterator[MemoryStore]:
        yield store

    monkeypatch.setattr("cloud_archive.cli.verify.bucket", bucket)
    monkeypatch.setattr("cloud_archive.cli.common.SILENT_SECONDS", 0)
    monkeypatch.setattr("cloud_archive.cli.common.print_error", lambda words: mentioned.set())
    ledger_path(root).parent.mkdir(parents=True)
    ledger = Ledger(ledger_path(root))
    ledger.open()
    claim = ledger.claim_version("test", added(ledger, root, "a.png", b"x"))
    assert claim is not None
    mark_archived(ledger, claim, key="out/a.png", sha256="00" * 32, etag=md5_of(b"x"))
    ledger.close()
    assert run_command(capsys, "verify", root)[0] == 0
    assert mentioned.is_set()
