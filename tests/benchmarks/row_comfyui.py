"""Measure the effect on ComfyUI: its computing thread and its event loop during uploads, and the plugin's import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.figures import Figure, Row
from tests.benchmarks.stage import write_files
from tests.plugin_loading import load_plugins, make_plugins
from tests.servers import S3Server

REPOSITORY = Path(__file__).parents[2]
IMAGES = 400
IMAGE_BYTES = 1_500_000
PHASE_SECONDS = 3.0

LOOP = "ComfyUI's process while a backlog uploads: turns of small numpy operations a second"
LAG = "the same: the event loop's lag, 99th percentile"
IMPORT = "the plugin's import, as ComfyUI reports it"


def _comfyui(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """Measure with the store at a lower priority than the engine: in reality it is another machine."""
    staged, root = work / "staged", work / "output"
    root.mkdir()
    first = write_files(work / "images", IMAGES, IMAGE_BYTES)
    for number in range(rounds):
        folder = staged / f"round{number}"
        folder.mkdir(parents=True)
        for path in first:
            os.link(path, folder / path.name)
    assert server.embedded is not None
    assert server.embedded.pid is not None
    nice = hasattr(os, "setpriority")
    if nice:
        before = os.getpriority(os.PRIO_PROCESS, server.embedded.pid)
        _renice(server.embedded.pid, 19)
    try:
        found = _rounds(server, root, work / "state", staged)
    finally:
        if nice and os.geteuid() == 0:
            _renice(server.embedded.pid, before)
    idle, busy = zip(*((each["idle"], each["busy"]) for each in found), strict=True)
    turns = Figure(
        LOOP,
        [each[0] for each in busy],
        [each[0] for each in idle],
        "the same process with an idle engine",
        "≥ 0.9 ×",
        0.9,
        "/s",
        at_least=True,
    )
    still = [each[1] for each in idle]
    most = sorted(still)[len(still) // 2] + 2.0
    lag = Figure(
        LAG,
        [each[1] for each in busy],
        still,
        "the same process with an idle engine",
        "≤ idle + 2 ms",
        most,
        "ms",
        absolute=True,
    )
    return [turns, lag]


def _renice(pid: int, nice: int) -> None:
    """Renice all threads of a process: on Linux each has its own niceness."""
    tasks = Path(f"/proc/{pid}/task")
    threads = [int(task.name) for task in tasks.iterdir()] if tasks.is_dir() else [pid]
    for thread in threads:
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    session = Path(f"/proc/{pid}/autogroup")  # it has one of its own; see `lower_priority`
    if session.is_file():
        session.write_text(str(nice), encoding="ascii")


def _rounds(server: S3Server, root: Path, state: Path, staged: Path) -> list[dict[str, list[float]]]:
    arguments = [str(root), str(state), str(staged), str(PHASE_SECONDS)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.comfyui_process", *arguments],
        env={**os.environ, **server.environ(S3_PREFIX="ours"), **threads},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _import(_: S3Server, work: Path, rounds: int) -> list[Figure]:
    """Measure in fresh interpreters with ComfyUI's own imports loaded; the first of them writes the bytecode."""
    folders = make_plugins(work)
    load_plugins(folders)
    found = [load_plugins(folders) for _ in range(max(5, rounds * 2))]
    ours = [each["seconds"] * 1000 for each in found]
    theirs = [each["base_seconds"] * 1000 for each in found]
    most = sorted(theirs)[len(theirs) // 2] + 30
    peer = "a plugin that only sets NODE_CLASS_MAPPINGS"
    return [Figure(IMPORT, ours, theirs, peer, "≤ + 30 ms", most, "ms", absolute=True)]


ROWS: dict[str, Row] = {"comfyui": Row((LOOP, LAG), _comfyui), "import": Row((IMPORT,), _import)}
