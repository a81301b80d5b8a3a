"""`watch --once` while the engine of another process archives the directory: let that engine do the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineUnavailable, RequestRefused
from ..intake.walk import scan
from .common import STOPPING_OR_BUSY
from .give_up import StallTimer
from .once_result import MAX_SKIPPED_LISTED, Result

if TYPE_CHECKING:
    from ..api.client import LocalEngine

_SLICE_SECONDS = 5.0  # of a flush, between two statuses
_UPLOAD_SECONDS = 90.0  # the engine answers within 40 s
_AT_REST = ("standby", "unavailable", "not_configured")  # states without progress


class OtherEngine:
    """The engine that another process runs for `root`.

    Args:
        environ: names its state directory and the files that are left out.
        ending: set when this command is stopped.
        on_status: called now and then with its status.
        give_up_seconds: see `GIVE_UP_SECONDS`.
    """

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str],
        *,
        ending: threading.Event,
        on_status: Callable[[Mapping[str, Any]], None],
        give_up_seconds: float,
    ) -> None:
        self._root = root
        self._environ = environ
        self._ending = ending
        self._on_status = on_status
        self._give_up_seconds = give_up_seconds
        self._stall = StallTimer()

    def archive_all(self) -> Result | None:
        """Let it archive everything, and return the result; None: try again."""
        from ..api.client import running_engine

        try:
            engine = running_engine(self._root, self._environ)
        except EngineUnavailable as error:
            return Result(failures=[("", str(error))])
        if engine is None:
            if self._stall.elapsed_seconds() < self._give_up_seconds:
                return None
            cause = (
                "Another process is archiving this directory. It can't be contacted; it may belong to another user."
                " End it, or run this command as that user."
            )
            return Result(failures=[("", cause)])
        result = Result()
        try:
            watches = self._flush(engine, result)
            if not self._ending.is_set():
                self._upload_missing(engine, result, watches=watches)
        except EngineUnavailable:
            return None
        except RequestRefused as error:
            if error.status == STOPPING_OR_BUSY:
                return None
            result.failures.append(("", str(error)))
        return result

    def _flush(self, engine: LocalEngine, result: Result) -> bool:
        """Wait until everything that it knows is archived, as long as there is progress.

        Return False if it is stopped, so that it doesn't know new and changed files.
        """
        part = _SLICE_SECONDS
        while not self._ending.is_set():
            answer = engine.call(
                "POST", "/cloud-sync/flush", {"timeout_seconds": part}, timeout_seconds=part + 60
            )
            if answer.status == 200:
                break
            if answer.status == STOPPING_OR_BUSY:
                raise RequestRefused(answer.status, answer.message)
            status = answer.body.get("status") if isinstance(answer.body, dict) else None
            if answer.status != 504 or not isinstance(status, dict):
                result.failures.append(("", answer.message))
                break
            self._on_status(status)
            if status.get("state") == "stopped" and not status.get("active"):
                return False
            # The last scan of the directory gets more time.
            part = _SLICE_SECONDS if status.get("pending_files", 1) else self._give_up_seconds
            if self._stall.seconds(status) >= self._give_up_seconds or status.get("state") in _AT_REST:
                result.failures.append(("", answer.message))
                break
        return True

    def _upload_missing(self, engine: LocalEngine, result: Result, *, watches: bool) -> None:
        """Ask it to upload the older files, too, which it leaves alone otherwise; if it is stopped, all files."""
        from .ledger_view import own_files, selection_of

        selection = selection_of(self._environ, own_files(self._root, self._environ))
        wanted = {
            version.path: version.size_bytes
            for version in scan(self._root, selection.wants_folder)
            if version.size_bytes and selection.wants(version.path)
        }
        for row in engine.files("archived") if watches else ():
            if wanted.get(row["path"]) == row["size_bytes"]:
                del wanted[row["path"]]
                result.already += 1
        result.total = result.already + len(wanted)
        skipped = engine.status().get("skipped_files", 0)
        if skipped:
            result.note_skipped(skipped, islice(engine.files("skipped"), MAX_SKIPPED_LISTED))
        queued = self._ask_for(engine, wanted, result)
        if queued:  # an upload takes longer than the engine lets a call wait
            self._flush(engine, result)
            result.failures += self._ask_for(engine, dict(queued), result)

    def _ask_for(self, engine: LocalEngine, paths: Iterable[str], result: Result) -> list[tuple[str, str]]:
        """Ask it to upload these files. Return (path, message) of those that are still queued."""
        queued: list[tuple[str, str]] = []
        for path in paths:
            if self._ending.is_set():
                break
            answer = engine.call(
                "POST", "/cloud-sync/upload", {"file_path": path}, timeout_seconds=_UPLOAD_SECONDS
            )
            if answer.status == 200:
                already = answer.body.get("file", {}).get("already_archived", False)
                result.already += already
                result.archived += not already
            elif answer.status == 202:
                queued.append((path, answer.message))
            elif answer.status == STOPPING_OR_BUSY:
                raise RequestRefused(answer.status, answer.message)
            elif answer.status != 404:  # else it is gone by now
                result.failures.append((path, answer.message))
        return queued
