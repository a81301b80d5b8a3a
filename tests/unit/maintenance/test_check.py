"""What the steps of the check say, and which step a failure belongs to."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from cloud_archive.config.settings import Settings, load_settings
from cloud_archive.demo.seaweedfs import free_ports
from cloud_archive.errors import StoreError
from cloud_archive.maintenance.check import (
    MAY_NOT_LIST,
    NOT_TRIED,
    STEPS,
    CheckStep,
    _find_step,
    has_no_failure,
    run_check,
)
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.failures import explain
from tests.memory_store import MemoryStore, refuse

SECRET = "secret-of-this-test"


def settings(**more: str) -> Settings:
    keys = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": SECRET}
    return load_settings(keys | more)


def checked(endpoint: str, monkeypatch: pytest.MonkeyPatch, **more: str) -> dict[str, CheckStep]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    steps = run_check(lambda: settings(S3_ENDPOINT_URL=endpoint, **more))
    assert [step.name for step in steps] == list(STEPS)
    assert not has_no_failure(steps)
    return {step.name: step for step in steps}


def failed(steps: dict[str, CheckStep]) -> CheckStep:
    """The one step that failed; the steps of `STEPS` that were not reached are not tried."""
    (step,) = (step for step in steps.values() if step.ok is False)
    assert step.cure
    return step


@contextlib.contextmanager
def listening(*, reset: bool = False) -> Iterator[int]:
    """A port that closes each connection once something came; the other side sees an end, or a reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as connection:
                        connection.recv(65536)
                        if reset:  # what closing does without waiting
                            option = struct.pack("ii", 1, 0)
                            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread


def test_wrong_settings_are_named_and_nothing_else_is_tried() -> None:
    steps = run_check(lambda: settings(S3_PREFIX="a{q}"))
    assert steps[0].ok is False
    assert "S3_PREFIX" in steps[0].cause
    assert SECRET not in str(steps)
    assert {step.cause for step in steps[1:]} == {NOT_TRIED}


def test_a_misspelt_setting_is_named_beside_wrong_ones() -> None:
    (step, *_) = run_check(lambda: settings(S3_PREFIX="a{q}", CLOUD_ARCHIVE_BACKFIL="all"))
    assert step.ok is False
    assert step.cause.endswith(
        ". CLOUD_ARCHIVE_BACKFIL is not a setting: correct the name if CLOUD_ARCHIVE_BACKFILL is meant."
    )


def test_a_misspelt_setting_is_a_warning_of_the_settings() -> None:
    (step, *_) = run_check(
        lambda: settings(CLOUD_ARCHIVE_BACKFIL="all", S3_ENDPOINT_URL="http://nowhere.invalid")
    )
    assert step.ok is True
    assert step.cure.endswith(
        "CLOUD_ARCHIVE_BACKFIL is not a setting: correct the name if CLOUD_ARCHIVE_BACKFILL is meant."
    )


def test_a_port_where_nothing_listens_fails_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    steps = checked(f"http://127.0.0.1:{port}", monkeypatch)
    assert failed(steps).name == "connection"
    assert (steps["settings"].ok, steps["name resolution"].ok, steps["write"].cause) == (
        True,
        True,
        NOT_TRIED,
    )


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("scheme", "name"), [("https", "TLS"), ("http", "connection")])
def test_a_connection_that_is_cut_off_fails_its_step_with_a_cure(
    monkeypatch: pytest.MonkeyPatch, scheme: str, name: str, reset: bool
) -> None:
    with listening(reset=reset) as port:
        step = failed(checked(f"{scheme}://127.0.0.1:{port}", monkeypatch))
    assert (step.name, step.cause) == (name, "The connection to the store was cut off.")
    assert step.cure.startswith("Check S3_ENDPOINT_URL: https:// or http://")


class Elsewhere(MemoryStore):
    """A bucket in another region than that of the settings."""

    region = "eu-central-1"

    def use_sdk_only(self) -> None:
        pass


@pytest.mark.parametrize("may_list", [True, False])
def test_another_region_and_a_missing_right_to_list_are_both_said(
    monkeypatch: pytest.MonkeyPatch, may_list: bool
) -> None:
    def on_call(operation: str, key: str) -> None:
        if operation == "ListObjectsV2" and not may_list:
            refuse("AccessDenied", 403, key)

    store: Any = Elsewhere()
    store.on_call = on_call
    monkeypatch.setattr("cloud_archive.maintenance.check._Check.check_network", lambda *_: None)
    steps = {step.name: step for step in run_check(settings, make_store=lambda _: store)}
    bucket = steps["bucket"]
    remark = "" if may_list else f" {MAY_NOT_LIST}"
    assert (bucket.ok, steps["credentials"].ok) == (True, True)
    assert bucket.cause == f"The bucket is in the region eu-central-1, not us-east-1.{remark}"
    assert "S3_REGION=eu-central-1" in bucket.cure


@pytest.mark.parametrize("code", ["InternalError", "ReadTimeout"])
def test_a_failure_without_a_cure_of_its_own_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    store: Any = Elsewhere()
    store.on_call = lambda operation, key: refuse(code, 500, key) if operation == "PutObject" else None
    monkeypatch.setattr("cloud_archive.maintenance.check._Check.check_network", lambda *_: None)
    steps = {step.name: step for step in run_check(settings, make_store=lambda _: store)}
    assert failed(steps).name == "write"


def create_only_step(
    monkeypatch: pytest.MonkeyPatch, put: CreateOnly, multipart: CreateOnly, *, may_head: bool, **more: str
) -> CheckStep:
    store: Any = Elsewhere(Capabilities(put, multipart, can_head=may_head))
    monkeypatch.setattr("cloud_archive.maintenance.check._Check.check_network", lambda *_: None)
    steps = run_check(lambda: settings(**more), make_store=lambda _: store)
    return next(step for step in steps if step.name == "create-only")


@pytest.mark.parametrize("may_head", [True, False])
def test_a_store_that_refuses_only_the_end_of_multipart_uploads_loses_nothing_without_the_right_to_head(
    monkeypatch: pytest.MonkeyPatch, may_head: bool
) -> None:
    step = create_only_step(monkeypatch, CreateOnly.REJECTED, CreateOnly.HONOURED, may_head=may_head)
    assert step.ok is True
    assert "all files go that way" in step.cause
    assert ("checked again" in step.cause) == may_head


@pytest.mark.parametrize("may_head", [True, False])
def test_with_renaming_off_no_check_before_an_upload_is_promised(
    monkeypatch: pytest.MonkeyPatch, may_head: bool
) -> None:
    ignored = CreateOnly.IGNORED
    more = {"S3_ENABLE_CONFLICT_RENAME": "false"}
    step = create_only_step(monkeypatch, ignored, ignored, may_head=may_head, **more)
    assert step.ok is True
    assert step.cause == "Not used: S3_ENABLE_CONFLICT_RENAME is off, so uploads replace objects."
    assert create_only_step(monkeypatch, ignored, ignored, may_head=may_head).ok is may_head


@pytest.mark.parametrize("encryption", ["", "AES256"])
def test_an_encryption_that_the_store_does_not_confirm_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, encryption: str
) -> None:
    monkeypatch.setattr("cloud_archive.maintenance.check._Check.check_network", lambda *_: None)
    store: Any = Elsewhere()
    steps = run_check(lambda: settings(S3_SERVER_SIDE_ENCRYPTION=encryption), make_store=lambda _: store)
    (step,) = (step for step in steps if step.name == "read back")
    assert step.ok
    assert ("S3_SERVER_SIDE_ENCRYPTION=AES256" in step.cause) is bool(step.cure) is bool(encryption)


def test_a_name_that_does_not_exist_fails_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = checked("http://nowhere.invalid", monkeypatch)
    assert failed(steps).name == "name resolution"
    assert (steps["settings"].ok, "plain http" in steps["settings"].cause) == (True, True)
    assert steps["settings"].cure, "a warning has a cure"


def no_name_is_known(*_: object, **__: object) -> NoReturn:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("style", "host"), [("path", "s3.example.com"), ("virtual", "pictures.s3.example.com")]
)
def test_the_name_that_is_looked_up_is_the_one_that_requests_use(
    monkeypatch: pytest.MonkeyPatch, style: str, host: str
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", no_name_is_known)
    more = {"S3_BUCKET": "pictures", "S3_ADDRESSING_STYLE": style}
    step = failed(checked("https://s3.example.com", monkeypatch, **more))
    assert step.name == "name resolution"
    assert f"] {host}: Name or service not known" in step.message


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "s3.us-gov-west-1.amazonaws.com"),
        ("elsewhere", "s3.elsewhere.amazonaws.com"),
    ],
)
def test_the_name_that_is_looked_up_is_the_one_of_the_region(
    monkeypatch: pytest.MonkeyPatch, region: str, host: str
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", no_name_is_known)
    monkeypatch.setattr("cloud_archive.maintenance.check.proxy_of", lambda _: None)
    steps = {step.name: step for step in run_check(lambda: settings(S3_REGION=region))}
    assert f"] {host}: Name or service not known" in failed(steps).message


@pytest.mark.parametrize(
    ("code", "status", "step"),
    [
        ("RequestTimeTooSkewed", 403, "clock"),
        ("SignatureDoesNotMatch", 403, "credentials"),
        ("Whatever", 401, "credentials"),
        ("NoSuchBucket", 404, "bucket"),
        ("Moved", 301, "bucket"),
        ("NotS3", 301, "connection"),
        ("NameNotResolved", None, "name resolution"),
        ("TLS", None, "TLS"),
        ("ConnectTimeout", None, "connection"),
        ("ConnectionClosed", None, None),
        ("AccessDenied", 403, None),
        ("InternalError", 500, None),
    ],
)
def test_a_failure_belongs_to_the_step_that_it_concerns(
    code: str, status: int | None, step: str | None
) -> None:
    assert _find_step(StoreError("Head", "k", explain(code, status), status=status)) == step


def test_a_step_that_was_not_tried_is_no_failure() -> None:
    assert has_no_failure([CheckStep("TLS", None), CheckStep("write", True)])
    assert not has_no_failure([CheckStep("write", True), CheckStep("TLS", False)])
    assert CheckStep("write", True, 0.12345, "c", "d", "m").to_json() == {
        "name": "write",
        "ok": True,
        "seconds": 0.123,
        "cause": "c",
        "cure": "d",
        "said": "m",
    }
