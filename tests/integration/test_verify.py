"""`verify` on real stores."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from cloud_archive.files import stat_version
from cloud_archive.ledger.history import count_requeued
from cloud_archive.ledger.rows import FileState
from cloud_archive.maintenance.verify import VerifyReport, verify
from cloud_archive.store.evidence import Verdict
from tests.integration.archives import Archive
from tests.servers import PUT_GET_KEY_ID, PUT_GET_SECRET, S3Server

pytestmark = pytest.mark.store


def run_verify(archive: Archive, *, deep: bool = False, repair: bool = False, **environ: str) -> VerifyReport:
    with archive.ledger() as ledger, archive.store(**environ) as store:
        return verify(ledger, store, archive.root, deep=deep, repair=repair)


def run_verify_command(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, str]:
    """Run `cloud-archive verify`. Returns the exit status and standard output."""
    archive.set_environment(monkeypatch)
    capsys.readouterr()
    status = main(["verify", str(archive.root), *options])
    return status, capsys.readouterr().out


def verdicts(report: VerifyReport) -> dict[str, Verdict]:
    return {finding.path: finding.verdict for finding in report.findings}


def test_150_objects_of_which_3_are_deleted_and_2_replaced_are_found_and_repaired(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for number in range(150):
        archive.write(f"d{number % 3}/{number:04}.png", b"%06d" % number)
    archive.archive_all()
    report = run_verify(archive)
    assert report.intact
    assert (report.checked, report.same) == (150, 150)
    assert report.list_requests <= 2, "a listing shows a thousand at once"
    assert (report.head_requests, report.read_requests) == (0, 0)

    for number in (3, 120, 149):
        seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key=f"out/d{number % 3}/{number:04}.png")
    seaweedfs.put("out/d1/0001.png", b"******")  # of the same size
    seaweedfs.put("out/d2/0002.png", b"of another size")
    (archive.root / "d0/0120.png").unlink()
    report = run_verify(archive)
    assert verdicts(report) == {
        "d0/0003.png": Verdict.MISSING,
        "d0/0120.png": Verdict.MISSING,
        "d2/0149.png": Verdict.MISSING,
        "d1/0001.png": Verdict.DIFFERENT,
        "d2/0002.png": Verdict.DIFFERENT,
    }
    assert report.head_requests == 5, "one for each that the listing does not prove"
    assert (report.missing, report.different, report.lost, report.queued) == (3, 2, 1, 0)
    assert [f.path for f in report.findings if not f.local] == ["d0/0120.png"]

    report = run_verify(archive, repair=True)
    assert (report.queued, report.lost) == (4, 1)
    archive.archive_all()
    assert verdicts(run_verify(archive)) == {"d0/0120.png": Verdict.MISSING}, "that one is nowhere any more"
    assert seaweedfs.read("out/d0/0003.png") == b"000003", "at its own key again"
    assert seaweedfs.read("out/d1/0001.png") == b"******", "nothing is overwritten"
    assert seaweedfs.read("out/d1/0001 (1).png") == b"000001"


def test_bytes_that_only_claim_to_be_ours_are_found(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"true")
    archive.write("b.png", b"as it was")
    archive.archive_all()
    seaweedfs.client.put_object(
        Bucket=seaweedfs.bucket, Key="out/a.png", Body=b"fake", Metadata=seaweedfs.metadata("out/a.png")
    )
    report = run_verify(archive)
    assert verdicts(report) == {"a.png": Verdict.DIFFERENT}, (
        "an ETag that changed is no proof, whatever metadata says"
    )
    report = run_verify(archive, deep=True)
    assert verdicts(report) == {"a.png": Verdict.DIFFERENT}
    assert report.bytes_read == 13
    assert report.read_requests == 2


def test_a_file_that_went_in_parts_is_recognised_by_its_etag(tmp_path: Path, any_s3: S3Server) -> None:
    archive = Archive(tmp_path, any_s3)
    archive.write("film.mp4", b"m" * (9 * 1024 * 1024))
    for number in range(4):
        archive.write(f"{number}.png")
    archive.archive_all()
    report = run_verify(archive)
    assert report.intact, report.to_json()
    assert run_verify(archive, deep=True).intact


def test_without_the_right_to_list_each_object_costs_a_head(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for number in range(5):
        archive.write(f"{number}.png")
    archive.archive_all()
    report = run_verify(archive, S3_ACCESS_KEY_ID=PUT_GET_KEY_ID, S3_SECRET_ACCESS_KEY=PUT_GET_SECRET)
    assert report.intact
    assert report.listing_refused
    assert report.head_requests == 5


def test_rows_under_prefixes_of_other_days_are_found_there(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for prefix in ("monday", "tuesday/x", ""):
        for number in range(4):
            archive.write(f"{prefix[:1]}{number}.png")
        archive.archive_all(S3_PREFIX=prefix)
    for number in range(30):
        seaweedfs.put(f"monday/foreign {number}", b"x")
    report = run_verify(archive)
    assert (report.intact, report.checked, report.head_requests) == (True, 12, 0)


def test_a_listing_of_mostly_other_peoples_objects_is_given_up(
    tmp_path: Path, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cloud_archive.maintenance.verify as module

    monkeypatch.setattr(module, "LIST_PAGE", 5)
    archive = Archive(tmp_path, moto_s3)
    for number in range(3):
        archive.write(f"z{number}.png")
    archive.write("a.png")
    archive.archive_all()
    for number in range(60):
        moto_s3.put(f"out/m{number:03}", b"x")
    report = run_verify(archive)
    assert report.intact
    assert report.list_requests < 12
    assert report.head_requests == 3


def test_a_file_that_changed_since_is_not_put_back_in_its_old_version(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"one")
    archive.archive_all()
    archive.write("a.png", b"two!")
    seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key="out/a.png")
    report = run_verify(archive, repair=True)
    assert (report.missing, report.queued, report.lost) == (1, 0, 1)
    with archive.ledger() as ledger:
        assert [row.state for row in ledger.rows()] == [FileState.ARCHIVED]


def test_a_file_that_was_rewritten_with_its_size_and_time_is_not_put_back_in_its_old_version(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"archived")
    archive.archive_all()
    local = archive.root / "a.png"
    before = local.stat()
    local.write_bytes(b"ARCHIVED")
    os.utime(local, ns=(before.st_atime_ns, before.st_mtime_ns))
    seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key="out/a.png")
    report = run_verify(archive, repair=True)
    assert (report.missing, report.queued, report.lost) == (1, 0, 1)


def test_a_repaired_file_is_not_intact_until_it_is_in_the_bucket_again(
    tmp_path: Path,
    seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for name in ("a.png", "b.png"):
        archive.write(name)
    archive.archive_all()
    seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key="out/a.png")
    assert not run_verify(archive, repair=True).intact

    code, out = run_verify_command(archive, monkeypatch, capsys)
    assert code == 1
    assert "1 file waits to be archived again" in out
    assert "All of them" not in out
    code, out = run_verify_command(archive, monkeypatch, capsys, "--json")
    report = json.loads(out)
    assert (code, report["sound"], report["waiting"], report["checked"]) == (1, False, 1, 1)

    archive.archive_all()
    code, out = run_verify_command(archive, monkeypatch, capsys, "--json")
    report = json.loads(out)
    assert (code, report["sound"], report["waiting"], report["checked"]) == (0, True, 0, 2)


def vanish(archive: Archive) -> None:
    """Record, as a worker does, that the claimed file is gone."""
    with archive.ledger() as ledger:
        claim = ledger.claim("test")
        assert claim is not None
        ledger.mark_vanished(claim)


def test_a_repaired_file_that_vanishes_before_it_is_archived_again_still_counts(
    tmp_path: Path,
    seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for name in ("a.png", "b.png"):
        archive.write(name)
    archive.archive_all()
    seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key="out/a.png")
    assert run_verify(archive, repair=True).queued == 1
    (archive.root / "a.png").unlink()
    vanish(archive)

    code, out = run_verify_command(archive, monkeypatch, capsys, "--json")
    report = json.loads(out)
    assert (code, report["sound"], report["checked"], report["missing"]) == (1, False, 2, 1)
    assert (report["lost"], [each["path"] for each in report["findings"]]) == (1, ["a.png"])

    archive.write("c.png")
    with archive.ledger() as ledger:
        ledger.add([stat_version(archive.root, "c.png")])
    vanish(archive)
    assert run_verify(archive).lost == 1, (
        "a file that vanished before it was ever archived is no loss of the bucket"
    )


def test_a_newer_version_of_a_file_that_waits_to_be_archived_again_was_never_archived(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png")
    archive.archive_all()
    seaweedfs.client.delete_object(Bucket=seaweedfs.bucket, Key="out/a.png")
    run_verify(archive, repair=True)
    archive.write("a.png", b"newer bytes")
    with archive.ledger() as ledger:
        ledger.add([stat_version(archive.root, "a.png")])
        assert count_requeued(ledger) == 0


def test_a_check_of_nothing_does_not_claim_all(
    tmp_path: Path,
    seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.archive_all()
    code, out = run_verify_command(archive, monkeypatch, capsys)
    assert code == 0
    assert "All of them" not in out
    assert "Nothing was checked" in out


def test_versions_that_were_replaced_because_renaming_is_off_are_no_fault(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Archive(tmp_path, seaweedfs, S3_ENABLE_CONFLICT_RENAME="off")
    for _ in range(3):
        archive.write("latest.png")
        archive.archive_all()
    assert list(seaweedfs.objects()) == ["out/latest.png"]
    status, printed = run_verify_command(archive, monkeypatch, capsys)
    assert status == 0, printed
    assert "Checked 1 file" in printed
    assert "Replaced by newer versions" in printed


def test_a_repair_keeps_another_machines_object_where_renaming_is_off(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    archive = Archive(tmp_path, seaweedfs, S3_ENABLE_CONFLICT_RENAME="off")
    other = Archive(tmp_path / "other", seaweedfs, S3_ENABLE_CONFLICT_RENAME="off")
    ours = archive.write("ComfyUI_00001_.png")
    archive.archive_all()
    theirs = other.write("ComfyUI_00001_.png")
    other.archive_all()
    status, printed = run_verify_command(archive, monkeypatch, capsys, "--repair")
    assert status == 1
    assert "Kept objects of other writers" in printed
    archive.archive_all()
    assert seaweedfs.objects() == {"out/ComfyUI_00001_.png": theirs}
    archive.environ["S3_ENABLE_CONFLICT_RENAME"] = "true"
    run_verify_command(archive, monkeypatch, capsys, "--repair")
    archive.archive_all()
    assert seaweedfs.objects() == {"out/ComfyUI_00001_.png": theirs, "out/ComfyUI_00001_ (1).png": ours}
    assert run_verify_command(archive, monkeypatch, capsys)[0] == 0
