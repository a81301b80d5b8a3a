"""Pass ComfyUI's jobs on to the engine: which are queued and running, and what each finished one wrote.

ComfyUI keeps finished prompts in the history of its `PromptQueue`, also those of clients without a websocket and with
`--disable-metadata`. A thread reads queue and history and posts what is new to the engine: after each status of the
engine, when a prompt arrives, and four times a second while one is queued or running.

A `CacheProvider` would also announce the end of a prompt. But once one is registered, ComfyUI serializes and hashes the
ancestors of every node: a chain of 100 nodes, which takes half a second without, takes 26 s more (ComfyUI 0.33.0).

Graphs may hold secrets, so they are sent to the engine's loopback port only, and never logged.

ComfyUI's process loads this: standard library and aiohttp only.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..api.routes import JOBS_PATH
from ..handshake import call_engine
from .job_description import describe_job

_log = logging.getLogger("cloud_archive.job_capture")

MAX_UNSENT_BYTES = 16 * 1024 * 1024  # of jobs that wait for the engine; the rest stays in the history
MAX_JOB_BYTES = 8 * 1024 * 1024  # see `encode_job`
_BATCH_BYTES = 1024 * 1024
_BATCH_JOBS = 100
_REMEMBERED_JOBS = 20_000  # twice what ComfyUI keeps
_FIRST_READ = 64  # entries of the history; if all are new, more are read
_POST_SECONDS = 30.0
_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 60.0
_PAUSE_SECONDS = 0.25  # between two reads of the queue
_EXPECT_SECONDS = 5.0  # how long it may take until a prompt that arrived is in the queue
_MAX_QUEUED = 1000
_JOB_PAUSE_SECONDS = 0.01  # so that reading a long history does not slow ComfyUI down
# How many levels below a job its nodes are: prompt, node.
_NODE_DEPTH = 2
# How many levels more below these names: workflow, nodes, node; definitions, subgraphs, subgraph, nodes, node.
_EXTRA_DEPTH = {"workflow": 1, "definitions": 3}
_LOCKED_CHARACTERS = 16 * 1024  # they are encoded in less than half a millisecond
_REFUSED = (400, 413, 415)  # the engine would refuse the same job again

_to_json = json.JSONEncoder(separators=(",", ":")).encode
EngineAddress = Callable[[], "tuple[int, str] | None"]
_Queue = tuple[tuple[str, ...], tuple[str, ...]]  # ids of running and of queued prompts


class JobCapture:
    """Post each finished job of one ComfyUI until the engine takes or refuses it, in the order in which they finished.

    Args:
        prompt_queue: ComfyUI's `PromptQueue`.
        engine_address: returns port and token of the engine, None while there is no engine; called in several threads.
        pause_seconds: the shortest time between two reads of queue and history.

    Attributes:
        unsent_bytes: the size of the jobs that wait for the engine.
        failures: how many calls in a row have failed.
    """

    def __init__(
        self,
        prompt_queue: Any,
        engine_address: EngineAddress,
        *,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self._prompt_queue = prompt_queue
        self._process = uuid.uuid4().hex
        self._engine_address = engine_address
        self._pause_seconds = pause_seconds
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._unsent: OrderedDict[str, bytes] = OrderedDict()
        self.unsent_bytes = 0
        self._passed_on: OrderedDict[str, None] = OrderedDict()
        self._batch_jobs = _BATCH_JOBS
        self.failures = 0
        self._failed_address: tuple[int, str] | None = None
        self._retry_at = 0.0
        self._ends_backoff = False  # `wake(at_once=True)` was called since the last call began
        self._warned = False
        self._expects_until = 0.0
        self._queue: _Queue = ((), ())
        # The engine, and the last queue that it took, or refused.
        self._posted_queue: tuple[tuple[int, str], _Queue] | None = None
        self._refused_queue: tuple[tuple[int, str], _Queue] | None = None
        self._pass_done = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="cloud-archive-jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self, *, at_once: bool = False) -> None:
        """Read queue and history soon. Cheap enough for an event loop.

        Args:
            at_once: end the backoff of an engine that failed, because its state has changed.
        """
        if at_once:
            self._ends_backoff = True
        self._wake.set()

    def expect(self) -> None:
        """Read queue and history soon and often, because a prompt arrives. Cheap enough for an event loop."""
        self._expects_until = time.monotonic() + _EXPECT_SECONDS
        self._wake.set()

    def pass_on(self, prompt_id: str, timeout_seconds: float) -> tuple[str, bool]:
        """Wait until the engine knows where this prompt is, or the time is up. Blocks.

        Returns:
            `queued`, `running` or `finished`, or an empty text if ComfyUI does not know the prompt; and whether the
            engine knows that.
        """
        place = self._place_of(prompt_id)
        if not self._is_passed_on(prompt_id, place):
            self.expect()
            with self._pass_done:
                self._pass_done.wait_for(
                    lambda: self._stopping.is_set() or self._is_passed_on(prompt_id, place), timeout_seconds
                )
        return place, self._is_passed_on(prompt_id, place)

    def _place_of(self, prompt_id: str) -> str:
        running, queued = queue_of(self._prompt_queue)
        if prompt_id in running:
            return "running"
        if prompt_id in queued:
            return "queued"
        # With `map_function` ComfyUI copies no graph.
        found = self._prompt_queue.get_history(prompt_id=prompt_id, map_function=lambda entry: None)
        return "finished" if prompt_id in found else ""

    def _is_passed_on(self, prompt_id: str, place: str) -> bool:
        """Return whether the engine knows that the prompt has come as far as `place`."""
        if not place or prompt_id in self._passed_on:
            return True
        posted = self._posted_queue
        if place == "finished" or posted is None or posted[0] != self._engine_address():
            return False
        running, queued = posted[1]
        return prompt_id in running or (place == "queued" and prompt_id in queued)

    def stop(self, timeout_seconds: float) -> None:
        """Pass on what is new once more, and end the thread. Wait at most `timeout_seconds`."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        ending = False
        while not ending:
            if not self._is_busy():
                self._wake.wait()
            self._wake.clear()
            ending = self._stopping.is_set()
            try:
                self._pass_on_news()
            except Exception as error:  # its text could quote a graph
                if not self._warned:
                    self._warned = True
                    _log.warning(
                        "Cloud Archive can't read this ComfyUI's history (%s): the catalog has only what files say.",
                        type(error).__name__,
                    )
            with self._pass_done:
                self._pass_done.notify_all()
            self._stopping.wait(self._pause_seconds)

    def _is_busy(self) -> bool:
        return any(self._queue) or time.monotonic() < self._expects_until

    def _pass_on_news(self) -> None:
        """Post what is new. The queue is read first, so that a job that leaves it meanwhile is in the history."""
        self._queue = queue_of(self._prompt_queue)
        while self._read_history() and self._post():
            pass
        if not self._unsent:
            self._post_queue()

    def _post_queue(self) -> None:
        """Post which prompts are queued and running, if that has changed. All finished jobs were posted before."""
        address = self._engine_address()
        if address is None or self._is_backing_off(address):
            return
        if (address, self._queue) in (self._posted_queue, self._refused_queue):
            return
        running, queued = self._queue
        queue = {"process": self._process, "running": running, "queued": queued[:_MAX_QUEUED]}
        status, answer = self._call(address, b'{"jobs": [], "queue": ' + json.dumps(queue).encode() + b"}")
        if status == 200:
            self.failures = 0
            self._posted_queue = (address, self._queue)
        elif status in _REFUSED:
            self._refused_queue = (address, self._queue)
            _log.warning("The engine refused the state of ComfyUI's queue: %s", _reason(answer))
        else:
            self._back_off(address)

    def _read_history(self) -> bool:
        """Encode new jobs, up to `MAX_UNSENT_BYTES`. Return whether any waits to be posted."""
        for job_id, entry in self._new_entries():
            if self.unsent_bytes >= MAX_UNSENT_BYTES:
                break
            content = encode_job(job_id, entry)
            self._unsent[job_id] = content
            self.unsent_bytes += len(content)
            self._stopping.wait(_JOB_PAUSE_SECONDS)
        return bool(self._unsent)

    def _new_entries(self) -> list[tuple[str, Any]]:
        """Return the entries that were not read before, oldest first.

        With `max_items` ComfyUI returns its own objects and copies no graph; nothing changes them.
        """
        count = _FIRST_READ
        while True:
            entries = self._prompt_queue.get_history(max_items=count)
            if len(entries) < count or count >= _REMEMBERED_JOBS or self._is_known(next(iter(entries))):
                return [(job_id, entry) for job_id, entry in entries.items() if not self._is_known(job_id)]
            count *= 4

    def _is_known(self, job_id: str) -> bool:
        return job_id in self._passed_on or job_id in self._unsent

    def _post(self) -> bool:
        """Post every job that waits. Return False if the engine does not take them now."""
        while self._unsent:
            address = self._engine_address()
            if address is None or self._is_backing_off(address):
                return False
            batch = list(self._next_batch())
            body = b'{"jobs": [' + b",".join(self._unsent[job_id] for job_id in batch) + b"]}"
            status, answer = self._call(address, body)
            if status == 200:
                self.failures = 0
                self._forget(batch)
            elif status in _REFUSED and len(batch) > 1:
                self._batch_jobs = 1  # then only the refused job is left out
            elif status in _REFUSED:
                _log.warning("The engine refused job %s: %s", batch[0], _reason(answer))
                self._forget(batch)
            else:
                self._back_off(address)
                return False
        self._batch_jobs = _BATCH_JOBS
        return True

    def _next_batch(self) -> Iterator[str]:
        size = 0
        for number, (job_id, content) in enumerate(self._unsent.items()):
            size += len(content)
            if number and (number >= self._batch_jobs or size > _BATCH_BYTES):
                return
            yield job_id

    def _forget(self, batch: list[str]) -> None:
        for job_id in batch:
            self.unsent_bytes -= len(self._unsent.pop(job_id))
            self._passed_on[job_id] = None
        while len(self._passed_on) > _REMEMBERED_JOBS:
            self._passed_on.popitem(last=False)

    def _call(self, address: tuple[int, str], body: bytes) -> tuple[int, Any]:
        """Post to the engine, and return the HTTP status and the answer; status 0: the engine does not answer."""
        self._ends_backoff = False
        try:
            return call_engine(*address, "POST", JOBS_PATH, body, _POST_SECONDS)
        except (OSError, http.client.HTTPException):
            return 0, None

    def _is_backing_off(self, address: tuple[int, str]) -> bool:
        is_early = address == self._failed_address and time.monotonic() < self._retry_at
        return is_early and not self._ends_backoff

    def _back_off(self, address: tuple[int, str]) -> None:
        """Call this engine again after 1, 2, 4 … 60 s. A new engine has another address and is called at once."""
        self.failures = self.failures + 1 if address == self._failed_address else 1
        self._failed_address = address
        self._retry_at = time.monotonic() + min(
            _LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(self.failures - 1, 6)
        )


def _reason(answer: Any) -> Any:
    return answer.get("message") if isinstance(answer, Mapping) else None


def queue_of(prompt_queue: Any) -> _Queue:
    """Return the ids of the running and queued prompts; none if this ComfyUI can list them only by copying graphs."""
    read = getattr(prompt_queue, "get_current_queue_volatile", None)
    if read is None:
        return (), ()
    running, queued = read()
    return _ids_of(running), _ids_of(queued)


def _ids_of(items: Any) -> tuple[str, ...]:
    return tuple(item[1] for item in items if len(item) > 1 and isinstance(item[1], str) and item[1])


def encode_job(job_id: str, entry: Any) -> bytes:
    """Return one entry of the history as the JSON that the engine takes, `MAX_JOB_BYTES` at most.

    A field that is missing or has an unknown shape stays empty. From a job that is too large or not JSON the workflow
    is left out, then the graph, then options and client id if they are the reason, then as many files as need be.
    """
    job = describe_job(job_id, entry)
    for left_out in ((), ("workflow",), ("prompt",)):
        job.update(dict.fromkeys(left_out))
        if (content := _encode(job)) is not None:
            return content
    if _encode(job | {"outputs": [], "cached_outputs": []}) is None:
        job |= {"options": None, "client_id": None}
    while (content := _encode(job)) is None and (job["outputs"] or job["cached_outputs"]):
        longer = max("outputs", "cached_outputs", key=lambda name: len(job[name]))
        job[longer] = job[longer][: len(job[longer]) // 2]
        job["outputs_left_out"] = True
    return content or json.dumps({"job_id": job_id, "outputs": [], "outputs_left_out": True}).encode()


def _encode(job: Mapping[str, Any]) -> bytes | None:
    """Return `job` as JSON; None: it is larger than `MAX_JOB_BYTES`, or not JSON. Let other threads run meanwhile.

    `json.dumps` holds the interpreter's lock until it is done: a workflow of 300 nodes stops ComfyUI's event loop for
    3 ms.
    """
    pieces: list[str] = []
    size = unyielded = 0
    try:
        for piece in encode_in_pieces(job):
            pieces.append(piece)
            size += len(piece)  # the JSON is ASCII
            if size > MAX_JOB_BYTES:
                return None
            unyielded += len(piece)
            if unyielded > _LOCKED_CHARACTERS:
                unyielded = 0
                time.sleep(0)
    except (TypeError, ValueError, RecursionError):
        return None
    return "".join(pieces).encode()


def encode_in_pieces(value: Any, depth: int = _NODE_DEPTH) -> Iterator[str]:
    """Yield the JSON of `value` in pieces: each holds one value `depth` levels below, which in a job is one node."""
    if depth and isinstance(value, dict) and all(isinstance(name, str) for name in value):
        yield "{"
        for number, (name, member) in enumerate(value.items()):
            yield f"{',' if number else ''}{_to_json(name)}:"
            yield from encode_in_pieces(member, depth - 1 + _EXTRA_DEPTH.get(name, 0))
        yield "}"
    elif depth and isinstance(value, list):
        yield "["
        for number, member in enumerate(value):
            yield "," if number else ""
            yield from encode_in_pieces(member, depth - 1)
        yield "]"
    else:
        yield _to_json(value)
