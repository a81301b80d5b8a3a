"""The whole pipeline against every dialect: fifty mixed files, nothing lost, nothing overwritten, nothing left behind.

One archiver alone keeps that promise in every dialect. Where the store ignores or refuses create-only writes
(`RACES` below), a HEAD precedes each write, and two archivers that write one name at the same moment may still collide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.config.settings import load_settings
from cloud_archive.maintenance.check import run_check
from cloud_archive.store import address as s3_address
from cloud_archive.store.s3 import S3Store
from tests.integration.pipelines import wait_until_safe
from tests.quirks.batch import PREFIX, PROBE_KEY, early_parts, make_batch
from tests.quirks.profiles import FAILS, PROFILES, AlibabaOverwrite, WasabiThrottle, WriteOnly
from tests.quirks.server import Profile, QuirkServer
from tests.quirks.spoilt_answers import HangingAnswer, HtmlErrorPage, Sometimes, TruncatedAnswer, WrongLength
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store


@pytest.fixture(autouse=True)
def _short_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause before the second HEAD: no other program writes in these tests."""
    monkeypatch.setattr("cloud_archive.upload.uploader.CONFIRM_AFTER_SECONDS", 0.2)


BATCH = make_batch()

# Here a write replaces an existing object, so that two archivers can collide in the moment between the HEAD
# and the write. All other stores refuse, which leaves no race.
RACES = frozenset(
    {"b2", "501 on conditionals", "gcs", "silent overwrite", "oss", "spaces, hetzner", "ceph", "s3rver"}
)


@pytest.fixture(autouse=True)
def _early_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # With a key that may not read, the catalog is refused twice, with this pause, before it goes on.
    monkeypatch.setattr("cloud_archive.catalog.filler.TROUBLE_SECONDS", 0.1)
    with early_parts():
        yield


@contextmanager
def archiving(root: Path, environ: dict[str, str], *, read_seconds: float = 60.0) -> Iterator[Engine]:
    settings = {"S3_PREFIX": PREFIX, "CLOUD_ARCHIVE_SETTLE_SECONDS": "0.2"} | environ
    root.mkdir(exist_ok=True)
    engine = Engine(
        root,
        state_base=root.parent / "state",
        environ=settings,
        make_store=partial(S3Store, connect_seconds=60, read_seconds=read_seconds),
    )
    engine.start(autostart=True)
    try:
        yield engine
    finally:
        engine.close(10)


def flush_all(engine: Engine, seconds: float = 60.0) -> None:
    assert engine.flush(seconds), engine.status().to_json()
    status = wait_until_safe(engine)
    assert (status.failed_files, status.errors) == (0, ())


def assert_all_there(server: S3Server, *, equal_again: bool = False, left: Sequence[str] = ()) -> None:
    found = server.differing(BATCH.expected(equal_again=equal_again))
    assert [key for key in found if key != PROBE_KEY] == []
    assert sorted(unfinished(server)) == sorted(left)


def unfinished(server: S3Server) -> list[str]:
    found = server.client.list_multipart_uploads(Bucket=server.bucket)
    return [upload["Key"] for upload in found.get("Uploads", [])]


def make_profile(name: str) -> Profile:
    """Return a profile by its name, with faults so rare that fifty files end soon."""
    profile = PROFILES[name]()
    if isinstance(profile, WasabiThrottle):
        profile.every = 7
    if isinstance(profile, Sometimes):
        profile.every = 12 if isinstance(profile, HangingAnswer) else 4
    return profile


# `plain` is SeaweedFS itself, which is among the servers below.
WORKS = [name for name in PROFILES if name not in FAILS and name != "plain"]


@pytest.mark.parametrize("name", WORKS)
def test_fifty_mixed_files_arrive_in_every_dialect(name: str, tmp_path: Path, seaweedfs: S3Server) -> None:
    BATCH.write_objects(seaweedfs)
    with (
        QuirkServer(seaweedfs, make_profile(name)) as quirks,
        archiving(
            tmp_path / "output",
            seaweedfs.environ(S3_ENDPOINT_URL=quirks.url),
            read_seconds=1.0 if name == "hanging" else 60.0,
        ) as engine,
    ):
        BATCH.write_files(tmp_path / "output")
        if name == "hanging":  # on a busy machine, its short time limit also ends requests that don't hang
            wait_until(partial(retry_and_check, engine), "all is there")
        flush_all(engine)
        wait_until(lambda: unfinished(seaweedfs) == [], "uploads that began without an answer are aborted")
    assert_all_there(seaweedfs)


def test_fifty_mixed_files_arrive_at_every_server(tmp_path: Path, any_s3: S3Server) -> None:
    BATCH.write_objects(any_s3)
    with archiving(tmp_path / "output", any_s3.environ()) as engine:
        BATCH.write_files(tmp_path / "output")
        flush_all(engine)
    assert_all_there(any_s3)


@pytest.mark.parametrize(
    "profile",
    [TruncatedAnswer(), WrongLength(-40), WrongLength(100), HangingAnswer(), HtmlErrorPage()],
    ids=["truncated", "cut short", "too long", "hanging", "html"],
)
def test_files_whose_every_answer_is_lost_once_arrive_once(
    profile: Sometimes, tmp_path: Path, seaweedfs: S3Server
) -> None:
    """The answers to CreateMultipartUpload, each UploadPart, Complete (boto3 reports a 500), and PutObject."""
    root = tmp_path / "output"
    large, small = BATCH.files["films/taken.mp4"], b"small"
    seconds = 1.0 if isinstance(profile, HangingAnswer) else 60.0
    seaweedfs.put(f"{PREFIX}/small.png", b"taken")
    with (
        QuirkServer(seaweedfs, profile) as quirks,
        archiving(root, seaweedfs.environ(S3_ENDPOINT_URL=quirks.url), read_seconds=seconds) as engine,
    ):
        (root / "film.mp4").write_bytes(large)
        (root / "small.png").write_bytes(small)
        wait_until(partial(retry_and_check, engine), "all is there")
        flush_all(engine)
        wait_until(lambda: unfinished(seaweedfs) == [], "uploads that began without an answer are aborted")
        spoilt = {operation for operation, _ in profile.spoilt}
    objects = seaweedfs.objects()
    objects.pop(PROBE_KEY, None)
    assert objects == {
        f"{PREFIX}/film.mp4": large,
        f"{PREFIX}/small.png": b"taken",
        f"{PREFIX}/small (1).png": small,
    }
    assert {"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"} <= spoilt


def retry_and_check(engine: Engine) -> bool:
    engine.retry()  # instead of waiting for its pauses
    engine.flush(0.3)
    return engine.status().safe_to_stop


def wait_for_error(engine: Engine, sentence: str) -> None:
    wait_until(lambda: any(sentence in error for error in engine.status().errors), f"it says {sentence!r}")

    def is_counted() -> bool:
        # Where only writes fail, files whose equal bytes the bucket holds already are archived.
        status = engine.status()
        return status.pending_files + status.already_archived_files == len(BATCH.files)

    # For a moment a file is no longer pending in the ledger, and not yet counted as archived in the session.
    wait_until(is_counted, "each file is pending or archived already")
    status = engine.status()
    assert not status.safe_to_stop
    assert status.uploaded_files == 0
    assert len(status.errors) <= 10, "one cause is not fifty errors"


@pytest.mark.parametrize(
    ("name", "sentence", "cure"),
    [
        ("wrong clock", "seconds behind the store's", {}),
        ("html everywhere", "not as an S3 store does", {}),
        ("html with etag", "not as an S3 store does", {}),
        ("page for writes", "not as an S3 store does", {}),
        ("303 for writes", "only redirects to http://login.example", {}),
        ("redirect to https", "only redirects to https://store.example", {}),
        ("untold region", "Set S3_REGION", {"S3_REGION": "eu-central-1"}),
    ],
)
def test_what_cannot_work_is_explained_and_loses_nothing_until_it_is_cured(
    name: str, sentence: str, cure: dict[str, str], tmp_path: Path, seaweedfs: S3Server
) -> None:
    root = tmp_path / "output"
    BATCH.write_objects(seaweedfs)
    with QuirkServer(seaweedfs, PROFILES[name]()) as quirks:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=quirks.url)
        with archiving(root, environ) as engine:
            BATCH.write_files(root)
            wait_until(lambda: engine.status().total_files == len(BATCH.files), "all are seen")
            wait_for_error(engine, sentence)
            assert sorted(seaweedfs.keys()) == sorted(f"{PREFIX}/{key}" for key in BATCH.existing)
            if not cure:
                quirks.profile = Profile()  # the user sets the clock, or corrects the proxy
                engine.retry()
                flush_all(engine)
        if cure:
            with archiving(root, environ | cure) as engine:
                engine.retry()
                flush_all(engine)
    assert_all_there(seaweedfs)


def test_alibabas_own_header_makes_its_store_refuse_to_overwrite(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = s3_address.forbid_overwrite_handler("https://oss-cn-hangzhou.aliyuncs.com")
    monkeypatch.setattr(s3_address, "forbid_overwrite_handler", lambda _url: add)
    BATCH.write_objects(seaweedfs)
    with QuirkServer(seaweedfs, AlibabaOverwrite()) as quirks:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=quirks.url, S3_PREFIX=PREFIX)
        with archiving(tmp_path / "output", environ) as engine:
            BATCH.write_files(tmp_path / "output")
            flush_all(engine)
        steps = {step.name: step for step in run_check(lambda: load_settings(environ))}
    assert_all_there(seaweedfs)
    assert (steps["create-only"].ok, steps["create-only"].cause) == (True, "")


# --- keys with few rights


def test_a_key_that_may_only_put_archives_everything(tmp_path: Path, seaweedfs: S3Server) -> None:
    """The archive can't see that equal bytes are there already, so those arrive again under the next name."""
    BATCH.write_objects(seaweedfs)
    with archiving(tmp_path / "output", seaweedfs.put_only()) as engine:
        BATCH.write_files(tmp_path / "output")
        flush_all(engine)
    assert_all_there(seaweedfs, equal_again=True)


def test_an_upload_that_a_key_may_not_abort_is_reported_with_the_missing_right(
    tmp_path: Path, seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    BATCH.write_objects(seaweedfs)
    with (
        QuirkServer(seaweedfs, WriteOnly()) as quirks,
        archiving(tmp_path / "output", seaweedfs.environ(S3_ENDPOINT_URL=quirks.url)) as engine,
    ):
        BATCH.write_files(tmp_path / "output")
        flush_all(engine)
    assert_all_there(seaweedfs, equal_again=True, left=[PROBE_KEY, f"{PREFIX}/films/taken.mp4"])
    (said,) = [
        text for text in caplog.messages if "could not be aborted" in text and "films/taken.mp4" in text
    ]
    assert "s3:AbortMultipartUpload" in said


def test_a_key_that_may_put_and_get_archives_everything_and_knows_what_is_there(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    BATCH.write_objects(seaweedfs)
    with archiving(tmp_path / "output", seaweedfs.put_get()) as engine:
        BATCH.write_files(tmp_path / "output")
        flush_all(engine)
    assert_all_there(seaweedfs)


# --- TLS


def test_a_self_signed_endpoint_is_refused_with_the_cure_and_works_with_it(
    tmp_path: Path, tls_seaweedfs: S3Server
) -> None:
    root = tmp_path / "output"
    BATCH.write_objects(tls_seaweedfs)
    environ = tls_seaweedfs.environ()
    bundle = environ.pop("S3_CA_BUNDLE")
    with archiving(root, environ) as engine:
        BATCH.write_files(root)
        wait_until(lambda: engine.status().total_files == len(BATCH.files), "all are seen")
        wait_for_error(engine, "Set S3_CA_BUNDLE")
    with archiving(root, environ | {"S3_CA_BUNDLE": bundle}) as engine:
        engine.retry()
        flush_all(engine)
    assert_all_there(tls_seaweedfs)


# --- the check


@pytest.mark.parametrize("name", PROFILES)
def test_the_check_is_right_about_every_dialect(name: str, seaweedfs: S3Server) -> None:
    with QuirkServer(seaweedfs, make_profile(name)) as quirks:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=quirks.url, S3_PREFIX=PREFIX)
        steps = run_check(
            lambda: load_settings(environ),
            make_store=partial(S3Store, connect_seconds=60, read_seconds=60),
        )
    failed = [(step.name, step.cause, step.cure) for step in steps if step.ok is False]
    found = {step.name: step for step in steps}
    if name in FAILS:
        ((step, cause, cure),) = failed
        assert step == FAILS[name][0]
        assert FAILS[name][1] in cause + cure
        return
    assert failed == []
    assert ("can't refuse to overwrite" in found["create-only"].cause) == (name in RACES)
    assert ("can't refuse to overwrite large files" in found["create-only"].cause) == (
        name in ("spaces, hetzner", "ceph")
    )
    assert ("that way" in found["create-only"].cause) == (name == "swift")
    assert ("{session_id}" in found["create-only"].cure) == (name in RACES)
    assert ("drops metadata (sha256, mtime, path)" in found["read back"].cause) == (name == "no metadata")
    assert ("Content-MD5" in found["write"].cause) == (name in ("b2", "b2 checksums", "gcs"))
    assert ("read back" in found["write"].cause) == (name == "random etags")
    assert set(seaweedfs.keys()) <= {PROBE_KEY}
    assert unfinished(seaweedfs) == []
