"""Credentials of the AWS chain that can't be renewed: the error names the chain, not the store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.errors import Failure, FailureScope, StoreError
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import OK, Endpoint, Reply, Seen, put

CHAIN = dict.fromkeys(("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_SESSION_TOKEN"), "") | {
    "S3_CREDENTIALS": "aws"
}
FOLDER = "out/.cloud-archive/v1/segments/2026-11-28/"


def soon() -> str:
    """Return a time at which credentials end that botocore renews at each use: less than ten minutes from now."""
    return (datetime.now(timezone.utc) + timedelta(minutes=5)).isoformat()


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Return a function that writes the file of the AWS configuration."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return (tmp_path / "config").write_text


def failure_of(request: Callable[[], object]) -> Failure:
    with pytest.raises(StoreError) as raised:
        request()
    return raised.value.failure


def requests_of(store: S3Store) -> list[Callable[[], object]]:
    return [lambda: put(store), lambda: store.head("k"), lambda: list(store.list(FOLDER))]


def assert_names_the_chain(failure: Failure, said: str) -> None:
    assert (failure.code, failure.scope) == ("AwsConfiguration", FailureScope.STORE)
    assert said in failure.cause
    assert "AWS_PROFILE" in failure.cure
    assert failure.cause.endswith(".")


def test_a_process_that_gives_no_credentials_any_more_is_quoted(
    make: Any, configure: Callable[[str], object], tmp_path: Path
) -> None:
    answer, script = tmp_path / "answer.json", tmp_path / "print.py"
    found = {"Version": 1, "AccessKeyId": "AKIATEST", "SecretAccessKey": "planted", "Expiration": soon()}
    answer.write_text(json.dumps(found))
    script.write_text(
        f"import sys\ntry:\n print(open({str(answer)!r}).read())\nexcept OSError:\n sys.exit('logged out')"
    )
    process = subprocess.list2cmdline([sys.executable, "-S", str(script)])
    configure(f"[default]\ncredential_process = {process}\n")
    store = make(**CHAIN)
    assert put(store).proven
    answer.unlink()
    for request in requests_of(store):
        assert_names_the_chain(failure_of(request), "logged out")


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "ExpiredTokenException")])
def test_a_role_that_is_refused_is_no_refusal_of_the_store(
    endpoint: Endpoint,
    make: Any,
    configure: Callable[[str], object],
    monkeypatch: Any,
    status: int,
    code: str,
) -> None:
    token = "AQoDYXdzEJr1planted"
    given = (
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIATEST</AccessKeyId>"
        f"<SecretAccessKey>planted</SecretAccessKey><SessionToken>{token}</SessionToken>"
        f"<Expiration>{soon()}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
    refused = (
        f"<ErrorResponse><Error><Code>{code}</Code><Message>no such session</Message></Error></ErrorResponse>"
    )
    of_role = [Reply(headers={"Content-Type": "text/xml"}, body=given.encode())]

    def answer(seen: Seen) -> Reply:
        return of_role[-1] if seen.method == "POST" else OK

    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint.url)
    configure(
        "[default]\nregion = us-east-1\nrole_arn = arn:aws:iam::123456789012:role/archive\nsource_profile = user\n"
        "[profile user]\naws_access_key_id = AKIATEST\naws_secret_access_key = planted\n"
    )
    store = make(answer, **CHAIN)
    assert put(store).proven
    of_role.append(Reply(status, {"Content-Type": "text/xml"}, refused.encode()))
    for request in requests_of(store):
        assert_names_the_chain(failure_of(request), "no such session")
