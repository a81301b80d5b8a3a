"""Say in ComfyUI's log how the archive is doing. ComfyUI's process loads this: standard library only."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ..text import count_noun, format_bytes
from .engine_connection import ORPHAN_SECONDS

_log = logging.getLogger("cloud_archive")

_REMEMBERED_SENTENCES = 500
_REQUIRED_SETTINGS = 3  # the bucket and the two keys, as the next line names them
_NOT_CONFIGURED = (
    "Cloud Archive is not configured: set S3_BUCKET, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY (and "
    "S3_ENDPOINT_URL for any store but AWS) in ComfyUI's environment, then start it again."
)
_WRONG_SETTINGS = (
    "Cloud Archive is not configured: correct this in ComfyUI's environment, then start it again."
)


class Announcements:
    """Logs each transition, each error that is not among the last 500, and when no error is left.

    Attributes:
        root: the watched directory, as the lines name it.
    """

    def __init__(self) -> None:
        self.root = "the output directory"
        self._logged: OrderedDict[str, None] = OrderedDict()  # errors
        self._last_transition = ""
        self._error_logged = False  # since the last line that says that no problem is left
        self._baseline_logged = False

    def log_news(self, status: Mapping[str, Any]) -> None:
        state = status.get("state")
        errors = [str(sentence) for sentence in status.get("errors") or []]
        if state == "not_configured":
            missing = [sentence for sentence in errors if "is not set" in sentence]
            if errors and len(missing) < _REQUIRED_SETTINGS:
                self._log_transition(_WRONG_SETTINGS)
            else:
                self._log_transition(_NOT_CONFIGURED)
                errors = [sentence for sentence in errors if sentence not in missing]  # this line names them
        elif state == "standby":
            self._log_transition(f"Cloud Archive: another process archives {self.root}; standing by")
        elif state == "stopped":
            self._log_transition(f"Cloud Archive: not watching {self.root}")
        elif status.get("running") and status.get("connection_verified"):
            self._log_transition(f"Cloud Archive: archiving {self.root} to {_destination_of(status)}")
        elif state == "unavailable":
            self._last_transition = ""
        for sentence in errors:
            self._log_error(sentence)
        if self._error_logged and not errors and status.get("safe_to_stop"):
            self._error_logged = False
            _log.info("Cloud Archive: no problem is left; it is safe to stop")
        older = status.get("baseline_files", 0)
        if older and not self._baseline_logged:
            self._baseline_logged = True
            was, verb = ("was", "is") if older == 1 else ("were", "are")
            _log.info(
                "Cloud Archive: %s that %s there before archiving began %s not archived;"
                " the panel has a button for that",
                count_noun(older, "file"),
                was,
                verb,
            )

    def _log_transition(self, line: str) -> None:
        if line != self._last_transition:
            self._last_transition = line
            _log.info("%s", line)

    def _log_error(self, sentence: str) -> None:
        if sentence in self._logged:
            self._logged.move_to_end(sentence)
            return
        self._logged[sentence] = None
        self._error_logged = True
        if len(self._logged) > _REMEMBERED_SENTENCES:
            self._logged.popitem(last=False)
        _log.warning("Cloud Archive: %s", sentence)


def _destination_of(status: Mapping[str, Any]) -> str:
    destination = status.get("destination") or {}
    place = f"{destination.get('bucket', '')}/{destination.get('prefix', '')}".rstrip("/")
    endpoint = destination.get("endpoint")
    return f"{place} at {endpoint}" if endpoint else place


def farewell(status: Mapping[str, Any]) -> str:
    """Return the last line for ComfyUI's log: what is not archived yet; empty if there is nothing to say."""
    if status["state"] == "unavailable":
        cause = " ".join(status["errors"][-1:])
        return f"Cloud Archive can't tell whether everything is archived: {cause} The next start checks."
    pending, failed = status["pending_files"], status["failed_files"]
    count = pending + failed
    if not count or status["state"] in ("not_configured", "standby"):
        return ""
    verb = "is" if count == 1 else "are"
    size = "" if failed else f" ({format_bytes(status['pending_bytes'])})"  # without the failed files
    what = f"Cloud Archive: {count_noun(count, 'file')}{size} {verb} not archived yet"
    if failed:
        what += ", because of an error" if count == 1 else f", {failed:,} of them because of an error"
    if status["state"] == "stopped" or not pending:
        return f"{what}. The next start continues."
    return (
        f"{what}. Uploads continue in the background for up to {ORPHAN_SECONDS:.0f} s, and at the next start."
    )
