"""A proxy between an S3 client and a real store that breaks requests, by rule and by seed.

It knows just enough of HTTP/1.1 to tell one request from the next on a kept-alive connection, and streams
everything else, so that a body of 24 MB never lies in memory. What the client sent goes to the store unchanged
(`Host` too, because SigV4 signs it); only `Expect: 100-continue`, which is not signed, is answered here.

    with FaultProxy("http://127.0.0.1:8333", seed=7) as proxy:
        rule = proxy.add(Fault(Kind.LOST_ANSWER), operations={"PutObject"}, times=1)
        ...                                       # a client of proxy.url
        assert proxy.count(operation="PutObject") == 2
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from concurrent.futures import Future
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from cloud_archive.demo.seaweedfs import free_ports
from tests.faults.http_wire import Head, corrupt_answer, read_body, read_head, reset_connection
from tests.faults.operations import Operation, operation_of
from tests.faults.rules import Entry, Fault, Kind, Listening, Request, Rule, throttle

PIECE_BYTES = 64 * 1024
HEAD_LIMIT_BYTES = 256 * 1024


class _Reset(Exception):
    """Break the client's connection with a RST."""


class FaultProxy:
    """A proxy with a thread and an event loop of its own; every method may be called from any thread.

    Args:
        upstream_url: the real store, such as `http://127.0.0.1:8333`.
        seed: of every decision by probability; printed, so that a run can be repeated. None draws one.
    """

    def __init__(self, upstream_url: str, *, seed: int | None = None) -> None:
        parts = urlsplit(upstream_url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self._dice = random.Random(self.seed)
        # Not a port that the system chooses: a connection of another program could take it while the proxy refuses.
        (self.port,) = free_ports(1)
        self._rules: list[Rule] = []
        self._journal: list[Entry] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._silent: list[socket.socket] = []
        self._mode = Listening.REFUSED
        self._released = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    def start(self) -> FaultProxy:
        """Listen. Prints port and seed."""
        self._thread.start()
        self.listen(Listening.OPEN)
        print(f"fault proxy on port {self.port}, seed {self.seed}")
        return self

    def stop(self) -> None:
        """Cut every connection and end the thread."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The endpoint for an S3 client."""
        return f"http://127.0.0.1:{self.port}"

    def add(
        self,
        fault: Fault,
        *,
        operations: Collection[str] | None = None,
        when: Callable[[Request], bool] | None = None,
        times: int | None = None,
        probability: float = 1.0,
        skip: int = 0,
    ) -> Rule:
        """Add a rule; the first one that strikes wins.

        Args:
            operations: names such as `PutObject`; None: every one.
            when: a further condition on the request; default: none.
            times: how often it strikes at most; None: without limit.
            probability: that it strikes a matching request, drawn from the proxy's seed.
            skip: how many matching requests pass first.
        """
        chosen = None if operations is None else frozenset(operations)
        rule = Rule(fault, chosen, when, times, probability, skip)
        with self._changed:
            self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Remove one rule."""
        with self._changed:
            self._rules.remove(rule)

    def clear(self) -> None:
        """Remove every rule, and reset the requests that hang."""
        with self._changed:
            self._rules.clear()
        self.release()

    def release(self) -> None:
        """Reset every request that hangs now."""
        self._loop.call_soon_threadsafe(self._let_go)

    def listen(self, mode: Listening, *, cut: bool = True) -> None:
        """Change how new connections are treated; with `cut`, reset the ones that are open."""
        self._call(self._switch(mode, cut))

    @property
    def journal(self) -> list[Entry]:
        """Every request so far, in the order of arrival."""
        with self._changed:
            return list(self._journal)

    def count(
        self, *, operation: str | None = None, fault: Kind | None = None, status: int | None = None
    ) -> int:
        """Return how many requests of the journal match all given arguments."""
        return sum(
            1
            for entry in self.journal
            if (operation is None or entry.operation == operation)
            and (fault is None or entry.fault is fault)
            and (status is None or entry.status == status)
        )

    def wait_for(self, condition: Callable[[list[Entry]], bool], timeout_seconds: float = 60) -> bool:
        """Wait until the journal satisfies `condition`."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._journal), timeout_seconds)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(60)

    def _let_go(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    async def _switch(self, mode: Listening, cut: bool) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for held in self._silent:
            held.close()
        self._silent.clear()
        if cut:
            await self._cut()
        self._mode = mode
        if mode in (Listening.OPEN, Listening.ACCEPTS):
            await self._open()
        elif mode is Listening.SILENT:
            self._fill_backlog()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=HEAD_LIMIT_BYTES, backlog=512
        )

    def _fill_backlog(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(0)
        self._silent.append(listener)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._silent.append(filler)

    async def _cut(self) -> None:
        tasks = [*self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self) -> None:
        self._mode = Listening.REFUSED
        await self._cut()
        # asyncio may still make a connection that it has accepted; it would fail at that once the server is closed.
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)
        await self._switch(Listening.REFUSED, cut=False)
        await asyncio.sleep(0)  # let transports finish their closing callbacks

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._mode is Listening.REFUSED:
            return reset_connection(writer)
        self._connections.add(task)
        try:
            if self._mode is Listening.ACCEPTS:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.Event().wait()
            while (head := await read_head(reader)) is not None:
                if not await self._serve(head, reader, writer):
                    break
            writer.close()
        except (_Reset, asyncio.CancelledError):
            reset_connection(writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    def _begin(self, head: Head) -> tuple[Entry, Rule | None]:
        operation: Operation = operation_of(head.method, head.target)
        request = Request(*operation, head.method, head.target, dict(head.headers))
        upload_id = parse_qs(urlsplit(head.target).query).get("uploadId", [""])[0]
        entry = Entry(operation.name, operation.key, upload_id=upload_id)
        with self._changed:
            for rule in self._rules:
                if rule.strikes(request, self._dice):
                    entry.fault = rule.fault.kind
                    break
            else:
                rule = None
            self._journal.append(entry)
            self._changed.notify_all()
        return entry, rule

    async def _serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass on one request and its answer. Returns False if the connection must end."""
        entry, rule = self._begin(head)
        try:
            return await self._exchange(head, rule, entry, reader, writer)
        finally:
            with self._changed:
                entry.done = True
                self._changed.notify_all()

    async def _exchange(
        self,
        head: Head,
        rule: Rule | None,
        entry: Entry,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        fault = rule.fault if rule else None
        kind = fault.kind if fault else None
        # Read before the first await, so that `release()` reaches every request in the journal.
        released = self._released
        if kind is Kind.RESET_BEFORE:
            raise _Reset
        if kind is Kind.BLACKHOLE:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await self._hang(rule, released)
        if kind is Kind.LATENCY and fault:
            await asyncio.sleep(fault.seconds)
        if head.get("expect").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = read_body(reader, head, PIECE_BYTES)
        if fault and (injected := fault.answer(head)):
            async for _ in body:
                pass
            writer.write(injected)
            await writer.drain()
            return True
        if kind is Kind.HANG:
            async for _ in body:
                pass
            await self._hang(rule, released)
        return await self._forward(head, body, rule, entry, writer, released)

    async def _hang(self, rule: Rule | None, released: asyncio.Event) -> NoReturn:
        if rule is not None:
            with self._changed:
                rule.held += 1
                self._changed.notify_all()
        await released.wait()
        raise _Reset

    async def _forward(
        self,
        head: Head,
        body: AsyncIterator[bytes],
        rule: Rule | None,
        entry: Entry,
        writer: asyncio.StreamWriter,
        released: asyncio.Event,
    ) -> bool:
        fault = rule.fault if rule else None
        upstream_reader, upstream = await asyncio.open_connection(*self._upstream, limit=HEAD_LIMIT_BYTES)
        # The store may answer before it has the whole body: its answer is read beside the sending.
        waiting = asyncio.ensure_future(read_head(upstream_reader))
        try:
            upstream.write(head.without("expect").raw)
            await self._send(head, body, fault, entry, upstream)
            answer = await waiting
            if answer is None:
                raise _Reset
            with self._changed:
                entry.status = answer.status
            return await self._reply(head, answer, upstream_reader, rule, writer, released)
        except OSError as error:
            raise _Reset from error
        finally:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await waiting
            upstream.transport.abort()

    async def _send(
        self,
        head: Head,
        body: AsyncIterator[bytes],
        fault: Fault | None,
        entry: Entry,
        upstream: asyncio.StreamWriter,
    ) -> None:
        torn_after = None
        if fault and fault.kind is Kind.RESET_BODY:
            torn_after = int(int(head.get("content-length") or 0) * fault.share)
        gone = False
        async for piece in body:
            if torn_after is not None and entry.sent_bytes + len(piece) > torn_after:
                upstream.write(piece[: torn_after - entry.sent_bytes])
                await upstream.drain()
                raise _Reset
            entry.sent_bytes += len(piece)
            if not gone:
                try:
                    upstream.write(piece)
                    await upstream.drain()
                except OSError:
                    gone = True  # it has answered and closed: still read the rest from the client
            await throttle(fault, len(piece))
        if torn_after is not None:
            raise _Reset

    async def _reply(
        self,
        head: Head,
        answer: Head,
        reader: asyncio.StreamReader,
        rule: Rule | None,
        writer: asyncio.StreamWriter,
        released: asyncio.Event,
    ) -> bool:
        fault = rule.fault if rule else None
        kind = fault.kind if fault else None
        body = read_body(reader, answer, PIECE_BYTES, request_method=head.method)
        if (
            fault
            and kind in (Kind.LOST_ANSWER, Kind.HANG_AFTER)
            and (answer.status < 300 or fault.any_answer)
        ):
            async for _ in body:
                pass
            if kind is Kind.HANG_AFTER:
                await self._hang(rule, released)
            raise _Reset
        if kind is Kind.TRUNCATED and fault:
            whole = b"".join([piece async for piece in body])
            if whole:
                writer.write(answer.raw + whole[: int(len(whole) * fault.share)])
            else:
                writer.write(answer.raw[: max(1, int(len(answer.raw) * fault.share))])
            await writer.drain()
            return False
        if kind is Kind.WRONG_CHECKSUM:
            answer, body = await corrupt_answer(answer, body)
        writer.write(answer.raw)
        async for piece in body:
            writer.write(piece)
            await writer.drain()
            await throttle(fault, len(piece))
        await writer.drain()
        return answer.get("connection").lower() != "close" and answer.framed(head.method)
