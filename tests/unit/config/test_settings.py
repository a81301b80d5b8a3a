"""The settings: which variables are read, their defaults, aliases and quotes, and all problems at once."""

from __future__ import annotations

import dataclasses
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import SettingsError
from cloud_archive.redaction import ACCESS_KEY_VARIABLES, SECRET_VARIABLES
from tests.unit.config.environments import (
    ACCESS_KEY,
    REQUIRED,
    SECRET,
    TOKEN,
    VARIABLES,
    load,
    only_problem,
    refusal,
)

# --- defaults, and where values come from


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load()

    assert (settings.access_key_id, settings.bucket) == (ACCESS_KEY, "outputs")
    assert settings.secret_access_key is not None
    assert settings.secret_access_key.get_secret_value() == SECRET
    assert (settings.region, settings.prefix) == ("us-east-1", "comfyui-outputs")
    assert settings.endpoint_url is None
    assert settings.conflict_rename is True
    assert settings.session_token is None
    assert (settings.credentials, settings.addressing_style, settings.checksum) == ("env", "auto", "auto")
    assert settings.storage_class is settings.server_side_encryption is settings.sse_kms_key_id is None
    assert settings.ca_bundle is settings.state_dir is settings.output_dir is None
    assert settings.autostart is True
    assert settings.workers == 8
    assert settings.max_bandwidth_bytes is None
    assert settings.include == settings.exclude == ()
    assert (settings.watch, settings.backfill) == ("auto", "missed")
    assert settings.settle_seconds is None
    assert settings.rescan_seconds == 60
    assert settings.delete_local_after_seconds is settings.min_free_disk_bytes is None
    assert (settings.catalog, settings.gallery) == ("full", "all")
    assert settings.machine_name == socket.gethostname()
    assert settings.webhook_url is settings.webhook_secret is None


def test_every_variable_of_the_contract_is_read_and_no_other() -> None:
    asked: set[str] = set()

    class Listening(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return super().get(key, default)

    with pytest.raises(SettingsError):
        load_settings(Listening())

    # Every secret is looked for, so that it is masked wherever it stands.
    assert asked - {*SECRET_VARIABLES, *ACCESS_KEY_VARIABLES} == set(VARIABLES) - {
        *SECRET_VARIABLES,
        *ACCESS_KEY_VARIABLES,
    }
    assert asked >= set(VARIABLES)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CLOUD_ARCHIVE_BACKFIL", "CLOUD_ARCHIVE_BACKFILL"),
        ("CLOUD_ARCHIVE_WROKERS", "CLOUD_ARCHIVE_WORKERS"),
        ("S3_ENDPOINT", "S3_ENDPOINT_URL"),
        ("S3_REGON", "S3_REGION"),
        ("s3_region", "S3_REGION"),
        ("S3_REGION_NAME", "S3_REGION"),
        ("AWS_S3_REGION", "S3_REGION"),
        ("S3_BUCKETS", None),  # S3_BUCKET is set
        ("S3_BUCKET_NAME", None),
        ("MLFLOW_S3_ENDPOINT_URL", None),
        ("S3_VERBOSE", None),
        ("S3_REGION", None),
        ("AWS_REGION", None),
    ],
)
def test_a_name_that_looks_like_a_misspelt_setting_is_named(name: str, meant: str | None) -> None:
    expected = () if meant is None else (f"{name} is not a setting: correct the name if {meant} is meant.",)
    assert load(**{name: "x"}).misspelt == expected


def test_a_placeholder_of_strftime_is_named() -> None:
    (hint,) = load(S3_PREFIX="outputs/%Y-%m").misspelt
    assert hint == "S3_PREFIX contains %Y, which stays as it is: write {Y} if the time is meant."
    assert load(S3_PREFIX="outputs/{Y}/a%20b%d8").misspelt == ()


def test_an_error_names_what_looks_like_the_missing_setting() -> None:
    environ = {name: value for name, value in REQUIRED.items() if name != "S3_BUCKET"}
    with pytest.raises(SettingsError) as caught:
        load_settings({**environ, "S3_BUKET": "b"})
    missing, hint = caught.value.sentences
    assert missing.startswith("S3_BUCKET is not set: ")
    assert hint == "S3_BUKET is not a setting: correct the name if S3_BUCKET is meant."
    assert str(caught.value) == f"{missing}. {hint}"


def test_without_a_mapping_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)

    assert load_settings().bucket == "outputs"


def test_a_mapping_is_read_instead_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_REGION", "eu-west-1")
    monkeypatch.setenv("region", "eu-west-2")  # the field's own name, which is no variable

    assert load().region == "us-east-1"


def test_no_env_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("S3_REGION=eu-west-1\nregion=eu-west-1\n")
    monkeypatch.chdir(tmp_path)

    assert load().region == "us-east-1"


def test_names_are_case_sensitive() -> None:
    assert load(s3_region="eu-west-1", region="eu-west-1").region == "us-east-1"


@pytest.mark.parametrize("empty", ["", "  ", "\t\n"])
def test_an_empty_variable_counts_as_unset(empty: str) -> None:
    optional = {name: empty for name in VARIABLES if name not in REQUIRED and name != "S3_PREFIX"}

    assert load(**optional) == load()
    assert "S3_BUCKET is not set" in str(refusal(S3_BUCKET=empty))


def test_the_prefix_alone_may_be_empty() -> None:
    assert load(S3_PREFIX="").prefix == ""
    assert load(S3_PREFIX="/").prefix == ""
    assert load(S3_PREFIX="", R2_ENDPOINT="https://a.r2.cloudflarestorage.com").prefix == ""


def test_blanks_around_a_value_are_dropped() -> None:
    settings = load(S3_BUCKET=" outputs\n", S3_SECRET_ACCESS_KEY=f"  {SECRET}\r\n", S3_REGION="\teu-west-1 ")

    assert (settings.bucket, settings.region, settings.secrets()) == ("outputs", "eu-west-1", (SECRET,))


def test_settings_are_frozen_and_can_be_pickled_and_copied() -> None:
    settings = load(S3_SESSION_TOKEN=TOKEN)

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.bucket = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert dataclasses.replace(settings, backfill="all").backfill == "all"


# --- the R2 names


def test_the_names_of_the_r2_world_are_aliases() -> None:
    settings = load_settings(
        {
            "R2_ENDPOINT": "https://account.r2.cloudflarestorage.com",
            "R2_BUCKET": "pictures",
            "R2_ACCESS_KEY_ID": "id",
            "R2_SECRET_ACCESS_KEY": SECRET,
            "ENABLE_R2_SYNC": "off",
            "COMFYUI_OUTPUT_DIR": "/srv/output",
        }
    )

    assert settings.endpoint_url == "https://account.r2.cloudflarestorage.com"
    assert (settings.bucket, settings.access_key_id, settings.secrets()) == ("pictures", "id", (SECRET,))
    assert settings.autostart is False
    assert settings.output_dir == Path("/srv/output").absolute()
    assert (settings.region, settings.prefix) == ("auto", "outputs/{Y}-{m}-{d}")


def test_the_short_r2_names_do_as_well_and_the_long_ones_come_first() -> None:
    short = {"S3_BUCKET": "b", "R2_ACCESS_KEY": "short", "R2_SECRET_KEY": "short-secret"}
    both = {**short, "R2_ACCESS_KEY_ID": "long", "R2_SECRET_ACCESS_KEY": "long-secret"}

    assert load_settings(short).access_key_id == "short"
    assert load_settings(short).secrets() == ("short-secret",)
    assert load_settings(both).access_key_id == "long"
    assert load_settings(both).secrets() == ("long-secret",)


def test_the_s3_names_come_before_their_aliases_unless_they_are_empty() -> None:
    assert load(R2_BUCKET="pictures").bucket == "outputs"
    assert load(S3_BUCKET="", R2_BUCKET="pictures").bucket == "pictures"
    assert load(CLOUD_ARCHIVE_AUTOSTART="yes", ENABLE_R2_SYNC="no").autostart is True


def test_region_and_prefix_change_their_defaults_only_for_an_endpoint_from_r2_endpoint() -> None:
    url = "https://account.r2.cloudflarestorage.com"

    assert load(S3_ENDPOINT_URL=url).region == "us-east-1"
    both = load(S3_ENDPOINT_URL=url, R2_ENDPOINT=url)
    assert (both.region, both.prefix) == ("us-east-1", "comfyui-outputs")
    said = load(R2_ENDPOINT=url, S3_REGION="weur", S3_PREFIX="mine")
    assert (said.region, said.prefix) == ("weur", "mine")


def test_a_problem_names_the_alias_that_was_used() -> None:
    assert only_problem(R2_ENDPOINT="ftp://host").startswith("R2_ENDPOINT is 'ftp://host'")
    assert only_problem(ENABLE_R2_SYNC="maybe").startswith("ENABLE_R2_SYNC is 'maybe'")


# --- quotes, as `docker --env-file` leaves them


@pytest.mark.parametrize("quote", ['"', "'"])
def test_matching_quotes_are_taken_off_every_setting(quote: str, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    plain = {
        "S3_ACCESS_KEY_ID": ACCESS_KEY,
        "S3_SECRET_ACCESS_KEY": SECRET,
        "S3_BUCKET": "outputs",
        "S3_REGION": "eu-west-1",
        "S3_PREFIX": "a/{Y}",
        "S3_ENDPOINT_URL": "https://host:9000",
        "S3_ENABLE_CONFLICT_RENAME": "off",
        "S3_SESSION_TOKEN": TOKEN,
        "S3_CREDENTIALS": "env",
        "S3_ADDRESSING_STYLE": "virtual",
        "S3_CHECKSUM": "md5",
        "S3_STORAGE_CLASS": "STANDARD_IA",
        "S3_SERVER_SIDE_ENCRYPTION": "aws:kms",
        "S3_SSE_KMS_KEY_ID": "key",
        "S3_CA_BUNDLE": str(bundle),
        "CLOUD_ARCHIVE_AUTOSTART": "off",
        "CLOUD_ARCHIVE_WORKERS": "3",
        "CLOUD_ARCHIVE_MAX_BANDWIDTH": "10MB/s",
        "CLOUD_ARCHIVE_INCLUDE": "*.png",
        "CLOUD_ARCHIVE_EXCLUDE": "*.wav",
        "CLOUD_ARCHIVE_WATCH": "poll",
        "CLOUD_ARCHIVE_SETTLE_SECONDS": "3",
        "CLOUD_ARCHIVE_RESCAN_SECONDS": "4",
        "CLOUD_ARCHIVE_BACKFILL": "all",
        "CLOUD_ARCHIVE_DELETE_LOCAL_AFTER": "7d",
        "CLOUD_ARCHIVE_MIN_FREE_DISK": "20GB",
        "CLOUD_ARCHIVE_STATE_DIR": str(tmp_path),
        "COMFYUI_OUTPUT_DIR": str(tmp_path),
        "CLOUD_ARCHIVE_CATALOG": "fields",
        "CLOUD_ARCHIVE_GALLERY": "own",
        "CLOUD_ARCHIVE_MACHINE_NAME": "pod",
        "CLOUD_ARCHIVE_WEBHOOK_URL": "https://host/hook",
        "CLOUD_ARCHIVE_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "CLOUD_ARCHIVE_SERVE_TOKEN": "token",
    }
    quoted = {name: f" {quote}{value}{quote}\n" for name, value in plain.items()}

    assert load_settings(quoted) == load_settings(plain)
    # The aliases too.
    assert {name for name in VARIABLES if not name.startswith(("R2_", "ENABLE_", "RUNPOD"))} == set(plain)
    assert load_settings(
        {
            "R2_ENDPOINT": f"{quote}https://a.r2.cloudflarestorage.com{quote}",
            "R2_BUCKET": f"{quote}b{quote}",
            "R2_ACCESS_KEY": f"{quote}id{quote}",
            "R2_SECRET_KEY": f"{quote}{SECRET}{quote}",
            "ENABLE_R2_SYNC": f"{quote}off{quote}",
        }
    ) == load_settings(
        {
            "R2_ENDPOINT": "https://a.r2.cloudflarestorage.com",
            "R2_BUCKET": "b",
            "R2_ACCESS_KEY": "id",
            "R2_SECRET_KEY": SECRET,
            "ENABLE_R2_SYNC": "off",
        }
    )


def test_quotes_around_nothing_are_nothing_and_an_empty_prefix() -> None:
    assert load(S3_REGION='""', S3_SESSION_TOKEN="''").region == "us-east-1"
    assert load(S3_PREFIX='""').prefix == ""


def test_quotes_that_do_not_match_stay() -> None:
    assert load(S3_PREFIX="it's").prefix == "it's"
    assert "S3_REGION is" in only_problem(S3_REGION="'eu-west-1\"")


# --- the machine's name and the webhook


def test_the_machines_name_is_the_pods_where_there_is_one() -> None:
    assert load(RUNPOD_POD_ID="pod1").machine_name == "pod1"
    assert load(RUNPOD_POD_ID="pod1", CLOUD_ARCHIVE_MACHINE_NAME="my machine").machine_name == "my machine"


# --- credentials


def test_without_anything_the_three_required_variables_are_named() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({})

    assert [problem.variable for problem in caught.value.problems] == [
        "S3_ACCESS_KEY_ID",
        "S3_SECRET_ACCESS_KEY",
        "S3_BUCKET",
    ]
    assert all(problem.value is None for problem in caught.value.problems)
    assert "S3_BUCKET is not set: " in str(caught.value)


def test_the_aws_chain_needs_no_keys_but_a_bucket() -> None:
    settings = load_settings({"S3_CREDENTIALS": "AWS", "S3_BUCKET": "outputs"})

    assert settings.credentials == "aws"
    assert settings.access_key_id is None
    assert settings.secret_access_key is None
    assert settings.secrets() == ()
    with pytest.raises(SettingsError, match="S3_BUCKET is not set"):
        load_settings({"S3_CREDENTIALS": "aws"})


# --- all problems at once


def test_every_problem_is_reported_at_once() -> None:
    wrong = {
        "S3_CREDENTIALS": "iam",
        "S3_SESSION_TOKEN": "a b",
        "S3_BUCKET": "s3://x",
        "S3_REGION": "a b",
        "S3_PREFIX": "{x}",
        "S3_ENDPOINT_URL": "host:9000",
        "S3_ENABLE_CONFLICT_RENAME": "perhaps",
        "S3_ADDRESSING_STYLE": "x",
        "S3_CHECKSUM": "x",
        "S3_STORAGE_CLASS": "a b",
        "S3_SSE_KMS_KEY_ID": "key",
        "S3_CA_BUNDLE": "/nonexistent/ca.pem",
        "CLOUD_ARCHIVE_AUTOSTART": "x",
        "CLOUD_ARCHIVE_WORKERS": "x",
        "CLOUD_ARCHIVE_MAX_BANDWIDTH": "x",
        "CLOUD_ARCHIVE_INCLUDE": "!",
        "CLOUD_ARCHIVE_EXCLUDE": "@x",
        "CLOUD_ARCHIVE_WATCH": "x",
        "CLOUD_ARCHIVE_SETTLE_SECONDS": "x",
        "CLOUD_ARCHIVE_RESCAN_SECONDS": "x",
        "CLOUD_ARCHIVE_BACKFILL": "x",
        "CLOUD_ARCHIVE_DELETE_LOCAL_AFTER": "x",
        "CLOUD_ARCHIVE_MIN_FREE_DISK": "x",
        "CLOUD_ARCHIVE_CATALOG": "x",
        "CLOUD_ARCHIVE_GALLERY": "x",
        "CLOUD_ARCHIVE_MACHINE_NAME": "a\nb",
        "CLOUD_ARCHIVE_WEBHOOK_URL": "x",
        "CLOUD_ARCHIVE_WEBHOOK_SECRET": "a b",
        "CLOUD_ARCHIVE_SERVE_TOKEN": "a b",
    }

    with pytest.raises(SettingsError) as caught:
        load_settings(wrong)

    found = {problem.variable: problem for problem in caught.value.problems}
    assert set(found) == {*wrong, "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"}
    assert len(caught.value.problems) == len(found)
    assert all(str(problem) in str(caught.value) for problem in found.values())
