"""A refused HEAD has no body: the archive finds the cause by a request whose answer has one, and names it once."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import gate
from cloud_archive.archive.engine import Engine
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import FailureScope, StoreError
from cloud_archive.maintenance.check import has_no_failure, run_check
from cloud_archive.maintenance.verify import verify
from cloud_archive.store.base import CreateOnly
from cloud_archive.store.s3 import S3Store
from tests.integration.archives import Archive
from tests.quirks.machines import Machine
from tests.quirks.profiles import BackblazeCaps
from tests.quirks.server import Answer, Forward, Profile, QuirkServer, Request, error
from tests.quirks.whole_stores import Swift
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store

PUT: dict[str, Any] = {
    "sha256": hashlib.sha256(b"1").hexdigest(),
    "content_type": "image/png",
    "metadata": {},
    "create_only": True,
}


def test_a_wrong_region_that_the_store_names_is_corrected_and_reported(
    seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    with QuirkServer(seaweedfs, Swift(region="us-east-1")) as quirks:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=quirks.url, S3_REGION="eu-central-1")
        store = S3Store(load_settings(environ))
        assert store.head("a.png") is None
        with caplog.at_level(logging.WARNING, logger="cloud_archive"):
            store.put("a.png", b"1", **PUT | {"create_only": False})
            store.put("b.png", b"1", **PUT | {"create_only": False})
        store.close()
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 1
        assert "the bucket is in the region us-east-1: set S3_REGION" in said[0]
        steps = run_check(lambda: load_settings(environ))
        assert has_no_failure(steps)
        (bucket,) = (step for step in steps if step.name == "bucket")
        assert "us-east-1, not eu-central-1" in bucket.cause
        assert "S3_REGION=us-east-1" in bucket.cure
    assert seaweedfs.read("a.png") == b"1"


def test_a_wrong_region_is_named_where_the_sdk_cannot_correct_it(seaweedfs: S3Server) -> None:
    with QuirkServer(seaweedfs, Swift(region="us-east-1", names_region=False)) as quirks:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=quirks.url, S3_REGION="eu-central-1")
        store = S3Store(load_settings(environ))
        with pytest.raises(StoreError, match="S3_REGION=us-east-1"):
            store.head("a.png")
        store.close()
        failed = [step for step in run_check(lambda: load_settings(environ)) if step.ok is False]
        assert [step.name for step in failed] == ["bucket"]
        assert "S3_REGION=us-east-1" in failed[0].cure


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"S3_SECRET_ACCESS_KEY": "planted+WRONG"}, "SignatureDoesNotMatch"),
        ({"S3_ACCESS_KEY_ID": "AKIAWRONG"}, "InvalidAccessKeyId"),
    ],
)
def test_wrong_credentials_are_named_by_a_head_and_by_verify_once(
    seaweedfs: S3Server, tmp_path: Path, wrong: dict[str, str], code: str
) -> None:
    store = S3Store(load_settings(seaweedfs.environ(**wrong)))
    with pytest.raises(StoreError) as raised:
        store.head("a.png")
    assert raised.value.failure.code == code
    assert "S3_ACCESS_KEY_ID" in str(raised.value)
    assert code != "SignatureDoesNotMatch" or "S3_SECRET_ACCESS_KEY" in str(raised.value)
    store.close()

    archive = Archive(tmp_path, seaweedfs)
    for number in range(5):
        (archive.root / f"{number}.png").write_bytes(b"%d" % number)
    archive.archive_all()
    findings: list[object] = []
    with archive.ledger() as ledger, archive.store(**wrong) as refused, pytest.raises(StoreError) as raised:
        verify(ledger, refused, archive.root, on_finding=findings.append)
    assert raised.value.failure.code == code
    assert findings == []


def test_a_wrong_secret_never_says_that_an_object_would_be_replaced(
    seaweedfs: S3Server,
    root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(gate, name, 600.0)  # so that no second file is tried
    environ = seaweedfs.environ(
        S3_SECRET_ACCESS_KEY="planted+WRONG",
        CLOUD_ARCHIVE_SETTLE_SECONDS="0.1",
        CLOUD_ARCHIVE_WORKERS="1",
    )
    engine = Engine(root, state_base=tmp_path / "state", environ=environ)
    with caplog.at_level(logging.INFO, logger="cloud_archive"):
        engine.start(autostart=True)
        try:
            for number in range(3):
                (root / f"{number}.png").write_bytes(b"1")
            wait_until(lambda: "will be retried" in caplog.text, "a file was refused")
            wait_until(lambda: engine.status().to_json()["pending_files"] == 3, "all files wait")
            errors = engine.status().errors
        finally:
            engine.close(0.5)
    assert caplog.text.count("will be retried") == 1
    assert "would be replaced" not in caplog.text
    assert all("S3_SECRET_ACCESS_KEY" in sentence for sentence in errors), errors
    assert len(errors) == len(set(errors)) <= 2, errors


def test_a_key_that_may_not_head_costs_one_more_request_once(seaweedfs: S3Server) -> None:
    store = S3Store(load_settings(seaweedfs.put_only()))
    asked: list[str] = []
    original = store._requests.call

    def counted(operation: str, *arguments: Any, **parameters: Any) -> Any:
        asked.append(operation)
        return original(operation, *arguments, **parameters)

    store._requests.call = counted  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(StoreError) as raised:
            store.head("a.png")
        assert raised.value.status == 403
        assert "send HEAD requests" in raised.value.failure.cause
    assert asked.count("GetObject") == 1
    assert "ListObjectsV2" not in asked
    store.close()


def test_nothing_is_overwritten_while_a_cap_forbids_heads(tmp_path: Path, seaweedfs: S3Server) -> None:
    seaweedfs.put("out/a.png", b"of another machine")
    caps = BackblazeCaps("download bandwidth or transaction (Class B)")
    with QuirkServer(seaweedfs, caps) as quirks:
        machine = Machine(tmp_path / "machine", seaweedfs, quirks)
        # As if an earlier session had probed this store. The first HEAD may or may not come before the cap.
        machine.store.remember(
            checksum="md5", create_only=CreateOnly.REJECTED, create_only_multipart=CreateOnly.REJECTED
        )
        for _ in range(2):
            caps.reached = True
            claim = machine.claim("a.png", b"mine")
            with pytest.raises(StoreError) as raised:
                machine.retry(claim)
            failure = raised.value.failure
            assert (failure.code, failure.scope, failure.transient) == (
                "CapExceeded",
                FailureScope.STORE,
                True,
            )
            assert "Caps & Alerts" in failure.cure
            caps.reached = False
            assert machine.retry(claim).key == "out/a (1).png"
        machine.store.close()
    assert seaweedfs.objects() == {"out/a.png": b"of another machine", "out/a (1).png": b"mine"}


def test_a_full_account_is_no_lack_of_rights(tmp_path: Path, seaweedfs: S3Server) -> None:
    with QuirkServer(seaweedfs, BackblazeCaps("storage")) as quirks:
        machine = Machine(tmp_path / "machine", seaweedfs, quirks)
        machine.store.remember(checksum="md5")
        claim = machine.claim("a.png", b"mine")
        with pytest.raises(StoreError, match="reached a cap") as raised:
            machine.retry(claim)
        assert raised.value.failure.transient
        quirks.profile.reached = False  # type: ignore[attr-defined]
        assert machine.retry(claim).key == "out/a.png"
        machine.store.close()


@pytest.mark.parametrize("code", ["InvalidArgument", "InvalidRequest", "InvalidEncryptionAlgorithmError"])
def test_an_invalid_argument_names_what_was_set_about_the_object(seaweedfs: S3Server, code: str) -> None:
    class Picky(Profile):
        async def handle(self, request: Request, forward: Forward) -> Answer:
            if request.method == "PUT":
                return error(400, code, "no")
            return await forward(request)

    with QuirkServer(seaweedfs, Picky()) as quirks:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=quirks.url)
        for extra, named in (
            ({}, ""),
            ({"S3_STORAGE_CLASS": "COLD"}, "S3_STORAGE_CLASS=COLD"),
            ({"S3_SERVER_SIDE_ENCRYPTION": "AES256"}, "S3_SERVER_SIDE_ENCRYPTION=AES256"),
        ):
            store = S3Store(load_settings(environ | extra))
            with pytest.raises(StoreError) as raised:
                store.put("a.png", b"1", **PUT)
            assert named in raised.value.failure.cure
            assert raised.value.failure.scope is (FailureScope.STORE if named else FailureScope.FILE)
            store.close()
