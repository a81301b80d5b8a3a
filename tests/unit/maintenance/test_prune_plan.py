"""When an object is still the one that was planned."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from cloud_archive.ledger.history import mark_freed
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import FileState
from cloud_archive.maintenance.prune_plan import TIME_SLACK_SECONDS, PruneCandidate, PrunePlan, no_favorites
from cloud_archive.store.base import ObjectInfo
from tests.archived_rows import mark_archived
from tests.functional.archives import added

PLANNED = PruneCandidate("out/a.png", 10, 1000.0, "etag")
FOUND = ObjectInfo("out/a.png", 10, "etag", None, None, {}, datetime.fromtimestamp(1000, timezone.utc))


@pytest.mark.parametrize(
    ("size", "etag", "same"),
    [(10, "etag", True), (11, "etag", False), (10, "other", False), (10, None, True)],
)
def test_size_and_etag_tell_other_bytes(size: int, etag: str | None, same: bool) -> None:
    assert PLANNED.has_same_bytes(FOUND._replace(size_bytes=size, etag=etag)) is same
    if etag is None:
        assert replace(PLANNED, etag=None).has_same_bytes(FOUND)


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_time_may_differ_by_less_than_a_listing_rounds(direction: int) -> None:
    def at(difference: float) -> ObjectInfo:
        moment = datetime.fromtimestamp(1000 + direction * difference, timezone.utc)
        return FOUND._replace(last_modified=moment)

    assert PLANNED.has_same_time(at(TIME_SLACK_SECONDS / 2))
    assert not PLANNED.has_same_time(at(TIME_SLACK_SECONDS))
    assert not PLANNED.has_same_time(FOUND._replace(last_modified=None))


def test_an_object_is_the_only_copy_once_every_local_file_is_gone(root: Path) -> None:
    ledger = Ledger(None)
    ledger.open()
    for name in ("a.png", "b.png"):
        claim = ledger.claim_version("test", added(ledger, root, name, b"x"))
        assert claim is not None
        mark_archived(ledger, claim, key="out/a.png", sha256="00" * 32, etag="etag")

    def candidate() -> PruneCandidate:
        return replace(PLANNED, rows=tuple(ledger.rows(states=(FileState.ARCHIVED,), limit=9)))

    one, other = candidate().rows
    assert not candidate().only_copy
    mark_freed(ledger, [one.row])
    assert not candidate().only_copy
    mark_freed(ledger, [other.row])
    assert candidate().only_copy
    assert not PLANNED.only_copy, "without a ledger nothing is known"
    ledger.close()


def test_a_plan_is_as_large_as_what_it_deletes() -> None:
    assert PrunePlan([PLANNED, replace(PLANNED, size_bytes=5)], kept_bytes=100).size_bytes == 15
    assert not no_favorites(["out/a.png"])
