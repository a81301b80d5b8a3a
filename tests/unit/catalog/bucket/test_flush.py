"""Having everything written now: a flush that succeeds, is refused, or comes while an earlier one fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cloud_archive.catalog.bucket.writer import WRITE_AFTER_SECONDS
from cloud_archive.catalog.thumbnails.thumbnails import Thumbnails
from cloud_archive.errors import StoreError
from tests.memory_store import refuse
from tests.servers import wait_until

from ..cataloguing import Stage, png
from .machines import writer_of


def test_flush_writes_at_once_and_says_where_the_store_refuses(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    writer = writer_of(stage, may_write=lambda: False)
    writer.start()
    try:
        tries = []

        def fail(operation: str, key: str) -> None:
            tries.append(key)
            refuse("SlowDown" if len(tries) == 1 else "AccessDenied", 503 if len(tries) == 1 else 403, key)

        stage.store.on_call = fail
        assert not writer.flush(60.0)
        assert len(tries) == 2
        assert writer.trouble is not None
        stage.store.on_call = lambda operation, key: None
        assert writer.flush(60.0)
        assert writer.unwritten() == 0
        assert not writer.trouble
        assert writer.flush(60.0)
    finally:
        writer.stop()


def test_a_flush_that_is_requested_while_an_earlier_one_fails_is_tried(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    writer = writer_of(stage)
    requested = []

    def fail(operation: str, key: str) -> None:
        stage.store.on_call = lambda operation, key: None
        requested.append(writer.request())
        refuse("AccessDenied", 403, key)

    stage.store.on_call = fail
    first = writer.request()
    writer.start()
    try:
        wait_until(lambda: bool(requested) and writer._served >= requested[0], "written")
        assert writer._refused == first
        assert writer.unwritten() == 0
    finally:
        writer.stop()


def test_a_refused_flush_does_not_keep_rows_from_being_written_later(stage: Stage, tmp_path: Path) -> None:
    stage.archive("a.png", png("a fox"))
    stage.fill()
    thumbnails = Thumbnails(tmp_path, stage.root, stage.store)
    thumbnails.open()
    later = [0.0]
    writer = writer_of(
        stage,
        thumbnails=thumbnails,
        clock=lambda: time.time() + later[0],
    )
    stage.store.on_call = lambda operation, key: refuse("AccessDenied", 403, key)
    writer.request()
    with pytest.raises(StoreError) as refused:
        writer._step()
    writer._postpone(refused.value, writer._wanted)
    stage.store.on_call = lambda operation, key: None
    later[0] = WRITE_AFTER_SECONDS + 60
    writer._retry_at = 0.0
    assert writer._step() == 0.0
    thumbnails.close()
    assert writer.unwritten() == 0
