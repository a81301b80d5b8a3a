"""`prune` on stores in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cloud_archive.keys import PrefixTemplate
from cloud_archive.maintenance.prune import PruneRule, plan_prune, prune
from cloud_archive.scope import KeyScope
from cloud_archive.store.base import ObjectInfo
from tests.memory_store import WRITTEN, MemoryStore

RULE = PruneRule(older_than_seconds=10)


class TwoTimes(MemoryStore):
    """Lists objects with the time of their file, an hour before their time of writing."""

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        for info in super().list(prefix, limit=limit):
            assert info.last_modified is not None
            yield replace(info, last_modified=info.last_modified - timedelta(hours=1))


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
