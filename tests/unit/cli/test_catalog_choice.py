"""Which catalog a command means."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cloud_archive.catalog.bucket.sync import SyncResult
from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.catalog_choice import bucket_catalog, bucket_settings, catalog_root, load_copy
from cloud_archive.cli.common import ledger_path
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import CatalogError
from tests.unit.cli.settings import SETTINGS

pytestmark = pytest.mark.usefixtures("own_state")


@pytest.mark.usefixtures("settings_in_environment")
def test_a_directory_comes_before_the_bucket(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = bucket_settings(None)
    assert settings is not None
    assert settings.bucket == "b"
    assert bucket_settings(root) is None
    assert catalog_root(root) == root
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(root))
    ledger_path(root).parent.mkdir(parents=True)
    ledger_path(root).touch()
    assert bucket_settings(None) is None
    assert catalog_root(None) == root


@pytest.mark.usefixtures("settings_in_environment")
def test_the_bucket_comes_before_a_directory_that_this_machine_never_archived(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(root))
    assert bucket_settings(None) is not None
    assert bucket_settings(root) is None
    monkeypatch.delenv("S3_BUCKET")
    assert bucket_settings(None) is None
    assert catalog_root(None) == root


@pytest.mark.usefixtures("settings_in_environment")
def test_wrong_settings_are_named_where_no_directory_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_PREFIX", "a{q}")
    assert bucket_settings(None) is None
    with pytest.raises(
        WrongUsage, match=r"No directory was given.*S3_PREFIX is 'a\{q\}'.*or name a directory\."
    ):
        catalog_root(None)


def test_a_trouble_is_printed_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    result = SyncResult(troubles=["a.jsonl.gz is left out: \x1b[2J."])
    opened = SimpleNamespace(make_sync=lambda: SimpleNamespace(sync=lambda **_: result))
    load_copy(cast(Any, opened))
    assert capsys.readouterr().err == "a.jsonl.gz is left out: \\x1b[2J.\n"


@pytest.mark.parametrize("assets", [[], [(1,)]])
def test_an_empty_catalog_is_told_from_a_search_without_result(
    capsys: pytest.CaptureFixture[str], assets: list[tuple[int]]
) -> None:
    opened = SimpleNamespace(
        make_sync=lambda: SimpleNamespace(sync=lambda **_: SyncResult()),
        database=SimpleNamespace(read=lambda sql: assets),
    )
    load_copy(cast(Any, opened))
    assert ("S3_PREFIX" in capsys.readouterr().err) == (not assets)


def test_a_catalog_that_is_off_is_not_opened() -> None:
    with (
        pytest.raises(CatalogError, match="CLOUD_ARCHIVE_CATALOG"),
        bucket_catalog(load_settings({**SETTINGS, "CLOUD_ARCHIVE_CATALOG": "off"})),
    ):
        pytest.fail("it is open")
