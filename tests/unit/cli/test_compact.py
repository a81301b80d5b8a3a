"""What `compact` does without `--yes` and with it, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from cloud_archive.cli.common import ledger_path
from cloud_archive.errors import LedgerError
from cloud_archive.ledger.ledger import Ledger

pytestmark = pytest.mark.usefixtures("own_state")


@pytest.fixture
def compacted(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A ledger with two old files; what is done to it, in its order."""
    path = ledger_path(root)
    path.parent.mkdir(parents=True)
    ledger = Ledger(path)
    ledger.open()
    ledger.close()
    done: list[str] = []

    def compact(*_: object, **__: object) -> int:
        done.append("compact")
        return 2

    monkeypatch.setattr("cloud_archive.ledger.history.count_compactable_rows", lambda *_: 2)
    monkeypatch.setattr("cloud_archive.ledger.history.compact", compact)

    def vacuum(_: object) -> None:
        done.append("vacuum")

    monkeypatch.setattr("cloud_archive.ledger.history.vacuum", vacuum)
    return done


def test_without_yes_nothing_is_changed(
    capsys: pytest.CaptureFixture[str], root: Path, compacted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compact", str(root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Would compact 2 files of a ledger of ")
    assert out.endswith(" Add --yes to compact it.\n")
    monkeypatch.setattr("cloud_archive.ledger.history.count_compactable_rows", lambda *_: 0)
    main(["compact", str(root)])
    assert "--yes" not in capsys.readouterr().out, "nothing to do"
    assert compacted == []


def test_with_yes_the_space_is_given_back_too(
    capsys: pytest.CaptureFixture[str], root: Path, compacted: list[str]
) -> None:
    assert main(["compact", str(root), "--yes"]) == 0
    assert capsys.readouterr().out.startswith("Compacted 2 files: the ledger takes ")
    assert compacted == ["compact", "vacuum"]
    assert main(["compact", str(root), "--yes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    size = ledger_path(root).stat().st_size
    assert found == {"dry_run": False, "files": 2, "size_bytes_before": size, "size_bytes": size}


def test_the_size_beside_a_running_engine_includes_the_write_ahead_log(
    capsys: pytest.CaptureFixture[str], root: Path, compacted: list[str]
) -> None:
    path = ledger_path(root)
    log = path.with_name(f"{path.name}-wal")
    engine = Ledger(path)
    engine.open()
    try:
        engine.change(lambda db: db.execute("CREATE TABLE more AS SELECT randomblob(50000)") and None)
        assert log.stat().st_size > 50_000
        size_before = path.stat().st_size + log.stat().st_size
        assert main(["compact", str(root), "--json"]) == 0
        size_after = path.stat().st_size + log.stat().st_size
    finally:
        engine.close()
    found = json.loads(capsys.readouterr().out)
    assert (found["size_bytes_before"], found["size_bytes"]) == (size_before, size_after)


@pytest.mark.parametrize(("age", "words"), [("off", "would compact nothing"), ("old", "--older-than 'old'")])
def test_an_age_is_needed(
    capsys: pytest.CaptureFixture[str], root: Path, compacted: list[str], age: str, words: str
) -> None:
    assert main(["compact", str(root), "--older-than", age, "--yes"]) == 2
    assert words in capsys.readouterr().err
    assert compacted == []


def test_space_that_could_not_be_given_back_is_named(
    capsys: pytest.CaptureFixture[str], root: Path, compacted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["compact", str(root), "--yes"])
    assert "another program" not in capsys.readouterr().out
    why = LedgerError("The ledger is locked by another program. Wait until it has ended.")
    monkeypatch.setattr("cloud_archive.ledger.history.vacuum", lambda _: why)
    assert main(["compact", str(root), "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "The space was not given back to the disk. The ledger is locked by another program. Wait until it has ended."
        " Then run this command again."
    )
