"""What `catalog status` and `catalog rebuild` say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from cloud_archive.catalog.database import open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.rebuild import RebuildPlan, Rebuilt
from cloud_archive.cli.app import main
from cloud_archive.cli.catalog import _plan_words, _show_result
from cloud_archive.cli.catalog_view import catalog_path
from cloud_archive.store.base import ObjectInfo
from tests.unit.catalog.cataloguing import add_described

UNKNOWN = ObjectInfo("out/a.png", 1000, "etag", None, None, {}, None)


@pytest.mark.usefixtures("own_state")
def test_the_status_counts_files_and_names_what_was_not_read(
    capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    assert main(["catalog", "status", "--dir", str(root)]) == 1
    assert "There is no catalog at " in capsys.readouterr().err
    assert main(["catalog", "status", "--dir", str(root / "typo")]) == 2
    assert "typo does not exist" in capsys.readouterr().err
    catalog_path(root).parent.mkdir(parents=True)
    database, _ = open_catalog(catalog_path(root))
    add_described(database, "out/a.png", Description(prompt="a red fox"), created=0.0)
    database.close()
    assert main(["catalog", "status", "--dir", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 file in the catalog, ")
    assert lines[1:3] == ["All files were read.", "0 edits, 0 captured jobs."]
    assert main(["catalog", "status", "--dir", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["assets"], found["unread"], found["file_troubles"]) == (1, 0, [])


@pytest.mark.usefixtures("own_state", "settings_in_environment")
@pytest.mark.parametrize("command", [["status"], ["sync"], ["sql", "SELECT 1"], ["export", "--jsonl", "out"]])
def test_a_catalog_that_is_off_is_named_as_the_cause(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path, command: list[str]
) -> None:
    monkeypatch.setenv("CLOUD_ARCHIVE_CATALOG", "off")
    assert main(["catalog", *command, "--dir", str(root)]) == 1
    assert capsys.readouterr().err == "The catalog is turned off: CLOUD_ARCHIVE_CATALOG is off.\n"


def test_a_plan_says_what_it_costs_before_it_begins() -> None:
    assert _plan_words(RebuildPlan(2, (), 0)) == "2 objects in the bucket, and the catalog knows all of them."
    words = _plan_words(RebuildPlan(2, (UNKNOWN,), 3, ("gone",)))
    assert words.startswith("2 objects in the bucket; 1 file to add, 1 gone and 3 to read: about ")
    assert "the catalog knows all" not in _plan_words(RebuildPlan(2, (), 0, ("gone",)))


def test_a_dry_run_adds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    plan = RebuildPlan(2, (UNKNOWN,), 0)
    _show_result(plan, Rebuilt(0, 0, 1), dry_run=True, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["dry_run"], found["added"], found["to_add"], found["unread"]) == (True, 0, 1, 1)
    _show_result(plan, Rebuilt(0, 0, 1), dry_run=True, json=False)
    assert capsys.readouterr() == ("", "")


def test_a_rebuild_names_what_it_added_and_fails_if_it_could_not_read_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _show_result(RebuildPlan(2, (UNKNOWN,), 0, ("gone",)), Rebuilt(1, 1, 0), dry_run=False, json=False)
    assert capsys.readouterr().out == "Added 1 file, and noted that 1 file was deleted.\n"
    with pytest.raises(typer.Exit) as ended:
        _show_result(RebuildPlan(2, (UNKNOWN,), 0), Rebuilt(1, 0, 1), dry_run=False, json=True)
    assert ended.value.exit_code == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["added"] == 1
    assert err == "1 file can't be read now. Run the command again later.\n"
