"""`prune` on a real store."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from cloud_archive.keys import PrefixTemplate
from cloud_archive.ledger.rows import FileState
from cloud_archive.maintenance.prune import PruneReport, prune
from cloud_archive.maintenance.prune_plan import PrunePlan, PruneRule, plan_prune
from cloud_archive.scope import KeyScope
from tests.integration.archives import PREFIX, Archive
from tests.quirks.server import QuirkServer
from tests.quirks.whole_stores import S3rver, Swift
from tests.servers import PUT_GET_KEY_ID, PUT_GET_SECRET, S3Server, wait_until

pytestmark = pytest.mark.store

EVERYTHING_IS_OLD = 1000.0  # seconds by which these tests move the clock ahead


def make_plan(
    archive: Archive,
    rule: PruneRule,
    *,
    prefix: str = PREFIX,
    known: bool = True,
    ahead: float = EVERYTHING_IS_OLD,
) -> PrunePlan:
    with archive.ledger() as ledger, archive.store() as store:
        scope = KeyScope(PrefixTemplate.parse(prefix))
        return plan_prune(store, ledger if known else None, scope=scope, rule=rule, now=time.time() + ahead)


def carry_out(archive: Archive, plan: PrunePlan, **environ: str) -> PruneReport:
    with archive.ledger() as ledger, archive.store(**environ) as store:
        return prune(store, ledger, plan)


@pytest.mark.parametrize("known", [True, False], ids=["with a ledger", "on a bare machine"])
def test_objects_of_other_programs_are_never_touched(tmp_path: Path, any_s3: S3Server, known: bool) -> None:
    archive = Archive(tmp_path, any_s3)
    for number in range(5):
        # Not now: rclone lists some objects with the time of their file.
        archive.write(f"sub/{number}.png", age_seconds=60)
    any_s3.put("out/same.png", b"the very same bytes")
    archive.write("same.png", b"the very same bytes")
    archive.archive_all()
    foreign = {"out/theirs.png": b"x", "out/sub/theirs.png": b"y", "outside/z.png": b"z", "out.png": b"o"}
    for key, body in foreign.items():
        any_s3.put(key, body)
    foreign["out/same.png"] = b"the very same bytes"
    any_s3.put("out/sub/0.png", b"replaced")
    foreign["out/sub/0.png"] = b"replaced"
    plan = make_plan(archive, PruneRule(older_than_seconds=10), known=known)
    assert [one.key for one in sorted(plan.candidates, key=lambda one: one.key)] == [
        f"out/sub/{number}.png" for number in (1, 2, 3, 4)
    ]
    assert len(any_s3.keys()) == 10, "a plan deletes nothing"
    report = carry_out(archive, plan)
    assert (report.deleted, report.failed) == (4, [])
    assert any_s3.objects() == foreign


def test_a_pruned_file_is_not_uploaded_again_until_it_is_asked_for(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png", b"a")
    archive.archive_all()
    carry_out(archive, make_plan(archive, PruneRule(older_than_seconds=10)))
    assert seaweedfs.keys() == []
    with archive.ledger() as ledger:
        assert [row.state for row in ledger.rows()] == [FileState.PRUNED]
        assert ledger.totals().pruned.files == 1
    with archive.running() as engine:
        engine.rescan()
        assert engine.flush(60), "nothing of it waits"
        assert seaweedfs.keys() == []
        (archive.root / "b.png").write_bytes(b"b")
        assert engine.flush(60)
        assert seaweedfs.keys() == ["out/b.png"]
        assert engine.upload("a.png", 60).http_status == 200
        # The answer may come a moment before the file is counted.
        wait_until(
            lambda: "cloud_archive_confirm_seconds_count 2.0" in engine.metrics_text(), "it is counted"
        )
        assert 'cloud_archive_files_total{result="archived"} 2.0' in engine.metrics_text()
    assert seaweedfs.keys() == ["out/a.png", "out/b.png"]


def test_young_objects_stay(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png")
    seaweedfs.put("out/theirs.png", b"x")
    archive.archive_all()
    plan = make_plan(archive, PruneRule(older_than_seconds=3600))
    assert (plan.candidates, plan.kept_files) == ([], 2)


def wait_for_the_next_second() -> None:
    """Stores keep the time of writing in whole seconds."""
    now = int(time.time())
    wait_until(lambda: int(time.time()) > now, "the next second")


def test_beyond_a_total_size_the_oldest_go(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for number in range(3):
        archive.write(f"{number}.png", b"x" * 1000)
        archive.archive_all()
        wait_for_the_next_second()
    seaweedfs.put("out/theirs.png", b"x" * 5000)
    plan = make_plan(archive, PruneRule(keep_bytes=2500), ahead=0)
    assert [one.key for one in plan.candidates] == ["out/0.png"]
    assert plan.kept_bytes == 2000
    assert make_plan(archive, PruneRule(keep_bytes=3000), ahead=0).candidates == []


def test_with_all_everything_below_the_prefix_goes_and_nothing_beside_it(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png")
    archive.archive_all()
    for key in ("out/theirs.png", "output/x.png", "outer.png"):
        seaweedfs.put(key, b"x")
    carry_out(archive, make_plan(archive, PruneRule(older_than_seconds=10, everything=True)))
    assert seaweedfs.keys() == ["outer.png", "output/x.png"]


def test_without_the_right_to_delete_prune_says_so_and_the_rows_stay_archived(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for number in range(3):
        archive.write(f"{number}.png")
    archive.archive_all()
    plan = make_plan(archive, PruneRule(older_than_seconds=10))
    limited = {"S3_ACCESS_KEY_ID": PUT_GET_KEY_ID, "S3_SECRET_ACCESS_KEY": PUT_GET_SECRET}
    report = carry_out(archive, plan, **limited)
    assert (report.deleted, len(report.failed)) == (0, 3)
    assert all("s3:DeleteObject" in cause for _, cause in report.failed)
    assert len(seaweedfs.keys()) == 3
    with archive.ledger() as ledger:
        rows = ledger.rows()
        assert [row.state for row in rows] == [FileState.ARCHIVED] * 3
        assert all(row.archived_at and row.archived_at < time.time() for row in rows)


def test_the_only_copy_is_named_as_such(tmp_path: Path, seaweedfs: S3Server) -> None:
    from cloud_archive.ledger.history import mark_freed

    archive = Archive(tmp_path, seaweedfs)
    archive.write("a.png")
    archive.write("b.png")
    archive.archive_all()
    with archive.ledger() as ledger:
        mark_freed(ledger, [row.row for row in ledger.rows() if row.version.path == "a.png"])
    plan = make_plan(archive, PruneRule(older_than_seconds=10))
    assert {one.key: one.only_copy for one in plan.candidates} == {"out/a.png": True, "out/b.png": False}


def test_a_prefix_that_begins_with_a_placeholder_takes_nothing_of_its_neighbours(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs, S3_PREFIX="comfy-{Y}")
    archive.write("a.png")
    archive.archive_all()
    ours = seaweedfs.keys()
    # Objects of other archives carry the same metadata as ours.
    neighbours = [f"comfy-old/{n}.png" for n in range(3)] + ["other/x.png", ".cloud-archive/x.gz", "b.png"]
    with archive.store() as store:
        for key in neighbours:
            store.put(
                key,
                b"x",
                sha256=hashlib.sha256(b"x").hexdigest(),
                content_type="image/png",
                metadata={"archive-token": "t"},
                create_only=False,
            )
    for everything in (False, True):
        rule = PruneRule(older_than_seconds=10, everything=everything)
        plan = make_plan(archive, rule, prefix="comfy-{Y}")
        assert [one.key for one in plan.candidates] == ours
        assert plan.foreign_files == 0
    carry_out(archive, plan)
    assert sorted(seaweedfs.keys() + seaweedfs.keys(".cloud-archive/v1/")) == sorted(neighbours)


def test_an_object_that_was_replaced_after_the_plan_stays(tmp_path: Path, any_s3: S3Server) -> None:
    archive = Archive(tmp_path, any_s3)
    for name in ("a", "b", "c", "d"):
        archive.write(f"{name}.png", name.encode() * 10)
    archive.archive_all()
    plan = make_plan(archive, PruneRule(older_than_seconds=10))
    any_s3.put("out/a.png", b"A" * 10)
    any_s3.client.delete_object(Bucket=any_s3.bucket, Key="out/c.png")
    # The same bytes again: only the time of writing differs, which the store may round.
    (b,) = (one for one in plan.candidates if one.key == "out/b.png")
    with archive.store() as store:

        def written_again() -> bool:
            any_s3.put("out/b.png", b"b" * 10)
            found = store.head(b.key)
            return found is not None and not b.has_same_time(found)

        wait_until(written_again, "the time of writing differs")
    report = carry_out(archive, plan)
    assert report.deleted == 1
    assert sorted(key for key, _ in report.failed) == ["out/a.png", "out/b.png", "out/c.png"]
    assert all("since the plan" in cause for _, cause in report.failed)
    assert any_s3.objects() == {"out/a.png": b"A" * 10, "out/b.png": b"b" * 10}
    with archive.ledger() as ledger:
        states = {row.version.path: row.state for row in ledger.rows()}
    assert states.pop("d.png") is FileState.PRUNED
    assert set(states.values()) == {FileState.ARCHIVED}


def test_a_deletion_that_the_store_only_claims_is_no_deletion(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for name in ("a", "b", "c"):
        archive.write(f"{name}.png")
    archive.archive_all()
    plan = make_plan(archive, PruneRule(older_than_seconds=10))
    for candidates in (plan.candidates[:1], plan.candidates):
        plan.candidates = candidates
        with QuirkServer(seaweedfs, Swift(may_delete=False)) as quirks:
            report = carry_out(archive, plan, S3_ENDPOINT_URL=quirks.url)
        assert (report.deleted, report.deleted_bytes) == (0, 0)
        assert {key for key, _ in report.failed} == {one.key for one in candidates}
        assert all("still there" in cause and "s3:DeleteObject" in cause for _, cause in report.failed)
    assert len(seaweedfs.keys()) == 3
    with archive.ledger() as ledger:
        assert {row.state for row in ledger.rows()} == {FileState.ARCHIVED}


def test_what_is_gone_counts_as_deleted_whatever_the_store_says(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    for name in ("a", "b", "c"):
        archive.write(f"{name}.png")
    archive.archive_all()
    plan = make_plan(archive, PruneRule(older_than_seconds=10))
    with QuirkServer(seaweedfs, S3rver()) as quirks:
        report = carry_out(archive, plan, S3_ENDPOINT_URL=quirks.url)
    assert (report.deleted, report.failed) == (3, [])
    assert seaweedfs.keys() == []
    with archive.ledger() as ledger:
        assert {row.state for row in ledger.rows()} == {FileState.PRUNED}
