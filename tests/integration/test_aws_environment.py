"""The user's AWS environment changes nothing with S3_CREDENTIALS=env; with aws, errors name it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import botocore
import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.maintenance.check import run_check
from cloud_archive.store import aws_session
from cloud_archive.store.s3 import S3Store
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store

BODY = b"the bytes of a picture"


def aws_variables() -> list[str]:
    """Return every AWS_* variable that the SDK's source names, without the CA bundle, which may have an effect."""
    source = "".join(path.read_text(encoding="utf-8") for path in Path(botocore.__file__).parent.glob("*.py"))
    found = set(re.findall(r"['\"](AWS_[A-Z0-9_]+)['\"]", source)) | {
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT",
    }
    assert {"AWS_RETRY_MODE", "AWS_DEFAULTS_MODE", "AWS_USE_FIPS_ENDPOINT", "AWS_PROFILE"} <= found
    return sorted(found - {"AWS_CA_BUNDLE"})


def nonsense_home(directory: Path) -> Path:
    """Make a home directory whose AWS files are all wrong, the SDK's data files for S3 included."""
    aws = directory / "home" / ".aws"
    (aws / "models" / "s3" / "2006-03-01").mkdir(parents=True)
    (aws / "models" / "endpoints.json").write_text("{}")
    (aws / "models" / "s3" / "2006-03-01" / "service-2.json").write_text("{}")
    (aws / "config").write_text(
        "[default]\nretry_mode = weird\nregion = weird-\ns3 =\n  addressing_style = weird\n"
    )
    (aws / "credentials").write_text("[default\nthis is no file of credentials")
    return aws.parent


@pytest.mark.parametrize("value", ["weird", "true"])
def test_with_keys_in_the_environment_no_aws_variable_and_no_aws_file_decides(
    seaweedfs: S3Server, tmp_path: Path, value: str
) -> None:
    home = nonsense_home(tmp_path)
    (tmp_path / "a.png").write_bytes(BODY)
    environ = os.environ | seaweedfs.environ(S3_PREFIX="out") | dict.fromkeys(aws_variables(), value)
    environ |= {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "CLOUD_ARCHIVE_STATE_DIR": str(tmp_path / "state"),
    }
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        environ[name] = str(home / ".aws" / "credentials")
    done = subprocess.run(
        [sys.executable, "-m", "cloud_archive", "upload", str(tmp_path / "a.png")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert seaweedfs.read("out/a.png") == BODY


def test_fips_and_dualstack_do_not_change_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"):
        monkeypatch.setenv(name, "true")
    environ = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "AKIATEST", "S3_SECRET_ACCESS_KEY": "planted+SECRET"}
    store = S3Store(load_settings(environ | {"S3_REGION": "eu-west-1"}))
    assert store._requests.client().sdk.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
    store.close()


# --- S3_CREDENTIALS=aws


def chain(seaweedfs: S3Server, **extra: str) -> dict[str, str]:
    environ = seaweedfs.environ(S3_CREDENTIALS="aws", **extra)
    del environ["S3_ACCESS_KEY_ID"], environ["S3_SECRET_ACCESS_KEY"]
    return environ


def write_credentials(path: Path, key: str, secret: str) -> None:
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")


@pytest.mark.parametrize(
    ("variables", "config", "said"),
    [
        ({"AWS_RETRY_MODE": "weird"}, "", "weird"),
        ({"AWS_DEFAULTS_MODE": "weird"}, "", "weird"),
        ({"AWS_PROFILE": "there-is-none"}, "", "there-is-none"),
        ({}, "[default\nno file", "Unable to parse config file"),
        ({}, "[default]\nsource_profile = x\nrole_arn = arn:aws:iam::1:role/y\n", "source_profile"),
        ({}, "[default]\ncredential_process = false\n", "retrieving credentials"),
    ],
    ids=["retry mode", "defaults mode", "profile", "config", "role", "process"],
)
def test_a_wrong_aws_configuration_is_named_at_once_and_not_tried_again(
    seaweedfs: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    config: str,
    said: str,
) -> None:
    (tmp_path / "config").write_text(config)
    write_credentials(tmp_path / "credentials", seaweedfs.access_key_id, seaweedfs.secret_access_key)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    if not config:
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    steps = {step.name: step for step in run_check(lambda: load_settings(chain(seaweedfs)))}
    failed = steps["credentials"]
    assert failed.ok is False
    assert "The AWS configuration can't be used: " in failed.cause
    assert said in failed.cause
    assert "AWS_PROFILE" in failed.cure
    assert "S3_SECRET_ACCESS_KEY" not in failed.cause + failed.cure
    store = S3Store(load_settings(chain(seaweedfs)))
    with pytest.raises(StoreError) as raised:
        store.head("a")
    assert not raised.value.failure.transient
    store.close()


def test_a_credential_process_that_hangs_does_not_hold_up_the_start(
    seaweedfs: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = tmp_path / "go on"
    script = tmp_path / "hang.py"
    script.write_text(
        "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists():\n    time.sleep(0.05)\n"
    )
    process = [sys.executable, "-S", str(script), str(go_on)]
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {subprocess.list2cmdline(process)}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert aws_session.MAKING_SECONDS <= 15
    monkeypatch.setattr(aws_session, "MAKING_SECONDS", 0.3)
    store = S3Store(load_settings(chain(seaweedfs)))
    failures: list[StoreError] = []

    def head() -> None:
        with pytest.raises(StoreError) as raised:
            store.head("a")
        failures.append(raised.value)

    for count in (1, 2):
        thread = threading.Thread(target=head, daemon=True)
        thread.start()
        thread.join(60)
        assert len(failures) == count, "the request waits for the process"
        assert failures[-1].failure.code == "AwsChainTimeout"
        assert failures[-1].failure.transient
        assert "credential_process" in str(failures[-1])
    go_on.touch()

    def ended() -> bool:
        with pytest.raises(StoreError) as failed:
            store.head("a")
        return failed.value.failure.code == "AwsConfiguration"  # it said nothing

    wait_until(ended, "the process has ended")
    store.close()


def test_rotated_keys_are_read_again_when_the_store_refuses_the_old_ones(
    seaweedfs: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    write_credentials(path, seaweedfs.access_key_id, "planted+OLD")
    store = S3Store(load_settings(chain(seaweedfs)))
    with pytest.raises(StoreError) as raised:
        next(store.list(""), None)
    assert raised.value.failure.code == "SignatureDoesNotMatch"
    assert "S3_SECRET_ACCESS_KEY" not in str(raised.value)
    assert "AWS_PROFILE" in str(raised.value)
    put: dict[str, Any] = {"content_type": "image/png", "metadata": {}, "create_only": True}
    sha256 = hashlib.sha256(BODY).hexdigest()
    write_credentials(path, seaweedfs.access_key_id, seaweedfs.secret_access_key)
    store.put("a.png", BODY, sha256=sha256, **put)
    # Also for requests that bypass the SDK.
    store.put("b.png", BODY, sha256=sha256, **put)
    assert store._requests.fast.client() is not None
    write_credentials(path, seaweedfs.access_key_id, "planted+OLD")
    store._requests._client_made = None
    store._requests.fast.suspend()
    store._requests._maker.drop()
    with pytest.raises(StoreError):
        store.put("c.png", BODY, sha256=sha256, **put)
    caplog.set_level(logging.INFO, logger="cloud_archive")
    path.write_text("[default")
    with pytest.raises(StoreError):
        store.put("c.png", BODY, sha256=sha256, **put)
    assert not caplog.records, "each retry would repeat the line"
    write_credentials(path, seaweedfs.access_key_id, seaweedfs.secret_access_key)
    store.put("c.png", BODY, sha256=sha256, **put)
    assert seaweedfs.keys() == ["a.png", "b.png", "c.png"]
    store.close()
