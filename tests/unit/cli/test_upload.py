"""What `upload` refuses, whom it asks, and what it prints."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.client import Answer
from cloud_archive.api.routes import bare_status
from cloud_archive.cli.app import main
from cloud_archive.cli.common import ledger_path
from cloud_archive.cli.direct_upload import Item, UploadResult
from cloud_archive.cli.upload import _expand
from cloud_archive.errors import EngineUnavailable
from tests.commands import run_command
from tests.unit.cli.settings import SETTINGS

pytestmark = pytest.mark.usefixtures("own_state")

BASELINE = "--baseline"


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    """The files that were uploaded without an engine."""
    uploaded: list[Item] = []

    class DirectUpload:
        def __init__(
            self, _: object, items: list[Item], *, on_done: Callable[[Item, UploadResult], None], **__: object
        ) -> None:
            self.items, self.on_done = items, on_done

        def run(self) -> None:
            for item in self.items:
                uploaded.append(item)
                self.on_done(item, UploadResult(f"out/{item.path}", "0" * 64, 1000))

    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("cloud_archive.cli.direct_upload.DirectUpload", DirectUpload)
    return uploaded


@pytest.fixture
def watched(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(root))
    (root / "a.png").write_bytes(b"a")
    return root


def test_on_windows_it_expands_what_the_shell_leaves(tmp_path: Path) -> None:
    for name in ("a.png", "b [1].png", "c.txt"):
        (tmp_path / name).touch()
    given = [tmp_path / "*.png", tmp_path / "b [1].*", tmp_path / "?.gif", tmp_path / "c.txt"]
    assert _expand(given, windows=False) == given
    a, b, c = (tmp_path / name for name in ("a.png", "b [1].png", "c.txt"))
    assert _expand(given, windows=True) == [a, b, b, tmp_path / "?.gif", c]


@pytest.mark.skipif(os.name == "nt", reason="there the signal ends the process")
@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_upload_names_what_is_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    missed = list[int]()
    monkeypatch.setattr("cloud_archive.cli.direct_upload.DirectUpload.run", lambda _: interrupt())

    def interrupt() -> None:
        signal.raise_signal(getattr(signal, name))

    (tmp_path / "a.png").write_bytes(b"a")
    before = [
        signal.signal(signal.SIGTERM, lambda number, _: missed.append(number)),
        signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background job ignores it
    ]
    try:
        status, out, err = run_command(capsys, "upload", tmp_path / "a.png", tmp_path / "b.png")
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    assert missed == []
    assert (status, out) == (1, "Complete: 0/2\n")
    assert err.splitlines() == [
        f"{tmp_path / 'b.png'}: File not found.",
        f"{tmp_path / 'a.png'}: Interrupted before it was archived.",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "No file was given"),
        ([BASELINE, "a.png"], "--baseline takes neither files nor --prefix."),
        ([BASELINE, "--prefix", "p"], "--baseline takes neither files nor --prefix."),
        (["--dir", "d", "a.png"], "--dir needs --baseline"),
        (["--prefix", "{q}", "a.png"], "--prefix '{q}': {q} is not a placeholder"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    capsys: pytest.CaptureFixture[str], direct: list[Item], words: list[str], said: str
) -> None:
    assert main(["upload", *words]) == 2
    assert said in capsys.readouterr().err
    assert direct == []


def test_files_are_named_as_given_and_each_counts_once(
    capsys: pytest.CaptureFixture[str], direct: list[Item], watched: Path, tmp_path: Path
) -> None:
    (watched / "sub").mkdir()
    (watched / "sub" / "b.png").write_bytes(b"b")
    (tmp_path / "elsewhere.png").write_bytes(b"c")
    files = [watched / "sub" / "b.png", tmp_path / "elsewhere.png", watched / "sub" / ".." / "sub" / "b.png"]
    assert main(["upload", *map(str, files)]) == 0
    assert [item.path for item in direct] == ["sub/b.png", "elsewhere.png"]
    assert capsys.readouterr().out.splitlines() == [
        f"Archived {files[0]} as out/sub/b.png (1 kB)",
        f"Archived {files[1]} as out/elsewhere.png (1 kB)",
        "Complete: 2/2",
    ]


@pytest.mark.usefixtures("mac")
def test_a_file_has_the_name_that_its_folder_lists(direct: list[Item], watched: Path) -> None:
    (watched / "Sub").mkdir()
    (watched / "Sub" / "b.png").write_bytes(b"b")
    assert main(["upload", *(str(watched / name) for name in ("sub/B.png", "Sub/b.png", "A.PNG"))]) == 0
    assert [item.path for item in direct] == ["Sub/b.png", "a.png"]


@pytest.mark.skipif(os.name == "nt", reason="there .. never follows a link")
def test_a_file_behind_a_linked_folder_is_the_one_that_the_system_opens(
    direct: list[Item], tmp_path: Path
) -> None:
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "far" / "a.png").write_bytes(b"far")
    (tmp_path / "a.png").write_bytes(b"near")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "inner")
    assert main(["upload", f"{tmp_path}/link/../a.png"]) == 0
    assert [item.local for item in direct] == [tmp_path / "far" / "a.png"]


def test_a_damaged_ledger_keeps_no_file_from_being_archived(
    capsys: pytest.CaptureFixture[str], direct: list[Item], watched: Path
) -> None:
    ledger = ledger_path(watched)
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(b"garbage" * 1000)
    assert main(["upload", str(watched / "a.png")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Complete: 1/1"


def test_unfit_files_fail_alone(
    capsys: pytest.CaptureFixture[str], direct: list[Item], watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (watched / "empty.png").touch()
    (watched / "dark.png").write_bytes(b"dark")
    # Root may read every file.
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, *more: Path(path).name != "dark.png" and access(path, *more)
    )
    names = ["missing.png", "empty.png", ".", "dark.png", "a.png"]
    assert main(["upload", "--json", *(str(watched / name) for name in names)]) == 1
    out, err = capsys.readouterr()
    assert [line.partition(": ")[2] for line in err.splitlines()] == [
        "File not found.",
        "It is empty: there is nothing to archive.",
        "It is a directory; name files.",
        "It can't be read. Allow this user to read it.",
    ]
    found = json.loads(out)
    assert (found["archived"], found["failed"]) == (1, 4)
    assert [row.get("s3_key") for row in found["files"]] == [None, None, None, None, "out/a.png"]


class StandInEngine:
    """Gives each answer once, and then does not answer any more."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def call(self, *_: object, **__: object) -> Answer:
        if not self.answers:
            raise EngineUnavailable("It does not answer.")
        return self.answers.pop(0)

    def status(self) -> dict[str, Any]:
        """Return a status in which nothing happens."""
        return bare_status("idle")


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def beside(*answers: Answer) -> None:
        engine = StandInEngine(*answers)
        monkeypatch.setattr("cloud_archive.api.client.running_engine", lambda *_: engine)
        monkeypatch.setattr("cloud_archive.cli.upload._PAUSE_SECONDS", 0.0)

    return beside


def archived(key: str) -> Answer:
    row: dict[str, Any] = {"s3_key": key, "sha256": "0" * 64, "size_bytes": 1}
    return Answer(200, {"message": "Archived.", "file": row})


def test_a_running_archive_is_asked_until_the_file_is_archived(
    capsys: pytest.CaptureFixture[str], direct: list[Item], watched: Path, beside: Callable[..., None]
) -> None:
    busy = Answer(502, {"message": "Slow down.", "file": {"code": "SlowDown"}})
    beside(Answer(202, {"message": "Queued."}), busy, archived("out/a.png"))
    assert main(["upload", str(watched / "a.png")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Complete: 1/1"
    assert direct == []
    beside(Answer(502, {"message": "No access.", "file": {"code": "AccessDenied"}}))
    assert main(["upload", str(watched / "a.png")]) == 1
    assert capsys.readouterr().err.endswith("a.png: No access.\n")


def test_a_large_file_is_waited_for_as_long_as_it_is_sent(
    direct: list[Item], watched: Path, beside: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.cli.give_up.GIVE_UP_SECONDS", 0.2)
    beside(*[Answer(202, {"message": "Queued."})] * 5, archived("out/a.png"))
    monkeypatch.setattr("cloud_archive.cli.upload._PAUSE_SECONDS", 0.1)
    sent = itertools.count(1)

    def status(_: StandInEngine) -> dict[str, Any]:
        return bare_status("uploading") | {"active": [{"path": "a.png", "sent_bytes": next(sent)}]}

    monkeypatch.setattr(StandInEngine, "status", status)
    assert main(["upload", str(watched / "a.png")]) == 0


def test_new_files_of_a_busy_directory_are_no_progress(
    capsys: pytest.CaptureFixture[str],
    watched: Path,
    beside: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the store is away, ComfyUI goes on writing. `upload` ends all the same."""
    monkeypatch.setattr("cloud_archive.cli.give_up.GIVE_UP_SECONDS", 0.2)
    beside(*[Answer(202, {"message": "Queued."})] * 50)
    monkeypatch.setattr("cloud_archive.cli.upload._PAUSE_SECONDS", 0.02)
    written = itertools.count(1)

    def status(_: StandInEngine) -> dict[str, Any]:
        new = {"path": f"{next(written)}.png", "size_bytes": 1, "sent_bytes": 1, "reason": "may still change"}
        return bare_status("retrying") | {"active": [new], "waiting": [new]}

    monkeypatch.setattr(StandInEngine, "status", status)
    assert main(["upload", str(watched / "a.png")]) == 1
    assert capsys.readouterr().err.endswith("Queued. The running archive keeps trying.\n")


def test_a_file_that_a_running_archive_knows_counts_as_archived_already(
    capsys: pytest.CaptureFixture[str], watched: Path, beside: Callable[..., None]
) -> None:
    answer = archived("out/a.png")
    answer.body["file"]["already_archived"] = True
    beside(answer)
    assert main(["upload", "--json", str(watched / "a.png")]) == 0
    (row,) = json.loads(capsys.readouterr().out)["files"]
    assert row["already_archived"] is True


def test_what_an_archive_that_ended_leaves_over_is_uploaded_directly(
    direct: list[Item], watched: Path, beside: Callable[..., None]
) -> None:
    (watched / "b.png").write_bytes(b"b")
    beside(archived("out/a.png"))
    assert main(["upload", str(watched / "a.png"), str(watched / "b.png")]) == 0
    assert [item.path for item in direct] == ["b.png"]


@pytest.mark.parametrize("ends", [True, False])
def test_an_archive_that_is_stopping_is_waited_for_and_then_left_alone(
    direct: list[Item],
    watched: Path,
    beside: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    ends: bool,
) -> None:
    (watched / "b.png").write_bytes(b"b")
    stopping = Answer(503, {"message": "The archive is stopping."})
    if not ends:
        monkeypatch.setattr("cloud_archive.cli.give_up.GIVE_UP_SECONDS", 0.0)
    beside(archived("out/a.png"), *[stopping] * 3)
    assert main(["upload", str(watched / "a.png"), str(watched / "b.png")]) == 0
    assert [item.path for item in direct] == ["b.png"]


def test_an_empty_name_is_wrong_usage(capsys: pytest.CaptureFixture[str], watched: Path) -> None:
    assert main(["upload", ""]) == 2
    assert "It is empty: give a file." in " ".join(capsys.readouterr().err.split())


def test_a_file_that_is_deleted_while_others_are_uploaded_does_not_stop_them(
    direct: list[Item],
    watched: Path,
    beside: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (gone := tmp_path / "gone.png").write_bytes(b"g")
    (other := tmp_path / "other.png").write_bytes(b"o")
    beside(archived("out/a.png"))
    asked = StandInEngine.call

    def call(engine: StandInEngine, *arguments: object, **named: object) -> Answer:
        gone.unlink()
        return asked(engine, *arguments, **named)

    monkeypatch.setattr(StandInEngine, "call", call)
    assert main(["upload", str(watched / "a.png"), str(gone), str(other)]) == 0
    assert [item.path for item in direct] == ["gone.png", "other.png"]


def test_another_prefix_is_not_for_the_running_archive(
    direct: list[Item], watched: Path, beside: Callable[..., None]
) -> None:
    beside(Answer(500, {}))
    assert main(["upload", "--prefix", "p", str(watched / "a.png")]) == 0
    assert [item.path for item in direct] == ["a.png"]
