"""Commands that answer from the ledger where no engine runs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cloud_archive.cli.common import ledger_path
from cloud_archive.files import FileVersion
from cloud_archive.intake.walk import scan
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.state import LEDGER_NAME, make_state_directory
from tests.archived_rows import mark_archived
from tests.commands import run_command

pytestmark = pytest.mark.usefixtures("own_state")


def test_an_unknown_directory_with_files_is_not_safe(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    (root / "a.png").write_bytes(b"a")
    status, out, err = run_command(capsys, "status", str(root))
    assert status == 1
    assert "No archive of this user is running" in out
    assert "a.png" in err
    assert not list((root.parent / "state-home").rglob("*.sqlite3")), "asking for the status makes no ledger"


@pytest.mark.parametrize("command", ["status", "flush", "retry"])
def test_the_ledger_answers_where_nothing_runs(
    capsys: pytest.CaptureFixture[str], root: Path, command: str
) -> None:
    for name in ("archived.png", "failed.png", "pending.png", "unseen.png", ".hidden", "x.part"):
        (root / name).write_bytes(name.encode())
    with_ledger(root, archived=["archived.png"], failed=["failed.png"], pending=["pending.png"])
    status, out, err = run_command(capsys, command, str(root))
    assert status == 1
    assert "No archive of this user is running" in out
    assert "3 files" in out
    assert "failed.png: The store said no. Ask it." in err
    for name in ("pending.png", "unseen.png"):
        assert f"{name}: not archived" in err
    for name in ("archived.png", ".hidden", "x.part"):
        assert name not in err


def test_a_fully_archived_directory_is_safe_to_stop(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    (root / "a.png").write_bytes(b"a")
    with_ledger(root, archived=["a.png"])
    status, out, err = run_command(capsys, "flush", str(root), "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["safe_to_stop"] is True
    assert found["archived_files"] == 1


def test_a_name_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    if os.name == "nt":
        pytest.skip("such names exist on POSIX only")
    (root / "a\n\x1b[2J.png").write_bytes(b"a")
    (root / os.fsdecode(b"no\xffutf8.png")).write_bytes(b"a")
    _, _, err = run_command(capsys, "status", str(root))
    assert "\x1b" not in err
    assert "a\\n\\x1b[2J.png" in err
    _, out, _ = run_command(capsys, "status", str(root), "--json")
    assert set(json.loads(out)["remaining"]) == {"a\n\x1b[2J.png", "no\udcffutf8.png"}


def test_an_engine_that_was_killed_is_no_engine(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    import socket

    from cloud_archive.state import EngineInfo, write_engine_info

    state = make_state_directory(root, None)
    with socket.socket() as taken:  # and nothing listens there
        taken.bind(("127.0.0.1", 0))
        write_engine_info(state, EngineInfo(1, taken.getsockname()[1], "token", str(root), "0"))
        status, out, _ = run_command(capsys, "status", str(root))
    assert status == 0
    assert "No archive of this user is running" in out


def with_ledger(
    root: Path,
    *,
    archived: Sequence[str] = (),
    failed: Sequence[str] = (),
    pending: Sequence[str] = (),
) -> None:
    """Make a ledger for `root` as an engine leaves it."""
    versions = {version.path: version for version in scan(root)}
    ledger = Ledger(make_state_directory(root, None) / LEDGER_NAME)
    ledger.open()
    ledger.add(versions[name] for name in (*archived, *failed, *pending))
    for name in archived:
        claim = ledger.claim_version("test", versions[name])
        assert claim is not None
        mark_archived(ledger, claim, key=name, sha256="00" * 32, etag=None)
    for name in failed:
        claim = ledger.claim_version("test", versions[name])
        assert claim is not None
        ledger.mark_failed(claim, code="X", cause="The store said no.", cure="Ask it.", next_try=None)
    ledger.close()


def test_compact_counts_and_then_compacts(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    path = ledger_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(path, clock=lambda: 1e9)
    ledger.open()
    ledger.add([FileVersion("old.png", 1, 1)])
    claim = ledger.claim("test")
    assert claim is not None
    mark_archived(ledger, claim, key="k", sha256="ab" * 32, etag=None)
    ledger.close()
    assert "Would compact 1 file " in run_command(capsys, "compact", str(root))[1]
    assert json.loads(run_command(capsys, "compact", str(root), "--yes", "--json")[1])["files"] == 1
    assert "Would compact 0 files " in run_command(capsys, "compact", str(root))[1]
