"""Whether a file has a writer: on Linux the kernel says so, on macOS and other systems nothing does."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.intake import open_files as writers
from cloud_archive.intake.open_files import has_writer

fcntl: Any = pytest.importorskip("fcntl")
linux = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")


@linux
def test_an_open_writer_is_seen_until_it_closes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as writer:
        writer.write(b"x")
        assert has_writer(tmp_path, path.name) is True
    assert has_writer(tmp_path, path.name) is False


@linux
def test_a_writer_in_another_process_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    code = "import sys; f = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        assert has_writer(tmp_path, path.name) is True
        process.stdin.close()
        process.wait(60)
    assert has_writer(tmp_path, path.name) is False


@linux
def test_a_reader_is_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    with path.open("rb"):
        assert has_writer(tmp_path, path.name) is False


@linux
def test_nothing_is_told_of_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
        for name in ("missing", "link", "pipe", "socket", ".", "x" * 300, "a/" * 3000, "nul\0"):
            assert has_writer(tmp_path, name) is None, name


@linux
def test_a_file_behind_a_linked_folder_is_not_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "PROC_SECONDS", 0.0)  # /proc is read anew each time
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    with (tmp_path / "real/a.png").open("wb"):
        assert has_writer(tmp_path, "real/a.png") is True
        assert has_writer(tmp_path, "linked/a.png") is None


def open_below(folder: Path) -> list[str]:
    """Return what this process has open of this folder; other threads may open and close other files meanwhile."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(str(each.readlink()))
    return [path for path in found if path.startswith(str(folder.resolve()))]


@linux
def test_asking_leaves_no_lease_and_no_descriptor_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    for _ in range(50):
        has_writer(tmp_path, path.name)
    assert open_below(tmp_path) == []
    with path.open("ab") as writer:  # a lease left behind would make this wait for 45 s
        writer.write(b"y")


@linux
def test_a_writer_that_breaks_the_lease_does_not_end_the_process(tmp_path: Path) -> None:
    """Lose the race on purpose: hold the lease with the signal chosen here while a writer opens the file."""
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    code = (
        "import fcntl, os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from cloud_archive.intake import open_files as writers\n"
        "real = fcntl.fcntl\n"
        "def slow(fd, command, argument=0):\n"
        "    if command == fcntl.F_SETLEASE and argument == fcntl.F_UNLCK:\n"
        "        code = 'import os, sys\\ntry: os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)\\n'\n"
        "        code += 'except BlockingIOError: print(\"broke\")'\n"
        "        out = subprocess.run([sys.executable, '-c', code, sys.argv[1]], stdout=-1).stdout\n"
        "        print(out.decode().strip(), flush=True)\n"
        "    return real(fd, command, argument)\n"
        "fcntl.fcntl = slow\n"
        "print(writers.has_writer(Path('/'), sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.split() == ["broke", "False"], done.stderr
    assert done.returncode == 0


@linux
@pytest.mark.parametrize("how", ["wb", "r+b", "locked"])
def test_proc_tells_of_a_writer_where_leases_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    monkeypatch.setattr(writers, "_RELIABLE_LEASES", frozenset())
    monkeypatch.setattr(writers, "PROC_SECONDS", 0.0)
    with path.open("rb"):
        assert has_writer(tmp_path, path.name) is None, "a reader"
    with path.open("r+b" if how == "locked" else how) as file:
        if how == "locked":
            fcntl.flock(file, fcntl.LOCK_EX)
            monkeypatch.setattr(writers, "_opened_for_writing", list)
        assert has_writer(tmp_path, path.name) is True
    assert has_writer(tmp_path, path.name) is None


@linux
@pytest.mark.parametrize("code", [13, 22])
def test_a_lease_that_cannot_be_had_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def refuse(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert has_writer(tmp_path, path.name) is None


def test_it_can_be_imported_and_asked_where_there_is_no_fcntl() -> None:
    code = (
        "import sys; sys.modules['fcntl'] = None; sys.platform = 'sunos5'\n"
        "from pathlib import Path\n"
        "from cloud_archive.intake.open_files import has_writer\n"
        "print(has_writer(Path('/'), sys.executable))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "None", done.stderr
