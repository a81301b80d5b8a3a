"""One kill run: files change, the store misbehaves, the archiver is killed repeatedly; then compare the bucket."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.first_starts import Replacer, kill_first_starts, write_older_files
from tests.faults.killer import Killer
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Entry, Fault, Kind, Listening
from tests.faults.tormentor import LARGEST_BYTES, Tormentor
from tests.faults.truth import BucketReader, Findings, Truth, compare, missing_in, sha256_of
from tests.servers import wait_until

if TYPE_CHECKING:
    from tests.servers import S3Server

PREFIX = "out"
CANARY = "canary.json"
PROBE_MARK = ".cloud-archive"
"""Keys with this in their last part are the archive's own capability probes."""

_WRITES = frozenset({"PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"})
# What a middlebox or a store can do to a request, each with its relative frequency.
_WEIGHTS: tuple[tuple[Fault, int], ...] = (
    (Fault(Kind.LATENCY, seconds=0.3), 3),
    (Fault(Kind.BANDWIDTH, bytes_per_second=3_000_000), 3),
    (Fault(Kind.RESET_BEFORE), 2),
    (Fault(Kind.RESET_BODY), 3),
    (Fault(Kind.LOST_ANSWER), 6),
    (Fault(Kind.TRUNCATED), 2),
    (Fault(Kind.TRUNCATED, share=0.05), 2),
    (Fault(Kind.ERROR_500), 2),
    (Fault(Kind.SLOW_DOWN), 2),
    (Fault(Kind.TOO_MANY, seconds=1), 1),
    (Fault(Kind.WRONG_CHECKSUM), 2),
    (Fault(Kind.HANG), 1),
    (Fault(Kind.HANG_AFTER), 2),
    (Fault(Kind.BLACKHOLE), 1),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run.

    Attributes:
        kills: number of SIGKILLs.
        seed: of all random choices.
        fault_share: the share of requests that meet a fault while files are written.
        largest_bytes: of a file.
        pause_seconds: the mean time between two actions of the tormentor.
        drain_seconds: how long the archiver has at the end to upload what is left.
        quiet_seconds: how long it runs after that, before and after a last restart, so that a late double is seen.
        breather_every, breather_seconds: after so many kills none follows for so long, while faults go on;
            otherwise most uploads would happen in the undisturbed drain.
        aimed_share, longest_seconds: see `Killer`.
        actions_a_kill: the most actions between two kills, so that a slow machine does not fill disk and store.
        planted: number of foreign objects under keys that the tormentor will use.
        first_start: begin with kills of the very first start; everything that is written after the first `running:
            true` must arrive. Beside each process a second one stands by and takes over, and is killed in its turn.
        replace_every: after so many kills an empty directory replaces the watched one for a moment; 0: never.
    """

    kills: int
    seed: int
    fault_share: float = 0.15
    largest_bytes: int = LARGEST_BYTES
    pause_seconds: float = 0.12
    drain_seconds: float = 180.0
    quiet_seconds: float = 5.0
    breather_every: int = 5
    breather_seconds: float = 4.0
    aimed_share: float = 0.75
    longest_seconds: float = 2.0
    actions_a_kill: float = 10.0
    planted: int = 40
    first_start: bool = False
    replace_every: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """The result of a run."""

    plan: Plan
    kills: int
    died: list[int]
    exit_status: int
    files: int
    actions: dict[str, int]
    requests: int
    faults: dict[str, int]
    seconds: float
    drain_seconds: float
    findings: Findings
    replaced: int = 0  # how often the watched directory was replaced
    called_safe: int = 0  # how often the status was safe to stop while it was replaced

    @property
    def held(self) -> bool:
        """Whether the promise held: the bucket is right, and no process ended that was not killed."""
        return self.findings.clean and not self.died and not self.called_safe and self.exit_status == 0

    def lines(self) -> Iterator[str]:
        yield f"seed {self.plan.seed}: {self.kills} kills in {self.seconds:.0f} s, drained in {self.drain_seconds:.1f}"
        yield f"files at the end {self.files}, actions {sum(self.actions.values())}: {self.actions}"
        yield f"requests {self.requests}, faults {sum(self.faults.values())}: {self.faults}"
        yield f"ended by itself {self.died}, exit status at the end {self.exit_status}"
        if self.replaced:
            yield f"watched directory replaced {self.replaced} times, called safe meanwhile {self.called_safe}"
        yield str(self.findings)
        for name in ("missing", "doubled", "different", "overwritten", "left_behind"):
            for each in getattr(self.findings, name)[:20]:
                yield f"  {name}: {each}"


def watch_command(root: Path) -> list[str]:
    """Return the command that runs the daemon in the foreground."""
    return [sys.executable, "-m", "cloud_archive", "watch", str(root)]


def run(
    plan: Plan,
    server: S3Server,
    directory: Path,
    command_for: Callable[[Path], Sequence[str]] = watch_command,
    progress: Callable[[str], None] = lambda line: None,
    *,
    forks: bool = False,
) -> Figures:
    """Torment, kill, drain, compare.

    Args:
        server: with a fresh bucket; it is reached through the proxy by the archiver, past it by us.
        directory: empty; takes the watched directory, the state, and the archiver's output (`archiver.log`).
        command_for: the archiver's command for a watched directory.
        forks: see `Killer`.
    """
    root, state = directory / "output", directory / "state"
    root.mkdir(parents=True)
    state.mkdir()
    planted = _plant(server, plan)
    reader = BucketReader(server.client, server.bucket)
    tormentor = Tormentor(
        root,
        seed=plan.seed,
        largest_bytes=plan.largest_bytes,
        pause_seconds=plan.pause_seconds,
        may_go_on=lambda: (
            tormentor.done.total() < plan.actions_a_kill * (sum(each.kills for each in killers) + 1)
        ),
    )
    with FaultProxy(server.endpoint, seed=plan.seed) as proxy:
        settings = server.environ(
            S3_ENDPOINT_URL=proxy.url,
            S3_PREFIX=PREFIX,
            CLOUD_ARCHIVE_STATE_DIR=str(state),
            CLOUD_ARCHIVE_RESCAN_SECONDS="5",
        )
        killers = [
            Killer(
                command_for(root),
                os.environ | settings,
                directory / f"{name}.log",
                seed=plan.seed + number,
                busy=lambda timeout: _next_write(proxy, timeout),
                aimed_share=plan.aimed_share,
                longest_seconds=plan.longest_seconds,
                forks=forks,
            )
            for number, name in enumerate(["archiver", "standby"][: 2 if plan.first_start else 1])
        ]
        killer = killers[0]
        replacer = Replacer(root, state, tormentor, plan.seed)
        try:
            if plan.first_start:
                write_older_files(root)
                kill_first_starts(killer, state, plan.seed)
            else:
                _await_canary(root, tormentor.truth, killer, reader)
            started = time.monotonic()
            if plan.first_start:  # killed while its first scan is at work, or is still to begin
                for _ in range(10):
                    tormentor.step()
                time.sleep(random.Random(plan.seed + 4).random() ** 3 * 0.8)
                killer.kill()
            tormentor.start()
            with _misbehaving(proxy, plan):
                while (number := sum(each.kills + len(each.died) for each in killers)) < plan.kills:
                    for each in killers[1:] if number else []:  # no standby runs beside the very first start
                        if not each.alive:
                            each.start()
                    killers[number % len(killers)].kill_once()
                    if plan.replace_every and (number + 1) % plan.replace_every == 0 and _holds(proxy):
                        replacer.replace(killers)
                    if (number + 1) % plan.breather_every == 0:
                        if not killer.alive:
                            killer.start()
                        time.sleep(plan.breather_seconds)
                        if plan.replace_every:
                            wait_until(lambda: _holds(proxy) or not killer.alive, "a file arrives")
                    if (number + 1) % 50 == 0:
                        progress(f"{number + 1} kills, {len(proxy.journal)} requests")
                tormentor.stop()
            for each in killers[1:]:
                if each.alive:
                    each.stop()
            tormented_seconds = time.monotonic() - started
            if not killer.alive:
                killer.start()
            drained_seconds = _drain(plan, reader, tormentor.truth, killer)
            time.sleep(plan.quiet_seconds)
            killer.stop()
            killer.start()  # whatever was left to be tried again meets its own object now
            if plan.quiet_seconds:
                _await_start(killer)
            time.sleep(plan.quiet_seconds)
        finally:
            for each in killers[1:]:
                each.stop()
            status = killer.stop()
        journal = proxy.journal
    probes = frozenset(entry.key for entry in journal if PROBE_MARK in entry.key)
    return Figures(
        plan,
        sum(each.kills for each in killers),
        [status for each in killers for status in each.died],
        status,
        len(tormentor.truth.present),
        dict(tormentor.done),
        len(journal),
        dict(Counter(entry.fault.value for entry in journal if entry.fault)),
        tormented_seconds,
        drained_seconds,
        compare(reader, tormentor.truth, PREFIX, planted=planted, journal=journal, ignore=probes),
        replacer.replaced,
        replacer.called_safe,
    )


def _plant(server: S3Server, plan: Plan) -> dict[str, str]:
    """Put foreign objects under names that the tormentor will use; return key to SHA-256."""
    planted = {}
    for number in range(1, plan.planted + 1):
        key = f"{PREFIX}/ComfyUI_{number * 3:05}_.png"
        body = f"somebody else's {number}".encode()
        server.put(key, body)
        planted[key] = sha256_of(body)
    return planted


def _await_canary(root: Path, truth: Truth, killer: Killer, reader: BucketReader) -> None:
    """Wait until the archiver has its first start behind it; it may leave older files alone."""
    killer.start()
    deadline = time.monotonic() + 120
    number = 0
    while time.monotonic() < deadline and killer.alive:
        number += 1
        path = f"{number}-{CANARY}"
        data = f"canary {number}".encode()
        truth.will_hold(path, sha256_of(data))
        (root / path).write_bytes(data)
        truth.holds(path, sha256_of(data))
        time.sleep(1)
        if any(key.endswith(CANARY) for key in reader.digests(PREFIX)):
            # Files from before its first scan need not arrive.
            for early in range(1, number + 1):
                if f"{PREFIX}/{early}-{CANARY}" not in reader.digests(PREFIX):
                    (root / f"{early}-{CANARY}").unlink()
                    truth.gone(f"{early}-{CANARY}")
            return
    output = killer.log_file.read_text(errors="replace")
    raise AssertionError(f"the archiver ended, or uploaded nothing within 120 s:\n{output[-3000:]}")


def _await_start(killer: Killer) -> None:
    """Wait up to 60 s until the archiver archives: on a busy machine a start can outlast the quiet time."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and killer.alive:
        if "Archiving" in killer.log_file.read_text(errors="replace").rpartition("--- start")[2]:
            return
        time.sleep(0.1)


def _holds(proxy: FaultProxy) -> bool:
    """Return whether a file is in the bucket: then the ledger expects it in the watched directory."""
    return any(
        entry.operation == "PutObject" and entry.status == 200 and PROBE_MARK not in entry.key
        for entry in proxy.journal
    )


def _next_write(proxy: FaultProxy, timeout_seconds: float) -> None:
    seen = len(proxy.journal)

    def came(entries: list[Entry]) -> bool:
        return any(entry.operation in _WRITES for entry in entries[seen:])

    proxy.wait_for(came, timeout_seconds)


@contextmanager
def _misbehaving(proxy: FaultProxy, plan: Plan) -> Iterator[None]:
    """Inject random faults; every 2 s release hanging requests, and sometimes refuse all connections."""
    whole = sum(weight for _, weight in _WEIGHTS)
    for fault, weight in _WEIGHTS:
        proxy.add(fault, probability=plan.fault_share * weight / whole)
    over = threading.Event()
    dice = random.Random(plan.seed + 1)

    def disturb() -> None:
        while not over.wait(2):
            proxy.release()
            if plan.fault_share and dice.random() < 0.08:
                proxy.listen(Listening.REFUSED)
                over.wait(dice.uniform(0.3, 1.5))
                proxy.listen(Listening.OPEN)

    thread = threading.Thread(target=disturb, name="disturber", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
        proxy.clear()


def _drain(plan: Plan, reader: BucketReader, truth: Truth, killer: Killer) -> float:
    """Wait until all files are in the bucket and no upload is open, at most `drain_seconds`; restart it if it died."""
    started = time.monotonic()
    while time.monotonic() - started < plan.drain_seconds:
        if not missing_in(reader.digests(PREFIX), truth, PREFIX) and not reader.uploads(PREFIX):
            break
        if not killer.alive:
            killer.kill()
            killer.start()
        time.sleep(0.5)
    return time.monotonic() - started
