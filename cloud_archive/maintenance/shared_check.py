"""Share one connection check between its callers, and keep its result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config.settings import Settings

CheckAnswer = dict[str, Any]
"""`{"checked_at": local time in ISO 8601 or None, "steps": […]}`, with the steps of `CheckStep.to_json`."""


class SharedCheck:
    """Run the connection check for many callers. Thread-safe. For `load` see `run_check`."""

    def __init__(self, load: Callable[[], Settings]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._running: Future[CheckAnswer] | None = None
        self._last: CheckAnswer = {"checked_at": None, "steps": []}

    @property
    def last(self) -> CheckAnswer:
        """The last result; `checked_at` is None as long as there is none."""
        return self._last

    def begin(self) -> Future[CheckAnswer]:
        """Start a check, or join the one that runs, and return its future at once. Do not cancel it."""
        with self._lock:
            if self._running is None:
                threading.Thread(target=self._run, name="cloud-archive-check", daemon=True).start()
                self._running = Future()  # after the start, which fails if the system has no thread left
            return self._running

    def _run(self) -> None:
        from .check import run_check

        answer: CheckAnswer | None = None
        failure: BaseException | None = None
        try:
            steps = [step.to_json() for step in run_check(self._load)]
            answer = {"checked_at": datetime.now().isoformat(timespec="seconds"), "steps": steps}
        except BaseException as error:
            failure = error
        with self._lock:
            running, self._running = self._running, None
            self._last = answer or self._last
        assert running is not None
        if answer is None:
            running.set_exception(failure)
        else:
            running.set_result(answer)
