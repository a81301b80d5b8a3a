"""A pod is stopped while 200 files wait for a store: daemon, stop hook and start script tell the truth.

Real processes, real signals; the store is SeaweedFS behind a proxy that holds up most writes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.client import running_engine
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Fault, Kind
from tests.fork_server import PIPE, Process, popen
from tests.integration.archives import Archive
from tests.integration.examples import ROOT, SCRIPT
from tests.servers import S3Server, wait_until

pytestmark = [
    pytest.mark.store,
    pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's"),
]

FILES, FIRST = 200, 8  # the store takes the first ones at once
NAMES = [f"{number:03}.png" for number in range(FILES)]


@contextmanager
def slow_daemon(
    tmp_path: Path, server: S3Server, *, grace: float
) -> Iterator[tuple[Process, Archive, dict[str, str], Callable[[], None]]]:
    """Run a daemon on 200 files, of which 8 are archived already; no other write gets an answer.

    The last yielded value is a function that lets the store answer.
    """
    with FaultProxy(server.endpoint, seed=1) as proxy:
        archive = Archive(tmp_path, server, S3_ENDPOINT_URL=proxy.url, CLOUD_ARCHIVE_WORKERS="4")
        for name in NAMES[:FIRST]:
            archive.write(name, name.encode() * 100)
        environ = os.environ | archive.environ | {
            "COMFYUI_OUTPUT_DIR": str(archive.root),
            "CLOUD_ARCHIVE_STATE_DIR": str(archive.state),
            "CLOUD_ARCHIVE_BACKFILL": "all",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        daemon = popen(
            [sys.executable, "-m", "cloud_archive", "watch", "--json", "--grace", str(grace)],
            env=environ, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        try:
            wait_until(
                lambda: daemon_counts(archive, environ)["uploaded_files"] == FIRST, "some are archived"
            )
            held = proxy.add(Fault(Kind.HANG), operations={"PutObject"})
            for name in NAMES[FIRST:]:
                archive.write(name, name.encode() * 100)

            def all_wait_in_the_ledger() -> bool:  # the status names only the first files that settle
                status = daemon_counts(archive, environ)
                return status["pending_files"] == FILES - FIRST and not status["waiting"] and held.held > 0

            wait_until(all_wait_in_the_ledger, "the others wait")
            yield daemon, archive, environ, proxy.clear
        finally:
            daemon.kill()
            daemon.communicate()


def daemon_counts(archive: Archive, environ: dict[str, str]) -> dict[str, Any]:
    """Return the daemon's status; zeros until it answers."""
    engine = running_engine(archive.root, environ)
    return {"uploaded_files": 0, "pending_files": 0} if engine is None else engine.status()


def in_bucket(server: S3Server) -> set[str]:
    return {key.removeprefix("out/") for key in server.keys("out/")}


def test_flush_names_what_remains_and_where_the_grace_suffices_sigterm_ends_with_0_and_all_files_are_there(
    tmp_path: Path, seaweedfs: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_archive.cli.app import main

    with slow_daemon(tmp_path, seaweedfs, grace=60) as (daemon, _, environ, hurry):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        before = in_bucket(seaweedfs)
        capsys.readouterr()  # the proxy printed its port
        assert main(["flush", "--timeout", "0.3", "--json"]) == 1
        said = capsys.readouterr()
        found = json.loads(said.out)
        after = in_bucket(seaweedfs)
        remaining = {entry["file"] for entry in found["remaining"]}
        assert found["safe_to_stop"] is False
        assert set(NAMES) - after <= remaining, "every file is in one of the lists"
        assert len(remaining) == len(found["remaining"])
        # A file in the bucket that is not proven yet is named as being uploaded.
        assert not before & {entry["file"] for entry in found["remaining"] if entry["state"] == "pending"}
        assert {name for name in NAMES if f"  {name}: " in said.err} == remaining
        hurry()
        daemon.send_signal(signal.SIGTERM)
        out, err = daemon.communicate(timeout=90)
    assert daemon.returncode == 0, err
    assert json.loads(out) == {"success": True, "remaining": [], "errors": []}
    assert in_bucket(seaweedfs) == set(NAMES)


def test_where_the_grace_is_too_short_sigterm_ends_with_1_and_names_exactly_the_missing_files(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    with slow_daemon(tmp_path, seaweedfs, grace=1) as (daemon, archive, _, _):
        daemon.send_signal(signal.SIGTERM)
        out, err = daemon.communicate(timeout=60)
    assert daemon.returncode == 1
    found = json.loads(out)
    left = set(NAMES) - in_bucket(seaweedfs)
    assert len(left) == FILES - FIRST
    assert found["success"] is False
    assert set(found["remaining"]) == left
    assert len(found["remaining"]) == len(left)
    assert {name for name in NAMES if f"Not archived yet: {name}\n" in err} == left
    archive.environ["S3_ENDPOINT_URL"] = seaweedfs.endpoint
    with archive.running() as engine:
        assert engine.flush(60)
    assert in_bucket(seaweedfs) == set(NAMES), "the next start continues with them"
    assert len(seaweedfs.keys()) == FILES, "and uploads none twice"


def test_the_start_script_waits_for_what_comfyui_wrote_last(tmp_path: Path, seaweedfs: S3Server) -> None:
    """docs/examples/start.sh, with a program in ComfyUI's place that writes one more file when it is told to end."""
    if shutil.which("bash") is None:
        pytest.skip("bash")
    root, programs = tmp_path / "output", tmp_path / "bin"
    root.mkdir()
    programs.mkdir()
    (programs / "python").write_text(
        '#!/bin/bash\ntest "$1" = main.py || exit 9\n'
        "trap 'printf last > \"$COMFYUI_OUTPUT_DIR/last.png\"; exit 0' TERM\n"
        "until grep -qs Archiving cloud-archive.log; do sleep 0.1; done\n"  # ComfyUI takes longer to start
        'printf first > "$COMFYUI_OUTPUT_DIR/first.png"\n'
        "while :; do sleep 0.1; done\n"
    )
    (programs / "cloud-archive").write_text(f'#!/bin/bash\nexec "{sys.executable}" -m cloud_archive "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    environ = os.environ | seaweedfs.environ(
        S3_PREFIX="out",
        COMFYUI_OUTPUT_DIR=str(root),
        CLOUD_ARCHIVE_STATE_DIR=str(tmp_path / "state"),
        PYTHONPATH=str(ROOT),
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
    )
    pod = subprocess.Popen(
        ["bash", str(ROOT / SCRIPT)], env=environ, cwd=tmp_path, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: seaweedfs.keys() == ["out/first.png"], "the first file arrives", 60)
        pod.send_signal(signal.SIGTERM)
        pod.wait(60)
        assert pod.returncode == 0
        assert seaweedfs.keys() == ["out/first.png", "out/last.png"]
    finally:
        os.killpg(pod.pid, signal.SIGKILL)  # the daemon outlives the script; a pod's end is the end of all
        pod.communicate()
    assert "Archived last.png" in (tmp_path / "cloud-archive.log").read_text("utf-8")
