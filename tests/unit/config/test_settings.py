"""The settings: what each variable may hold, and that no secret ever shows."""

from __future__ import annotations

import dataclasses
import pickle
import socket
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from cloud_archive.config.settings import Settings, load_settings
from cloud_archive.errors import SettingsError
from cloud_archive.redaction import ACCESS_KEY_VARIABLES, MASK, SECRET_VARIABLES, strip_quotes

unhurried = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine

SECRET = "wJalr/XUtn+FEMI%K7MD&NG=bPxRfi"
TOKEN = "IQoJb3Jp/Z2luX2Vj+token"
ACCESS_KEY = "AKIAPLANTEDKEY01"
REQUIRED = {
    "S3_ACCESS_KEY_ID": ACCESS_KEY,
    "S3_SECRET_ACCESS_KEY": SECRET,
    "S3_BUCKET": "outputs",
}
TABLE = (
    "S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY S3_BUCKET S3_REGION S3_PREFIX S3_ENDPOINT_URL "
    "S3_ENABLE_CONFLICT_RENAME S3_SESSION_TOKEN S3_CREDENTIALS S3_ADDRESSING_STYLE S3_CHECKSUM "
    "S3_STORAGE_CLASS S3_SERVER_SIDE_ENCRYPTION S3_SSE_KMS_KEY_ID S3_CA_BUNDLE CLOUD_ARCHIVE_AUTOSTART "
    "CLOUD_ARCHIVE_WORKERS CLOUD_ARCHIVE_MAX_BANDWIDTH CLOUD_ARCHIVE_INCLUDE CLOUD_ARCHIVE_EXCLUDE "
    "CLOUD_ARCHIVE_WATCH CLOUD_ARCHIVE_SETTLE_SECONDS CLOUD_ARCHIVE_RESCAN_SECONDS CLOUD_ARCHIVE_BACKFILL "
    "CLOUD_ARCHIVE_DELETE_LOCAL_AFTER CLOUD_ARCHIVE_MIN_FREE_DISK CLOUD_ARCHIVE_STATE_DIR R2_ENDPOINT "
    "R2_BUCKET R2_ACCESS_KEY_ID R2_ACCESS_KEY R2_SECRET_ACCESS_KEY R2_SECRET_KEY COMFYUI_OUTPUT_DIR "
    "ENABLE_R2_SYNC CLOUD_ARCHIVE_CATALOG CLOUD_ARCHIVE_GALLERY CLOUD_ARCHIVE_MACHINE_NAME RUNPOD_POD_ID "
    "CLOUD_ARCHIVE_WEBHOOK_URL CLOUD_ARCHIVE_WEBHOOK_SECRET CLOUD_ARCHIVE_SERVE_TOKEN"
)
VARIABLES = tuple(TABLE.split())


def load(**variables: str) -> Settings:
    return load_settings({**REQUIRED, **variables})


def refusal(**variables: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    return caught.value


def only_problem(**variables: str) -> str:
    error = refusal(**variables)
    assert len(error.problems) == 1, str(error)
    assert error.problems[0].variable in variables
    return str(error)


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


# --- each kind of value


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "Yes", "on", "ON ", " True\n"])
def test_these_say_true(text: str) -> None:
    assert load(S3_ENABLE_CONFLICT_RENAME=text, CLOUD_ARCHIVE_AUTOSTART=text).conflict_rename is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "NO", "off", " Off "])
def test_these_say_false(text: str) -> None:
    settings = load(S3_ENABLE_CONFLICT_RENAME=text, CLOUD_ARCHIVE_AUTOSTART=text)

    assert (settings.conflict_rename, settings.autostart) == (False, False)


@pytest.mark.parametrize(
    ("text", "bytes_a_second"),
    [
        ("10MB/s", 10_000_000),
        ("500 KB/s", 500_000),
        ("500kB/s", 500_000),
        ("1.5MiB/s", 1_572_864),
        ("2000000", 2_000_000),
        ("10mb/s", 10_000_000),
        ("1 GB / s", 1_000_000_000),
        ("2M", 2_000_000),
        ("64KiB", 65_536),
        ("100B/s", 100),
        ("off", None),
        ("none", None),
    ],
)
def test_bandwidth_as_people_write_it(text: str, bytes_a_second: int | None) -> None:
    assert load(CLOUD_ARCHIVE_MAX_BANDWIDTH=text).max_bandwidth_bytes == bytes_a_second


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("20GB", 20 * 10**9),
        ("1.5TiB", 1_649_267_441_664),
        ("512 MiB", 2**29),
        ("500", 500),
        ("20g", 20 * 10**9),
    ],
)
def test_sizes_as_people_write_them(text: str, size_bytes: int) -> None:
    assert load(CLOUD_ARCHIVE_MIN_FREE_DISK=text).min_free_disk_bytes == size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604_800), ("36h", 129_600), ("90m", 5_400), ("30s", 30), ("2w", 1_209_600), ("0.5 d", 43_200)],
)
def test_ages_as_people_write_them(text: str, seconds: float) -> None:
    assert load(CLOUD_ARCHIVE_DELETE_LOCAL_AFTER=text).delete_local_after_seconds == seconds


def test_lists_are_separated_by_commas_or_lines() -> None:
    settings = load(CLOUD_ARCHIVE_INCLUDE="@media, *.json\n!drafts/\r\n\n , ", CLOUD_ARCHIVE_EXCLUDE="*.wav")

    assert settings.include == ("@media", "*.json", "!drafts/")
    assert settings.exclude == ("*.wav",)


def test_choices_are_taken_in_any_case() -> None:
    settings = load(
        S3_ADDRESSING_STYLE="Path",
        S3_CHECKSUM="MD5",
        CLOUD_ARCHIVE_WATCH="POLL",
        CLOUD_ARCHIVE_BACKFILL="None",
    )

    assert (settings.addressing_style, settings.checksum) == ("path", "md5")
    assert (settings.watch, settings.backfill) == ("poll", "none")


def test_numbers_of_seconds_and_workers() -> None:
    settings = load(
        CLOUD_ARCHIVE_SETTLE_SECONDS="0.5", CLOUD_ARCHIVE_RESCAN_SECONDS="0", CLOUD_ARCHIVE_WORKERS="64"
    )

    assert (settings.settle_seconds, settings.rescan_seconds, settings.workers) == (0.5, 0, 64)


def test_the_prefix_is_kept_as_a_clean_template() -> None:
    assert load(S3_PREFIX="//runs//{Y}/{session_id}/").prefix == "runs/{Y}/{session_id}"


def test_what_is_passed_on_to_the_store_is_kept_as_written() -> None:
    settings = load(
        S3_STORAGE_CLASS="STANDARD_IA",
        S3_SERVER_SIDE_ENCRYPTION="aws:kms",
        S3_SSE_KMS_KEY_ID="arn:aws:kms:x:1:key/2",
    )

    assert settings.storage_class == "STANDARD_IA"
    assert settings.server_side_encryption == "aws:kms"
    assert settings.sse_kms_key_id == "arn:aws:kms:x:1:key/2"


def test_paths_are_absolute_and_know_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_text("x")
    settings = load(S3_CA_BUNDLE="ca.pem", CLOUD_ARCHIVE_STATE_DIR="~/state")

    assert settings.ca_bundle == tmp_path / "ca.pem"
    assert settings.state_dir == tmp_path / "state"


def test_paths_that_are_no_utf8_are_kept() -> None:
    assert load(COMFYUI_OUTPUT_DIR="/srv/caf\udce9").output_dir == Path("/srv/caf\udce9").absolute()


@pytest.mark.parametrize(
    ("variable", "text", "accepted"),
    [
        ("S3_ENABLE_CONFLICT_RENAME", "maybe", "true, false, 1, 0, yes, no, on and off"),
        ("CLOUD_ARCHIVE_AUTOSTART", "2", "true, false, 1, 0, yes, no, on and off"),
        ("CLOUD_ARCHIVE_WORKERS", "0", "from 1 to 64"),
        ("CLOUD_ARCHIVE_WORKERS", "65", "from 1 to 64"),
        ("CLOUD_ARCHIVE_WORKERS", "many", "from 1 to 64"),
        ("CLOUD_ARCHIVE_WORKERS", "٣", "from 1 to 64"),
        ("CLOUD_ARCHIVE_WORKERS", "9" * 5000, "from 1 to 64"),
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "10Mb/s", "bytes, not bits"),
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "10Mbit/s", "bytes, not bits"),
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "10mbps", "bytes, not bits"),
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "fast", "10MB/s"),
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "0", "unset for no limit"),
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "-5MB/s", "10MB/s"),
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "1,5MB/s", "10MB/s"),
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "9" * 400, "10MB/s"),
        ("CLOUD_ARCHIVE_MIN_FREE_DISK", "20 elephants", "20GB"),
        ("CLOUD_ARCHIVE_MIN_FREE_DISK", "10%", "20GB"),
        ("CLOUD_ARCHIVE_MIN_FREE_DISK", "20GB/s", "20GB"),
        ("CLOUD_ARCHIVE_DELETE_LOCAL_AFTER", "7", "with its unit, such as 7d, 36h or 90m"),
        ("CLOUD_ARCHIVE_DELETE_LOCAL_AFTER", "1M", "m for minutes"),
        ("CLOUD_ARCHIVE_DELETE_LOCAL_AFTER", "0d", "above 0"),
        ("CLOUD_ARCHIVE_DELETE_LOCAL_AFTER", "-1d", "above 0"),
        ("CLOUD_ARCHIVE_SETTLE_SECONDS", "2s", "without a unit"),
        ("CLOUD_ARCHIVE_SETTLE_SECONDS", "nan", "a number of seconds"),
        ("CLOUD_ARCHIVE_RESCAN_SECONDS", "inf", "a number of seconds"),
        ("CLOUD_ARCHIVE_RESCAN_SECONDS", "-1", "a number of seconds"),
        ("CLOUD_ARCHIVE_WATCH", "inotify", "auto, native and poll"),
        ("CLOUD_ARCHIVE_BACKFILL", "some", "missed, all and none"),
        ("CLOUD_ARCHIVE_INCLUDE", "@video", "the only group is @media"),
        ("CLOUD_ARCHIVE_INCLUDE", "*.png,!", "'!' is not a gitignore-style pattern"),
        ("CLOUD_ARCHIVE_EXCLUDE", "caf\udce9", "UTF-8"),
        ("S3_ADDRESSING_STYLE", "dns", "auto, path and virtual"),
        ("S3_CHECKSUM", "crc32", "auto, sha256 and md5"),
        ("S3_CREDENTIALS", "iam", "env and aws"),
        ("S3_REGION", "us east", "us-east-1"),
        ("S3_REGION", "https://eu", "us-east-1"),
        ("S3_BUCKET", "s3://outputs", "without s3://"),
        ("S3_BUCKET", "outputs/sub", "goes in S3_PREFIX"),
        ("S3_BUCKET", "my bucket", "the bucket's name alone"),
        ("S3_BUCKET", "..", "the bucket's name alone"),
        ("S3_BUCKET", "'outputs\"", "the bucket's name alone"),
        ("S3_PREFIX", "a\\b", "write `/`"),
        ("S3_PREFIX", "a/{nope}", "{nope} is not a placeholder; accepted are {Y}"),
        ("S3_PREFIX", "a/{Y", "a brace that belongs to no placeholder"),
        ("S3_PREFIX", "../up", "`.` and `..`"),
        ("S3_SSE_KMS_KEY_ID", "1234", "only together with S3_SERVER_SIDE_ENCRYPTION=aws:kms"),
        ("S3_STORAGE_CLASS", "two words", "without spaces"),
        ("CLOUD_ARCHIVE_CATALOG", "some", "full, fields and off"),
        ("CLOUD_ARCHIVE_GALLERY", "mine", "all, own and off"),
        ("CLOUD_ARCHIVE_MACHINE_NAME", "a\nb", "on one line"),
        ("CLOUD_ARCHIVE_MACHINE_NAME", "a" * 101, "at most 100 characters"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(variable: str, text: str, accepted: str) -> None:
    said = only_problem(**{variable: text})

    assert said.startswith(f"{variable} is {text[:100]!r}"[:100])
    assert accepted in said
    assert len(said) < 1000


def test_a_kms_key_needs_kms() -> None:
    said = only_problem(S3_SSE_KMS_KEY_ID="1234", S3_SERVER_SIDE_ENCRYPTION="AES256")

    assert "S3_SERVER_SIDE_ENCRYPTION=aws:kms" in said
    assert load(S3_SSE_KMS_KEY_ID="1", S3_SERVER_SIDE_ENCRYPTION="aws:kms:dsse").sse_kms_key_id == "1"


def test_a_ca_bundle_must_exist_and_be_a_file(tmp_path: Path) -> None:
    assert "no such file" in only_problem(S3_CA_BUNDLE=str(tmp_path / "missing.pem"))
    assert "CA certificates" in only_problem(S3_CA_BUNDLE=str(tmp_path))


def test_a_directory_must_not_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")

    assert "this is a file" in only_problem(CLOUD_ARCHIVE_STATE_DIR=str(file))
    assert "this is a file" in only_problem(COMFYUI_OUTPUT_DIR=str(file))


# --- endpoints


@pytest.mark.parametrize(
    ("text", "url", "label"),
    [
        ("https://account.r2.cloudflarestorage.com", None, "account.r2.cloudflarestorage.com:443"),
        ("http://localhost:8333", None, "localhost:8333"),
        ("http://localhost:8333/", "http://localhost:8333", "localhost:8333"),
        ("HTTPS://Host.example", "https://Host.example", "Host.example:443"),
        ("http://127.0.0.1", None, "127.0.0.1:80"),
        ("http://[::1]:9000", None, "[::1]:9000"),
        ("https://s3.example.", None, "s3.example.:443"),
    ],
)
def test_an_endpoint_is_a_scheme_a_host_and_a_port(text: str, url: str | None, label: str) -> None:
    settings = load(S3_ENDPOINT_URL=text)

    assert settings.endpoint_url == (url or text)
    assert settings.endpoint_label == label
    assert not settings.is_aws


@pytest.mark.parametrize(
    ("text", "shown", "accepted"),
    [
        ("localhost:9000", "localhost:9000", "write https://localhost:9000, or http://localhost:9000 for"),
        ("s3.example.com/", "s3.example.com/", "write https://s3.example.com, or"),
        ("https://host/a b", "https://host/a b", "without spaces"),
        ("https://host/%2e", "https://host/%2e", "a base path of letters, digits"),
        ("https://host/../x", "https://host/../x", "a base path of letters, digits"),
        ("https://host?sig=abc", "https://host?…", "without a query or fragment"),
        ("https://host/b?sig=abc#x", "https://host/b?…", "without a query or fragment"),
        ("https://host#x", "https://host?…", "without a query or fragment"),
        ("ftp://host", "ftp://host", "http://host[:port] or https://host[:port]"),
        ("s3://bucket", "s3://bucket", "http://host[:port] or https://host[:port]"),
        ("https:/host", "https:/host", "http://host[:port] or https://host[:port]"),
        ("https://", "https://", "http://host[:port] or https://host[:port]"),
        ("https://my host", "https://my host", "without spaces"),
        ("https://my_minio:9000", "https://my_minio:9000", "letters, digits, `-` and `.`"),
        ("http://host:99999", "http://host:99999", "port from 1 to 65535"),
        ("http://host:0", "http://host:0", "http://host[:port]"),
        ("http://host:", "http://host:", "http://host[:port]"),
        ("https://user:hunter2@host:9000", "https://***@host:9000", "without user and password"),
        ("https://user:hunter2/x@host:9000", "https://***@host:9000", "without user and password"),
        ("user:hunter2@host", "***@host", "without user and password"),
        ("https://hunter2@host", "https://***@host", "without user and password"),
        ("https://user:hunter2%40host", "https://***@host", "http://host[:port]"),
        ("https://user:hunter2", "https://***", "http://host[:port]"),
        ("user:hunter2", MASK, "http://host[:port]"),
        ("https://user:hunter2@host?x=1", "https://***@host?…", "without user and password"),
        ("https://user:hunter2 @host", "https://***@host", "without spaces"),
    ],
)
def test_a_wrong_endpoint_is_explained_and_shows_no_password(text: str, shown: str, accepted: str) -> None:
    said = only_problem(S3_ENDPOINT_URL=text)

    assert said.startswith(f"S3_ENDPOINT_URL is {shown!r}: ")
    assert accepted in said
    assert "hunter2" not in said
    assert "abc" not in said


def test_aws_is_no_endpoint_or_one_of_amazons() -> None:
    assert load().is_aws
    assert load(S3_REGION="eu-west-1").endpoint_label == "AWS eu-west-1"
    assert load(S3_ENDPOINT_URL="https://s3.eu-west-1.amazonaws.com").is_aws
    assert load(S3_ENDPOINT_URL="https://s3.cn-north-1.amazonaws.com.cn").is_aws
    assert not load(S3_ENDPOINT_URL="https://amazonaws.com.evil.example").is_aws
    assert not load(S3_ENDPOINT_URL="https://notamazonaws.com").is_aws


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://account.r2.cloudflarestorage.com/outputs", "https://account.r2.cloudflarestorage.com"),
        ("https://account.r2.cloudflarestorage.com/outputs/", "https://account.r2.cloudflarestorage.com"),
        ("https://outputs.s3.eu-central-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
        ("https://Outputs.nyc3.digitaloceanspaces.com/", "https://nyc3.digitaloceanspaces.com"),
        ("http://outputs.localhost:9000", "http://localhost:9000"),
        ("https://p.supabase.co/storage/v1/s3/outputs", "https://p.supabase.co/storage/v1/s3"),
        ("https://outputs.example.com/outputs", "https://outputs.example.com"),
    ],
)
def test_the_bucket_is_taken_off_the_endpoint_that_a_console_shows(text: str, url: str) -> None:
    settings = load(S3_ENDPOINT_URL=text)

    assert settings.endpoint_url == url
    assert settings.endpoint_remark == (
        f"The endpoint's URL names the bucket outputs; {url} is used as S3_ENDPOINT_URL."
    )
    assert pickle.loads(pickle.dumps(settings)).endpoint_remark == settings.endpoint_remark


@pytest.mark.parametrize(
    "text",
    [
        "https://p.supabase.co/storage/v1/s3",
        "https://host/outputs-2",
        "https://host/outputs/s3",
        "https://outputs-2.example.com",
        "https://outputs",
    ],
)
def test_another_base_path_and_host_are_kept(text: str) -> None:
    settings = load(S3_ENDPOINT_URL=text)

    assert (settings.endpoint_url, settings.endpoint_remark) == (text, "")


def test_an_address_is_not_taken_for_a_bucket() -> None:
    assert (
        load(S3_BUCKET="127", S3_ENDPOINT_URL="http://127.0.0.1:9000").endpoint_url == "http://127.0.0.1:9000"
    )


# --- quotes, as `docker --env-file` leaves them


@pytest.mark.parametrize("quote", ['"', "'"])
def test_matching_quotes_are_taken_off_every_setting(quote: str, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("x")
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


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "host/x",
        "https://user:hunter2@host/x",
        "https://host:0/x",
        "https://ho st/x",
        "https://",
    ],
)
def test_a_wrong_webhook_is_refused_and_not_shown(url: str) -> None:
    said = only_problem(CLOUD_ARCHIVE_WEBHOOK_URL=url)

    assert said.startswith("CLOUD_ARCHIVE_WEBHOOK_URL is '***': accepted is a URL such as")
    assert "hunter2" not in said


def test_a_webhook_and_its_secret_are_read_and_never_shown() -> None:
    url, secret = (
        "https://hooks.example.com/services/T0/B0/plantedplanted",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    settings = load(CLOUD_ARCHIVE_WEBHOOK_URL=url, CLOUD_ARCHIVE_WEBHOOK_SECRET=secret)

    assert settings.webhook_url is not None
    assert settings.webhook_url.get_secret_value() == url
    assert settings.webhook_secret is not None
    assert settings.webhook_secret.get_secret_value() == secret
    assert "planted" not in repr(settings) + str(dataclasses.asdict(settings))
    assert "base64" in only_problem(CLOUD_ARCHIVE_WEBHOOK_SECRET="whsec_not base64".replace(" ", "-"))
    assert "base64" in only_problem(CLOUD_ARCHIVE_WEBHOOK_SECRET="whsec_")


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


@pytest.mark.parametrize("variable", ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_SESSION_TOKEN"])
@pytest.mark.parametrize("text", ["planted in two", '"planted in two"', "plantéd", "planted\nplanted"])
def test_a_credential_with_blanks_is_refused_without_showing_it(variable: str, text: str) -> None:
    said = only_problem(**{variable: text})

    assert said.startswith(f"{variable} is {MASK!r}: ")
    assert "plant" not in said


@pytest.mark.parametrize(
    "variable", ["R2_ACCESS_KEY_ID", "R2_ACCESS_KEY", "R2_SECRET_ACCESS_KEY", "R2_SECRET_KEY"]
)
def test_the_aliases_of_credentials_are_masked_too(variable: str) -> None:
    environ = {"S3_BUCKET": "b", variable: "planted here"}

    with pytest.raises(SettingsError) as caught:
        load_settings(environ)

    assert f"{variable} is {MASK!r}" in str(caught.value)
    assert "planted" not in str(caught.value)


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


# --- nothing shows a secret


def test_no_form_of_the_settings_shows_a_secret() -> None:
    settings = load(S3_SESSION_TOKEN=TOKEN)
    forms = [
        *(repr(settings), str(settings), f"{settings}", f"{settings!r}"),
        *(str(dataclasses.asdict(settings)), str(dataclasses.astuple(settings)), str(vars(settings))),
        f"{settings.secret_access_key} {settings.session_token!r}",
        pretty_repr(settings),
    ]

    for form in forms:
        assert SECRET not in form
        assert TOKEN not in form
    assert ACCESS_KEY not in repr(settings)


def test_the_secrets_are_handed_out_for_redaction() -> None:
    assert load(S3_SESSION_TOKEN=TOKEN).secrets() == (SECRET, TOKEN)


def everything_said(error: BaseException) -> str:
    """The error with its whole chain, suppressed or not, each as text, repr and traceback."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or link in seen:
            continue
        seen.append(link)
        waiting += [link.__cause__, link.__context__]
    said = [part for link in seen for part in (str(link), repr(link), *traceback.format_exception(link))]
    return "\n".join([*said, repr(getattr(error, "problems", ""))])


def test_a_refusal_leads_to_no_secret_by_any_way() -> None:
    error = refusal(
        S3_SECRET_ACCESS_KEY=f"{SECRET} {SECRET}",
        S3_SESSION_TOKEN=f"'{TOKEN} x'",
        S3_ACCESS_KEY_ID=f"{ACCESS_KEY} x",
        S3_ENDPOINT_URL="https://user:hunter2@host",
        CLOUD_ARCHIVE_WORKERS="x",
    )
    said = everything_said(error)

    assert error.__cause__ is None
    assert error.__context__ is None
    assert len(error.problems) == 5
    for secret in (SECRET, TOKEN, ACCESS_KEY, "hunter2"):
        assert secret not in said


def test_a_secret_in_the_wrong_variable_is_not_shown_either() -> None:
    error = refusal(
        S3_BUCKET=f"x/{SECRET}",
        S3_REGION=ACCESS_KEY + "!",
        S3_PREFIX=f"{{{SECRET}}}",
        S3_ENDPOINT_URL=f"https://host/{SECRET}",
        CLOUD_ARCHIVE_INCLUDE=f"@{SECRET}",
        CLOUD_ARCHIVE_WORKERS="x" * 110 + SECRET,
    )

    assert len(error.problems) == 6
    assert SECRET not in str(error)
    assert SECRET[:8] not in str(error)
    assert ACCESS_KEY not in str(error)


SHAPES = {
    "user info": "https://{id}:{secret}@store.example/bucket",
    "user info without scheme": "me:{secret}@store.example",
    "access key id": "{id}",
    "high entropy": "kPq7XvB2mZ9rTw4YcN8sLd3FhJ6gQa5UeKxV1oRi",
    "r2 secret": "3f9a" * 4 + "0b7c5d21" * 6,
    "equals one that is set": "{secret}",
    "holds one that is set": "x-{secret}-y",
}
PLAIN_SECRET = "planted-secret-0123456789"  # fits everywhere a name fits
PLAIN_ID = "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "variable", [name for name in VARIABLES if name not in (*SECRET_VARIABLES, *ACCESS_KEY_VARIABLES)]
)
def test_a_credential_in_the_wrong_variable_is_refused_and_not_shown(
    variable: str, shape: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {**REQUIRED, "S3_SECRET_ACCESS_KEY": PLAIN_SECRET, "S3_ACCESS_KEY_ID": PLAIN_ID}
    text = SHAPES[shape].format(id=PLAIN_ID, secret=PLAIN_SECRET)
    environ.pop({"R2_BUCKET": "S3_BUCKET"}.get(variable, ""), None)

    with pytest.raises(SettingsError) as caught:
        load_settings({**environ, variable: text})

    said = everything_said(caught.value)
    assert f"{variable} is " in str(caught.value)
    for secret in (PLAIN_SECRET, PLAIN_ID, SHAPES["high entropy"], SHAPES["r2 secret"]):
        assert secret not in said


def test_common_values_are_no_credentials(tmp_path: Path) -> None:
    layer = tmp_path / "overlay2" / "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    settings = load(
        S3_SECRET_ACCESS_KEY="test",
        S3_BUCKET="test",
        S3_PREFIX="comfyui/TeamA/SDXL-Turbo-v1-0/550e8400-e29b-41d4-a716-446655440000/{Y}",
        S3_ENDPOINT_URL="https://9dd4e461268c8034f5c8564e155c67a6.r2.cloudflarestorage.com",
        S3_SERVER_SIDE_ENCRYPTION="aws:kms",
        S3_SSE_KMS_KEY_ID="arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        CLOUD_ARCHIVE_STATE_DIR=str(layer),
        CLOUD_ARCHIVE_MACHINE_NAME="ip-10-0-0-1.eu-central-1.compute.internal",
    )

    assert settings.state_dir == layer


value_text = st.text(alphabet=st.characters(exclude_characters="\0"), max_size=40) | st.sampled_from(
    [
        *(f"{{{letter}}}" for letter in "Ym"),
        "http://host",
        "host:1",
        "u:p@h",
        "7d",
        "@media",
        "!",
        "[z-a]",
        "**",
    ]
)
secret_text = st.text(
    alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=40
).map(lambda text: f"{text[:6]}~^{text[6:]}")  # so that no message or line of code holds it by chance


@unhurried
@given(
    environ=st.dictionaries(st.sampled_from(VARIABLES), value_text),
    secret=secret_text,
    into=st.lists(st.sampled_from(VARIABLES), max_size=4),
)
def test_any_environment_is_settings_or_a_settings_error_without_the_secret(
    environ: Mapping[str, str], secret: str, into: list[str]
) -> None:
    environ = {**environ, **dict.fromkeys(into, secret), "S3_SECRET_ACCESS_KEY": secret}
    refused: SettingsError | None = None
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        refused = error

    if refused is None:
        assert settings.secrets()[0] == strip_quotes(secret)
    else:
        assert secret not in everything_said(refused)
        assert all(problem.accepted for problem in refused.problems)
