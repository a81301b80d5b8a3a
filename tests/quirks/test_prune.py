"""`prune` in every dialect: it deletes exactly the archive's own objects, and the ledger records that."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.keys import PrefixTemplate
from cloud_archive.ledger.rows import FileState
from cloud_archive.maintenance.prune import prune
from cloud_archive.maintenance.prune_plan import PruneRule, plan_prune
from cloud_archive.scope import KeyScope
from cloud_archive.store.s3 import S3Store
from tests.integration.archives import PREFIX, Archive
from tests.quirks.batch import PROBE_KEY, early_parts
from tests.quirks.profiles import FAILS, PROFILES
from tests.quirks.server import Profile, QuirkServer
from tests.quirks.spoilt_answers import HangingAnswer, HtmlErrorPage, TruncatedAnswer, WrongLength
from tests.servers import S3Server

pytestmark = pytest.mark.store

FROM_THE_FUTURE = 1000.0  # seconds, so that every object is old
DELETIONS = frozenset({"DeleteObject", "DeleteObjects"})
DIALECTS: dict[str, Profile] = {
    name: profile() for name, profile in PROFILES.items() if name not in FAILS
} | {
    "deletions hang": HangingAnswer(operations=DELETIONS),
    "deletions are answered by a page": HtmlErrorPage(operations=DELETIONS),
    "answers to deletions are cut": TruncatedAnswer(operations=DELETIONS),
    "answers to deletions are too short": WrongLength(-40, operations=DELETIONS),
}
# A page answers the deletion, so nothing may be reported as deleted.
NOTHING_DELETED = "deletions are answered by a page"


@pytest.mark.parametrize("name", DIALECTS)
def test_prune_deletes_the_archives_own_objects_in_every_dialect(
    name: str, tmp_path: Path, seaweedfs: S3Server
) -> None:
    archive = Archive(tmp_path, seaweedfs)
    small = {f"{number} ü%.png": b"%d" % number for number in range(3)}
    for path, body in small.items():
        archive.write(path, body)
    archive.write("film.mp4", b"film" * 75_000)
    with early_parts():
        archive.archive_all()
    ours = set(seaweedfs.objects()) - {PROBE_KEY}
    theirs = {
        f"{PREFIX}/theirs.png": b"theirs",
        "outside.png": b"outside",
        f"{PREFIX}/film (1).mp4": b"film",
    }
    for key, body in theirs.items():
        seaweedfs.put(key, body)
    # Long enough for a busy machine; the deletion that hangs is waited for.
    seconds = 10.0 if name == "deletions hang" else 60.0
    make_store = partial(S3Store, connect_seconds=60, read_seconds=seconds)
    with QuirkServer(seaweedfs, DIALECTS[name]) as quirks:
        environ = archive.environ | {"S3_ENDPOINT_URL": quirks.url}
        with contextlib.closing(make_store(load_settings(environ))) as store, archive.ledger() as ledger:
            planned = partial(
                plan_prune,
                store,
                ledger,
                scope=KeyScope(PrefixTemplate.parse(PREFIX)),
                rule=PruneRule(older_than_seconds=10),
                now=time.time() + FROM_THE_FUTURE,
            )
            if name == "403 for missing":  # these credentials may not list
                with pytest.raises(StoreError, match="s3:ListBucket"):
                    planned()
                return
            plan = planned()
            assert {one.key for one in plan.candidates} == ours
            report = prune(store, ledger, plan)
            states = {row.state for row in ledger.rows()}
    objects = seaweedfs.objects()
    objects.pop(PROBE_KEY, None)
    if name == NOTHING_DELETED:
        assert (report.deleted, {key for key, _ in report.failed}) == (0, ours)
        assert states == {FileState.ARCHIVED}
        assert objects.keys() == ours | theirs.keys()
        return
    assert (report.deleted, report.failed) == (len(ours), [])
    assert states == {FileState.PRUNED}
    assert objects == theirs
