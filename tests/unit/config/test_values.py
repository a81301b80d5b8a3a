"""Settings: what each kind of value may be, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_archive.config.parsers import parse_patterns
from tests.unit.config.environments import load, only_problem


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
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
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
        ("CLOUD_ARCHIVE_MAX_BANDWIDTH", "10", "add the unit, such as 10MB/s"),
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
        ("CLOUD_ARCHIVE_MACHINE_NAME", "a\x85b", "printable"),
        ("S3_PREFIX", "a\x85b", "remove U+0085"),
        ("CLOUD_ARCHIVE_MACHINE_NAME", "a" * 101, "at most 100 printable characters"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(variable: str, text: str, accepted: str) -> None:
    said = only_problem(**{variable: text})

    assert said.startswith(f"{variable} is {text[:100]!r}"[:100])
    assert accepted in said
    assert len(said) < 1000


@pytest.mark.parametrize("text", ["previews\\*", "*.png,\\temp", "drafts\\"])
def test_on_windows_a_pattern_needs_slashes(text: str) -> None:
    with pytest.raises(ValueError, match="write `/`"):
        parse_patterns(text, windows=True)
    assert parse_patterns("a/\\[b\\] c/*,\\#1,\\!2", windows=True) == ("a/\\[b\\] c/*", "\\#1", "\\!2")
    assert parse_patterns("previews\\*", windows=False) == ("previews\\*",)


def test_a_kms_key_needs_kms() -> None:
    said = only_problem(S3_SSE_KMS_KEY_ID="1234", S3_SERVER_SIDE_ENCRYPTION="AES256")

    assert "S3_SERVER_SIDE_ENCRYPTION=aws:kms" in said
    assert load(S3_SSE_KMS_KEY_ID="1", S3_SERVER_SIDE_ENCRYPTION="aws:kms:dsse").sse_kms_key_id == "1"


def test_a_ca_bundle_must_exist_and_be_a_file(tmp_path: Path) -> None:
    assert "no such file" in only_problem(S3_CA_BUNDLE=str(tmp_path / "missing.pem"))
    assert "CA certificates" in only_problem(S3_CA_BUNDLE=str(tmp_path))


def test_a_ca_bundle_must_hold_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert "holds no certificate" in only_problem(S3_CA_BUNDLE=str(tmp_path / "key.pem"))


def test_a_directory_must_not_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")

    assert "this is a file" in only_problem(CLOUD_ARCHIVE_STATE_DIR=str(file))
    assert "this is a file" in only_problem(COMFYUI_OUTPUT_DIR=str(file))
