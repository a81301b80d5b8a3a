"""A stand-in for the part of ComfyUI's `PromptQueue` that the plugin reads, as in 0.3.64 and 0.33.0."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

GRAPH: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}


def outputs(*names: str, node: str = "2", subfolder: str = "", kind: str = "output") -> dict[str, Any]:
    """Return the outputs that `SaveImage` reports for the files that it wrote."""
    images = [{"filename": name, "subfolder": subfolder, "type": kind} for name in names]
    return {node: {"images": images}}


class PromptQueue:
    """A queue with its history, and the names of the threads that read it."""

    def __init__(self) -> None:
        self.mutex = threading.RLock()
        self.history: dict[str, Any] = {}
        self.queue: list[tuple[Any, ...]] = []
        self.currently_running: dict[int, tuple[Any, ...]] = {}
        self.started = itertools.count()
        self.readers: set[int] = set()

    def put(self, prompt_id: str) -> None:
        """Queue a prompt."""
        with self.mutex:
            self.queue.append((len(self.queue), prompt_id, dict(GRAPH), {}, ["2"]))

    def start(self, prompt_id: str) -> None:
        """Begin to run a queued prompt."""
        with self.mutex:
            item = next(item for item in self.queue if item[1] == prompt_id)
            self.queue.remove(item)
            self.currently_running[next(self.started)] = item

    def remove(self, prompt_id: str) -> None:
        """Drop a queued prompt, as `POST /queue` does."""
        with self.mutex:
            self.queue = [item for item in self.queue if item[1] != prompt_id]

    def get_current_queue_volatile(self) -> tuple[list[Any], list[Any]]:
        self.readers.add(threading.get_ident())
        with self.mutex:
            return list(self.currently_running.values()), copy.copy(self.queue)

    def finish(
        self,
        prompt_id: str,
        shown: Mapping[str, Any],
        *,
        graph: Mapping[str, Any] = GRAPH,
        extra: Mapping[str, Any] | None = None,
        cached: Sequence[str] = (),
        end: str = "execution_success",
        milliseconds: int = 1_775_046_896_500,
        end_message: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a finished prompt into the history, as `task_done` does."""
        messages = [
            ("execution_start", {"prompt_id": prompt_id, "timestamp": milliseconds - 900}),
            (
                "execution_cached",
                {"nodes": list(cached), "prompt_id": prompt_id, "timestamp": milliseconds - 900},
            ),
            (end, {"prompt_id": prompt_id, "timestamp": milliseconds, **(end_message or {})}),
        ]
        success = end == "execution_success"
        meta = {
            node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}
            for node in shown
        }
        with self.mutex:
            running = self.currently_running.items()
            self.currently_running = {number: item for number, item in running if item[1] != prompt_id}
            self.history[prompt_id] = {
                "prompt": (0, prompt_id, dict(graph), dict(extra or {}), ["2"]),
                "outputs": dict(shown),
                "status": {
                    "status_str": "success" if success else "error",
                    "completed": success,
                    "messages": messages,
                },
                "meta": meta,
            }

    def get_history(
        self,
        prompt_id: str | None = None,
        max_items: int | None = None,
        offset: int = -1,
        map_function: Callable[[Any], Any] | None = None,
    ) -> dict[str, Any]:
        self.readers.add(threading.get_ident())
        with self.mutex:
            if prompt_id is not None:
                found = self.history.get(prompt_id)
                return {} if found is None else {prompt_id: copy.deepcopy(found)}
            if offset < 0 and max_items is not None:
                offset = len(self.history) - max_items
            chosen = [key for number, key in enumerate(self.history) if number >= offset]
            return {key: self.history[key] for key in chosen[:max_items]}

    def wipe_history(self) -> None:
        with self.mutex:
            self.history = {}
