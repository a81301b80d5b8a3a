"""A stand-in for the engine's process: the real server around the fake engine, and ways to misbehave.

    python fake_engine_process.py MODE JOURNAL

Each process writes one JSON line with its orders, arguments and pid to JOURNAL, and "end" when it ends by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

mode, journal = sys.argv[1], Path(sys.argv[2])
if mode == "no-module":
    raise ModuleNotFoundError("No module named 'boto3'", name="boto3")
if mode == "secret":
    raise RuntimeError(f"it quotes {os.environ['S3_SECRET_ACCESS_KEY']} by accident")
if mode == "exit-7":
    sys.exit(7)
if mode == "garbage":
    print("hello", flush=True)


def note(**facts: object) -> None:
    with journal.open("a") as file:
        file.write(json.dumps(facts) + "\n")


orders = json.loads(sys.stdin.readline())
note(orders=orders, arguments=sys.argv, pid=os.getpid(), session=os.getsid(0) if hasattr(os, "getsid") else 0)
if mode == "mute":
    sys.stdin.readline()
    sys.exit(0)

from cloud_archive.api.server import build_application, serve  # noqa: E402
from cloud_archive.archive.notifier import Notifier  # noqa: E402
from tests.functional.fake_engine import FakeEngine  # noqa: E402


async def main() -> None:
    engine = FakeEngine()
    engine.content["session_id"] = str(os.getpid())
    engine.add_jobs = lambda jobs, queue=None: note(jobs=jobs, queue=queue)  # type: ignore
    if mode == "pending":
        engine.content |= {"state": "uploading", "pending_files": 2, "pending_bytes": 30}
    notifier = Notifier(lambda: dict(engine.content))
    heartbeat_seconds = 0.2
    if mode == "busy":  # as often as the real engine pushes
        notifier.start()
        engine.subscribe, heartbeat_seconds = notifier.subscribe, 4.0  # type: ignore[method-assign]
    application = build_application(engine.facade, token=orders["token"], heartbeat_seconds=heartbeat_seconds)
    listener = await serve(application)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch_input() -> None:
        for line in sys.stdin:
            del line
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch_input, daemon=True).start()
    print(json.dumps({"port": listener.port, "pid": os.getpid(), "version": "0"}), flush=True)
    if mode == "chatty":
        for _ in range(400):
            print("x" * 1000, flush=True)
            print("y" * 10_000, file=sys.stderr, flush=True)
    if mode == "busy":
        for number in range(200):
            engine.push(uploaded_files=number)
            notifier.notify()
            await asyncio.sleep(0.01)
    if mode == "deaf":
        threading.Event().wait(120)  # the loop hangs, the process lives
    await ended.wait()
    await listener.close()
    note(end=True)


asyncio.run(main())
