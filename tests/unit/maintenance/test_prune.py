"""`prune` on stores in memory."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest

from cloud_archive.errors import CloudArchiveError, StoreError
from cloud_archive.files import FileVersion
from cloud_archive.keys import PrefixTemplate
from cloud_archive.ledger import deletions
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.interrupted_prune import PENDING_SECONDS, finish_interrupted_prune
from cloud_archive.maintenance.prune import DENIED, FAVORITE, IN_USE, NO_ANSWER, UNCHECKED, prune
from cloud_archive.maintenance.prune_plan import PrunePlan, PruneRule, plan_prune
from cloud_archive.scope import KeyScope
from cloud_archive.store.base import ObjectInfo
from tests.archived_rows import mark_archived
from tests.memory_store import WRITTEN, Hanging, MemoryStore, refuse

RULE = PruneRule(older_than_seconds=10)


class TwoTimes(MemoryStore):
    """Lists objects with the time of their file, an hour before their time of writing."""

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        for info in super().list(prefix, limit=limit):
            assert info.last_modified is not None
            yield info._replace(last_modified=info.last_modified - timedelta(hours=1))


@pytest.mark.parametrize("kind", [MemoryStore, TwoTimes])
def test_an_object_written_again_with_the_same_bytes_stays_and_an_unchanged_one_goes(
    kind: type[MemoryStore],
) -> None:
    store = kind()
    for key in ("out/a.png", "out/a.png.json", "out/b.png"):
        store.add(key, b"x")
    plan = plan_prune(store, None, scope=KeyScope(PrefixTemplate.parse("out")), rule=RULE, now=WRITTEN + 100)
    assert len(plan.candidates) == 3
    store.add("out/b.png", b"x", written=WRITTEN + 50)
    report = prune(store, None, plan)
    assert [key for key, _ in report.failed] == ["out/b.png"]
    assert list(store.objects) == ["out/b.png"]
    assert report.deleted == 2


def test_an_object_that_is_gone_since_the_plan_is_not_taken_for_a_longer_key() -> None:
    store = TwoTimes()
    for key in ("out/a.png", "out/a.png.json"):
        store.add(key, b"x")
    plan = plan_prune(store, None, scope=KeyScope(PrefixTemplate.parse("out")), rule=RULE, now=WRITTEN + 100)
    del store.objects["out/a.png"]
    report = prune(store, None, plan)
    assert [key for key, _ in report.failed] == ["out/a.png"]
    assert store.objects == {}


def planned(store: MemoryStore, rule: PruneRule, *favorites: str) -> PrunePlan:
    scope = KeyScope(PrefixTemplate.parse("out"))
    marked = lambda keys: set(keys) & set(favorites)  # noqa: E731
    return plan_prune(store, None, scope=scope, rule=rule, now=WRITTEN + 100, favorites=marked)


@pytest.fixture
def three() -> MemoryStore:
    store = MemoryStore()
    for number, name in enumerate("abc"):
        store.add(f"out/{name}.png", b"x" * 10, written=WRITTEN + number)
    return store


def test_an_age_is_measured_by_the_stores_clock(three: MemoryStore) -> None:
    three.clock_offset_seconds = -95.0  # this machine's clock is ahead
    assert planned(three, RULE).candidates == []
    three.clock_offset_seconds = 95.0
    assert len(planned(three, PruneRule(older_than_seconds=150)).candidates) == 3


def test_an_object_that_needs_its_writers_key_is_another_programs(three: MemoryStore) -> None:
    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("HeadObject", "out/b.png"):
            refuse("400", 400, key)  # as for SSE-C

    three.on_call = on_call
    plan = planned(three, RULE)
    assert [one.key for one in plan.candidates] == ["out/a.png", "out/c.png"]
    assert plan.foreign_files == 1


def test_an_object_that_the_store_denies_to_show_stays_and_stops_no_other(three: MemoryStore) -> None:
    hidden = ["out/a.png"]

    def on_call(operation: str, key: str) -> None:
        if operation == "HeadObject" and key in hidden:
            refuse("403", 403, key)  # as for a KMS key that this access key may not use

    three.on_call = on_call
    plan = planned(three, RULE)
    assert [one.key for one in plan.candidates] == ["out/b.png", "out/c.png"]
    assert [key for key, cause in plan.unchecked if cause] == ["out/a.png"]
    assert (plan.foreign_files, plan.kept_files) == (0, 0)
    prune(three, None, plan)
    assert list(three.objects) == ["out/a.png"]
    hidden += ["out/b.png", "out/c.png"]
    with pytest.raises(StoreError):
        planned(three, RULE)  # nothing can be read


def test_favourites_stay_and_are_counted(three: MemoryStore) -> None:
    plan = planned(three, RULE, "out/a.png")
    assert [one.key for one in plan.candidates] == ["out/b.png", "out/c.png"]
    assert (plan.favorite_files, plan.favorite_bytes, plan.kept_files) == (1, 10, 1)
    # Their bytes count towards the size that may stay, and the next oldest goes in their place.
    plan = planned(three, PruneRule(keep_bytes=20), "out/a.png")
    assert [one.key for one in plan.candidates] == ["out/b.png"]


def test_another_archive_below_the_prefix_may_have_favourites_of_its_own(three: MemoryStore) -> None:
    other = "out/sub/.cloud-archive/v1/segments/a.gz"
    three.add(other, b"x")
    assert len(planned(three, RULE).candidates) == 3, "none of them is its"
    three.add("out/sub/c.png", b"x")
    with pytest.raises(CloudArchiveError, match="S3_PREFIX=out/sub, or add --favorites"):
        planned(three, RULE)
    rule = PruneRule(older_than_seconds=10, everything=True)
    plan = plan_prune(
        three, None, scope=KeyScope(PrefixTemplate.parse("out"), "out/sub"), rule=rule, now=WRITTEN + 100
    )
    assert [one.key for one in plan.candidates] == ["out/sub/c.png"], "its catalog stays in any case"


def test_what_became_a_favourite_after_the_plan_stays(three: MemoryStore) -> None:
    report = prune(three, None, planned(three, RULE), favorites=lambda keys: {"out/b.png"})
    assert report.failed == [("out/b.png", FAVORITE)]
    assert list(three.objects) == ["out/b.png"]


def test_where_favourites_cant_be_found_out_before_a_deletion_nothing_goes(three: MemoryStore) -> None:
    def unknown(keys: Sequence[str]) -> Set[str]:
        raise CloudArchiveError("Who knows.")

    report = prune(three, None, planned(three, RULE), favorites=unknown)
    assert (report.deleted, len(three.objects)) == (0, 3)
    assert {cause for _, cause in report.failed} == {"Not deleted: Who knows."}
    assert report.untried == 0


def test_the_objects_of_later_batches_count_as_not_tried(
    three: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown_at_b(keys: Sequence[str]) -> Set[str]:
        if "out/b.png" in keys:
            raise CloudArchiveError("Who knows.")
        return set()

    monkeypatch.setattr("cloud_archive.maintenance.prune.DELETE_BATCH", 1)
    report = prune(three, None, planned(three, RULE), favorites=unknown_at_b)
    assert (list(report.deleted_at), report.untried) == (["out/a.png"], 1)
    assert [key for key, _ in report.failed] == ["out/b.png"]
    assert prune(three, None, planned(three, RULE)).untried == 0


def test_a_store_that_stays_away_ends_the_run_and_is_not_asked_about_each_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    for name in "abcdef":
        store.add(f"out/{name}.png", b"x")
    plan = planned(store, RULE)
    store.calls.clear()
    monkeypatch.setattr("cloud_archive.maintenance.prune.DELETE_BATCH", 1)
    monkeypatch.setattr("cloud_archive.maintenance.retry.FIRST_PAUSE_SECONDS", 0)

    def on_call(operation: str, key: str) -> None:
        if operation == "ListObjectsV2" or (operation == "HeadObject" and key not in answered):
            refuse("ConnectTimeout", None, key)

    answered = {"out/a.png", "out/d.png"}
    store.on_call = on_call
    report = prune(store, None, plan)
    assert (list(report.deleted_at), report.untried) == (["out/a.png", "out/d.png"], 0)
    assert [key for key, _ in report.failed] == ["out/b.png", "out/c.png", "out/e.png", "out/f.png"]

    for name in "ad":
        store.add(f"out/{name}.png", b"x")
    answered = {"out/a.png"}
    store.calls.clear()
    report = prune(store, None, plan)
    assert (list(report.deleted_at), report.untried) == (["out/a.png"], 2)
    assert [key for key, _ in report.failed] == ["out/b.png", "out/c.png", "out/d.png"]
    assert {key for operation, key in store.calls if operation == "HeadObject"} == {
        f"out/{name}.png" for name in "abcd"
    }
    assert store.calls[-1][0] == "ListObjectsV2"


def test_ctrl_c_waits_for_no_head_that_hangs(three: MemoryStore, hang: Hanging) -> None:
    plan = planned(three, RULE)

    def on_call(operation: str, key: str) -> None:
        if operation == "HeadObject" and key == "out/a.png":
            assert hang.begun.wait(60)
            raise KeyboardInterrupt  # in a thread; the caller gets it from there
        if operation == "HeadObject":
            hang(key)

    three.on_call = on_call
    with pytest.raises(KeyboardInterrupt):
        planned(three, RULE)
    hang.begun.clear()
    report = prune(three, None, plan)
    assert isinstance(report.error, KeyboardInterrupt)
    assert (report.deleted, report.untried, hang.ended) == (0, 3, [])


def test_after_ctrl_c_a_store_that_hangs_leaves_the_rest_unknown(
    three: MemoryStore, hang: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("DeleteObject", "out/b.png"):
            raise KeyboardInterrupt
        if operation == "ListObjectsV2":
            hang(key)

    plan = planned(three, RULE)
    three.on_call = on_call
    monkeypatch.setattr("cloud_archive.maintenance.prune.DELETE_BATCH", 1)
    monkeypatch.setattr("cloud_archive.maintenance.prune.INTERRUPTED_SECONDS", 0)
    report = prune(three, None, plan)
    assert isinstance(report.error, KeyboardInterrupt)
    assert (list(report.deleted_at), report.failed) == (["out/a.png"], [("out/b.png", UNCHECKED)])
    assert (report.untried, hang.ended) == (1, [])


def test_after_ctrl_c_a_deletion_that_the_store_did_not_answer_is_no_refusal(
    three: MemoryStore, hang: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("DeleteObject", "out/a.png"):
            refuse("ReadTimeout", None, key)
        if (operation, key) == ("DeleteObject", "out/b.png"):
            refuse("AccessDenied", 403, key)
        if (operation, key) == ("DeleteObject", "out/c.png"):
            raise KeyboardInterrupt
        if operation == "ListObjectsV2":
            hang(key)

    plan = planned(three, RULE)
    three.on_call = on_call
    monkeypatch.setattr("cloud_archive.maintenance.prune.INTERRUPTED_SECONDS", 0)
    report = prune(three, None, plan)
    assert dict(report.failed) == {"out/a.png": UNCHECKED, "out/b.png": DENIED, "out/c.png": UNCHECKED}


def test_after_ctrl_c_objects_are_listed_only_once_the_deletion_has_ended(
    three: MemoryStore, hang: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("DeleteObject", "out/b.png"):
            hang(key)

    def about_to_delete(keys: Sequence[str]) -> Set[str]:
        deleting.set()
        return set()

    def find_after_end(seconds: float, find: Callable[[], Any], name: str) -> Any:
        hang.end()
        return find()

    class Interrupted(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            if deleting.is_set():
                deleting.clear()
                assert hang.begun.wait(60)
                raise KeyboardInterrupt
            return super().result(timeout)

    deleting = threading.Event()
    plan = planned(three, RULE)
    three.on_call = on_call
    monkeypatch.setattr("cloud_archive.executor.Future", Interrupted)
    monkeypatch.setattr("cloud_archive.maintenance.prune.call_within", find_after_end)
    report = prune(three, None, plan, favorites=about_to_delete)
    assert isinstance(report.error, KeyboardInterrupt)
    assert list(report.deleted_at) == ["out/a.png", "out/b.png"]
    assert report.failed == [("out/c.png", NO_ANSWER)]
    assert list(three.objects) == ["out/c.png"]


class InUse:
    """A ledger with one old archived version of a.png, whose object a plan names; newer versions have its bytes."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.add("out/a.png", b"x")
        self.ledger = Ledger(None)
        self.ledger.open()
        self.archive(1)
        scope = KeyScope(PrefixTemplate.parse("out"))
        rule = PruneRule(older_than_seconds=10, everything=True)
        self.plan = plan_prune(self.store, self.ledger, scope=scope, rule=rule, now=WRITTEN + 100)

    def archive(self, mtime_ns: int) -> None:
        version = FileVersion("a.png", 1, mtime_ns)
        self.ledger.add([version])
        claim = self.ledger.claim("test")
        assert claim is not None
        sha256 = hashlib.sha256(b"x").hexdigest()
        mark_archived(self.ledger, claim, key="out/a.png", sha256=sha256, etag=None)

    @property
    def states(self) -> list[str]:
        """Of all rows, the oldest first."""
        return [row.state.word for row in reversed(self.ledger.rows())]


@pytest.fixture
def in_use() -> Iterator[InUse]:
    made = InUse()
    yield made
    made.ledger.close()


def test_an_object_that_proves_a_newer_version_since_the_plan_stays(in_use: InUse) -> None:
    in_use.archive(2)
    report = prune(in_use.store, in_use.ledger, in_use.plan)
    assert report.failed == [("out/a.png", IN_USE)]
    assert list(in_use.store.objects) == ["out/a.png"]
    assert in_use.states == ["archived", "archived"]


def test_a_version_that_an_object_proved_right_before_its_deletion_is_queued_again(in_use: InUse) -> None:
    delete = in_use.store.delete

    def archived_meanwhile(keys: Sequence[str]) -> Iterator[Any]:
        in_use.archive(2)  # its HEAD came before the deletion
        yield from delete(keys)

    in_use.store.delete = archived_meanwhile  # type: ignore[method-assign]
    report = prune(in_use.store, in_use.ledger, in_use.plan)
    assert (report.deleted, report.failed) == (1, [])
    assert in_use.states == ["pruned", "pending"]


def test_an_archive_that_can_not_see_the_lock_leaves_no_row_archived_without_its_object(
    in_use: InUse,
) -> None:
    """The lock file of another user's `prune` can't be opened, and then counts as held."""
    delete = in_use.store.delete

    def looked_up_meanwhile(keys: Sequence[str]) -> Iterator[Any]:
        clock = in_use.ledger.clock
        in_use.ledger.clock = lambda: clock() + PENDING_SECONDS + 1  # the store is slow
        archive = in_use.ledger, in_use.store, lambda gone: None
        assert finish_interrupted_prune(*archive, destination="memory/bucket", holds_lock=True)
        assert in_use.states == ["archived"]
        yield from delete(keys)

    in_use.store.delete = looked_up_meanwhile  # type: ignore[method-assign]
    deletions.forget_other_destinations(in_use.ledger, "memory/bucket")
    report = prune(in_use.store, in_use.ledger, in_use.plan)
    assert (report.deleted, report.failed) == (1, [])
    assert in_use.states == ["pruned"]


def test_rows_that_were_archived_since_the_plan_are_read_once_for_all_batches(
    in_use: InUse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.maintenance.prune.DELETE_BATCH", 1)
    for name in "bcd":
        in_use.store.add(f"out/{name}.png", b"x")
    scope = KeyScope(PrefixTemplate.parse("out"))
    rule = PruneRule(older_than_seconds=10, everything=True)
    plan = plan_prune(in_use.store, in_use.ledger, scope=scope, rule=rule, now=WRITTEN + 100)
    in_use.ledger.add([FileVersion("d.png", 1, 2)])
    claim = in_use.ledger.claim("test")
    assert claim is not None
    mark_archived(in_use.ledger, claim, key="out/d.png", sha256=hashlib.sha256(b"x").hexdigest(), etag=None)
    times = itertools.count(in_use.ledger.clock(), 1000.0)
    in_use.ledger.clock = lambda: next(times)
    read: list[float] = []

    def rows_archived_since(ledger: Ledger, since: float) -> list[tuple[int, str]]:
        read.append(since)
        return deletions.rows_archived_since(ledger, since)

    monkeypatch.setattr("cloud_archive.maintenance.prune.rows_archived_since", rows_archived_since)
    report = prune(in_use.store, in_use.ledger, plan)
    assert report.failed == [("out/d.png", IN_USE)]
    assert len(read) == 4
    assert read == sorted(set(read)), "each continues where the one before ended"
