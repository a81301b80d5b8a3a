"""Call the engine of a directory over loopback; each call is signed with the token in its state directory."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ..archive.ownership import engine_state_directory
from ..errors import EngineUnavailable, RequestRefused
from ..files import real_path
from ..handshake import NotTheEngine, call_engine
from ..state import EngineInfo, engine_lock_is_held, read_engine_info, registered_engines

_HEALTH_SECONDS = 5.0
_CALL_SECONDS = 30.0
_PAGE_FILES = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and the JSON that came with it."""

    status: int
    body: Any

    @property
    def message(self) -> str:
        """The engine's sentence about the call."""
        body = self.body if isinstance(self.body, dict) else {}
        return str(body.get("message") or body.get("error") or f"The engine answered {self.status}.")


class LocalEngine:
    """One running engine."""

    def __init__(self, info: EngineInfo) -> None:
        self._info = info

    @property
    def root(self) -> Path:
        """The watched directory."""
        return Path(self._info.watched_directory)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = _CALL_SECONDS,
    ) -> Answer:
        """Make one call. EngineUnavailable: it does not answer."""
        info = self._info
        try:
            return Answer(*call_engine(info.port, info.token, method, path, body, timeout_seconds))
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(
                f"The engine for {self.root} (process {info.pid}) does not answer: {error}."
            ) from error

    def status(self) -> dict[str, Any]:
        """Return the status object. EngineUnavailable: the engine does not answer, or answers with an error."""
        answer = self.call("GET", "/cloud-sync/status")
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise EngineUnavailable(answer.message)
        return answer.body

    def will_replace_ledger(self) -> bool:
        """Return whether its ledger is in memory, and will replace the file on disk. EngineUnavailable: no answer."""
        body = self.call("GET", "/engine/health", timeout_seconds=_HEALTH_SECONDS).body
        return isinstance(body, dict) and body.get("will_replace_ledger") is True

    def files(self, state: str) -> Iterator[dict[str, Any]]:
        """Yield the files in this state, or in one of several (with commas between).

        Files with a row in the ledger come newest first; those without one (`skipped`, `baseline`, `unarchived`) in the
        order in which the directory is walked.

        Raises:
            EngineUnavailable: it does not answer.
            RequestRefused: it stopped listing; the files yielded before may not be all.
        """
        cursor: str | None = None
        while True:
            query = {"state": state, "limit": str(_PAGE_FILES)} | ({"cursor": cursor} if cursor else {})
            answer = self.call("GET", f"/cloud-sync/files?{urlencode(query)}")
            if answer.status != 200 or not isinstance(answer.body, dict):
                raise RequestRefused(answer.status, answer.message)
            yield from answer.body["files"]
            cursor = answer.body["next_cursor"]
            if cursor is None:
                return


def running_engine(root: Path, environ: Mapping[str, str] = os.environ) -> LocalEngine | None:
    """Return the engine that runs for `root`, or None. EngineUnavailable: one runs, but does not answer."""
    state_directory = engine_state_directory(root, environ)
    info = read_engine_info(state_directory)
    if info is None:
        return None
    try:
        engine = _engine_if_alive(info)
    except EngineUnavailable:
        if not engine_lock_is_held(state_directory):
            return None  # it was killed, and another program may listen on its port
        raise
    return engine if engine is not None and _same_directory(engine.root, root) else None


def running_engines() -> list[LocalEngine]:
    """Return every engine of this user that answers."""
    found: list[LocalEngine] = []
    for info in registered_engines():
        try:
            engine = _engine_if_alive(info)
        except EngineUnavailable:
            continue
        if engine is not None:
            found.append(engine)
    return found


def _engine_if_alive(info: EngineInfo) -> LocalEngine | None:
    """Return the engine if it answers; None: it has ended, or answers with an error. EngineUnavailable: no answer."""
    engine = LocalEngine(info)
    try:
        answer = engine.call("GET", "/engine/health", timeout_seconds=_HEALTH_SECONDS)
    except EngineUnavailable as error:
        if isinstance(error.__cause__, (ConnectionRefusedError, NotTheEngine)):
            return None  # it was killed; another program may listen on its port now
        raise
    return engine if answer.status == 200 else None


def _same_directory(one: Path, other: Path) -> bool:
    return os.path.normcase(real_path(one)) == os.path.normcase(real_path(other))
