"""The whole pipeline while the store is away or refuses, and what is retried."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from tests.integration.pipelines import archiving, flush_all, wait_for_status
from tests.quirks.server import Answer, Forward, Profile, QuirkServer, Request
from tests.servers import S3Server, is_catalog_key, wait_until

pytestmark = pytest.mark.store


def test_a_key_rendered_before_midnight_is_kept_by_a_retry_after_it(
    tmp_path: Path, own_seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Frozen(datetime):
        day = 1

        @classmethod
        def now(cls, tz: Any = None) -> Frozen:
            return cls(2026, 4, cls.day, 23, 59, 59)

    monkeypatch.setattr("cloud_archive.archive.pipeline.datetime", Frozen)
    root = tmp_path / "output"
    assert own_seaweedfs.embedded is not None
    own_seaweedfs.embedded.stop()
    with archiving(root, own_seaweedfs, tmp_path / "state", S3_PREFIX="{Y}-{m}-{d}") as engine:
        (root / "a.png").write_bytes(b"a")
        wait_until(lambda: engine.archiver().refusal is not None, "its first attempt failed")
        Frozen.day = 2
        own_seaweedfs.embedded.start()
        (root / "b.png").write_bytes(b"b")
        # `retry` skips the pauses.
        wait_until(lambda: bool(engine.retry()) and engine.flush(1.0), "all is there", 60)
    assert own_seaweedfs.keys() == ["2026-04-01/a.png", "2026-04-02/b.png"]


def test_a_store_that_is_away_pauses_the_queue_and_recovers_by_itself(
    tmp_path: Path, own_seaweedfs: S3Server
) -> None:
    root = tmp_path / "output"
    assert own_seaweedfs.embedded is not None
    own_seaweedfs.embedded.stop()
    with archiving(root, own_seaweedfs, tmp_path / "state") as engine:
        for number in range(500):
            (root / f"{number:03}.png").write_bytes(b"%d" % number)
        status = wait_for_status(
            engine, lambda s: s.state.value == "retrying" and s.pending_files == 500, "all wait"
        )
        assert not status.safe_to_stop
        assert any("connection was refused" in error for error in status.errors)
        assert len(status.errors) <= 10
        own_seaweedfs.embedded.start()
        assert flush_all(engine, 60).errors == ()
    assert len(own_seaweedfs.keys()) == 500


def test_a_missing_bucket_is_named_and_when_it_is_there_the_queue_drains(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    root = tmp_path / "output"
    bucket = f"late-{os.urandom(4).hex()}"
    with archiving(root, seaweedfs, tmp_path / "state", S3_BUCKET=bucket) as engine:
        for number in range(20):
            (root / f"{number}.png").write_bytes(b"%d" % number)
        status = wait_for_status(engine, lambda s: s.state.value == "retrying", "it waits")
        assert any("bucket does not exist" in error for error in status.errors)
        seaweedfs.make_bucket(bucket)
        flush_all(engine, 60)
    found = seaweedfs.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert len([entry for entry in found if not is_catalog_key(entry["Key"])]) == 20


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("S3_ACCESS_KEY_ID", "does not know this access key"),
        ("S3_SECRET_ACCESS_KEY", "rejects the signature"),
    ],
)
def test_a_wrong_key_is_named_without_the_secret(
    tmp_path: Path, seaweedfs: S3Server, variable: str, said: str
) -> None:
    root = tmp_path / "output"
    wrong: dict[str, Any] = {variable: "WRONG-SECRET-VALUE"}
    with archiving(root, seaweedfs, tmp_path / "state", **wrong) as engine:
        (root / "a.png").write_bytes(b"a")
        status = wait_for_status(engine, lambda s: s.state.value == "retrying", "it waits")
        assert any(said in error for error in status.errors)
        assert "WRONG-SECRET-VALUE" not in str(status.to_json())


def test_a_key_that_is_too_long_fails_with_a_clear_message(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        deep = root / ("d" * 200) / ("e" * 200) / ("f" * 200) / ("g" * 200)
        deep.mkdir(parents=True)
        (deep / ("h" * 240)).write_bytes(b"x")
        (root / "fine.png").write_bytes(b"y")
        status = wait_for_status(engine, lambda s: s.failed_files == 1 and s.uploaded_files == 1, "one each")
        assert any("1,024 are allowed" in error for error in status.errors)
        assert not engine.flush(0.5)
    assert seaweedfs.keys() == ["out/fine.png"]


class _Firewall(Profile):
    """A firewall that refuses some uploads with a web page, and lets the others through.

    https://developers.cloudflare.com/rules/custom-errors/reference/error-page-types/ (a WAF block is a 403).
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation == "PutObject" and "blocked" in request.key:
            headers = CIMultiDict({"Content-Type": "text/html; charset=UTF-8"})
            return Answer(403, headers, b"<!DOCTYPE html><title>Attention Required!</title>")
        return await forward(request)


def test_files_that_a_firewall_refuses_hold_no_others_back(tmp_path: Path, seaweedfs: S3Server) -> None:
    """They are the smallest, so they would be tried first."""
    with (
        QuirkServer(seaweedfs, _Firewall()) as proxy,
        archiving(
            tmp_path / "out",
            seaweedfs,
            tmp_path / "state",
            S3_ENDPOINT_URL=proxy.url,
            CLOUD_ARCHIVE_WORKERS="1",
        ) as engine,
    ):
        for number in range(3):
            (tmp_path / "out" / f"blocked{number}.txt").write_bytes(b"<script>")
        wait_for_status(engine, lambda status: status.to_json()["pending_files"] == 3, "they wait")
        for number in range(20):
            (tmp_path / "out" / f"{number}.png").write_bytes(b"picture %d" % number)
        # For a moment, one of them may be tried again.
        done = wait_for_status(
            engine,
            lambda s: s.uploaded_files == 20 and s.state.value == "retrying",
            "the others are archived",
        )
        assert (done.safe_to_stop, done.to_json()["pending_files"]) == (False, 3)
