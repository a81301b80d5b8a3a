"""The upload protocol step by step: every fault at every step, once and lasting.

A case is one watched directory with one file (`world.py`): it is brought to a step, the fault strikes, it is healed.
Then each version must be in the bucket exactly once and byte for byte, nothing may be overwritten, and no multipart
upload may be left. While the fault lasts, the file must be archived, or named with a cause.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_archive.ledger.rows import FileState
from tests.faults.mortal import Mortals
from tests.faults.proxy import Fault, FaultProxy, Kind, Request, Rule
from tests.faults.truth import BucketReader, Truth, compare, sha256_of
from tests.faults.world import SMALL_PART_BYTES, Knowing, Stores, World, small_parts

if TYPE_CHECKING:
    from tests.servers import S3Server

SMALL_BYTES = 3000
OTHERS_BYTES = (1000, 2000, 4000)  # files that are claimed with ours: two before it, one after
LARGE_BYTES = SMALL_PART_BYTES + 70_000
PERSISTENT_ATTEMPTS = 3
BLOCK = 200  # cases on one proxy, whose journal is read once for each of them
NAME = "a.bin"
_HANGS = (Kind.HANG, Kind.HANG_AFTER, Kind.BLACKHOLE)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the protocol: a request (`operation`, after `skip` others of its kind) or a commit."""

    name: str
    scenario: str
    operation: str = ""
    skip: int = 0
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens there: a fault on the wire or of the ledger, a change of the file, or SIGKILL."""

    name: str
    fault: Fault | None = None
    sql: str = ""
    action: str = ""
    kill: str = ""

    @property
    def hangs(self) -> bool:
        """Whether only a timeout ends it, so that the case needs a short one."""
        return self.fault is not None and self.fault.kind in _HANGS


STEPS: tuple[Step, ...] = (
    Step("commit of the claim", "small", commit="claim"),
    Step("read and hash", "small", commit="attempt"),
    Step("commit of key and hash", "large", commit="attempt"),
    Step("PutObject", "small", "PutObject"),
    Step("PutObject, first of several", "several", "PutObject"),
    Step("PutObject, amidst several", "several", "PutObject", skip=1),
    Step("commit of several keys", "several", commit="attempt"),
    Step("commit of several archived", "several", commit="archived"),
    Step("commit of what goes back", "refused amidst several", commit="unclaim"),
    Step("HeadObject after 412", "taken", "HeadObject"),
    Step("HeadObject of the next name", "taken", "HeadObject", skip=1),
    Step("PutObject to the next name", "taken", "PutObject", skip=1),
    Step("HeadObject of what had arrived", "arrived", "HeadObject"),
    Step("HeadObject as proof", "unproven", "HeadObject"),
    Step("GetObject as proof", "unproven", "GetObject"),
    Step("HeadObject before parts", "large", "HeadObject"),
    Step("commit of the intent", "large", commit="intent"),
    Step("CreateMultipartUpload", "large", "CreateMultipartUpload"),
    Step("ListMultipartUploads", "lost create", "ListMultipartUploads"),
    Step("commit of the upload id", "large", commit="upload id"),
    Step("UploadPart, first", "large", "UploadPart"),
    Step("UploadPart, last", "large", "UploadPart", skip=1),
    Step("ListParts", "resumed", "ListParts"),
    Step("CompleteMultipartUpload", "large", "CompleteMultipartUpload"),
    Step("HeadObject of what was completed", "completed", "HeadObject"),
    Step("commit of the upload's end", "large", commit="ended"),
    Step("commit of an abort", "dropped", commit="abandon"),
    Step("AbortMultipartUpload", "dropped", "AbortMultipartUpload"),
    Step("commit of a failure", "failing", commit="failed"),
    Step("commit of archived", "small", commit="archived"),
    Step("probe: PutObject", "probe", "PutObject", skip=1),
    # After the file's own requests of the same kind.
    Step("probe of parts: PutObject", "probe of parts", "PutObject"),
    Step("probe of parts: CreateMultipartUpload", "probe of parts", "CreateMultipartUpload", skip=1),
    Step("probe of parts: UploadPart", "probe of parts", "UploadPart", skip=2),
    Step("probe of parts: CompleteMultipartUpload", "probe of parts", "CompleteMultipartUpload", skip=1),
    Step("probe of parts: AbortMultipartUpload", "probe of parts", "AbortMultipartUpload"),
)

_KNOWING: dict[str, Knowing] = {"probe": "nothing", "probe of parts": "puts"}

# The steps that remain with rename off: an existing object is replaced without a HEAD and without a probe.
_REPLACING: tuple[Step, ...] = tuple(
    step
    for step in STEPS
    if step.scenario not in ("taken", "arrived", "completed", "probe", "probe of parts")
    and step.name != "HeadObject before parts"
)

_WIRE: tuple[Trouble, ...] = (
    Trouble("reset before", Fault(Kind.RESET_BEFORE)),
    Trouble("reset during", Fault(Kind.RESET_BODY)),
    Trouble("lost answer", Fault(Kind.LOST_ANSWER, any_answer=True)),
    Trouble("truncated", Fault(Kind.TRUNCATED)),
    Trouble("torn head", Fault(Kind.TRUNCATED, share=0.05)),
    Trouble("500", Fault(Kind.ERROR_500)),
    Trouble("503", Fault(Kind.SLOW_DOWN)),
    Trouble("429", Fault(Kind.TOO_MANY, seconds=1)),
    Trouble("error in a 200", Fault(Kind.ERROR_IN_200)),
    Trouble("hang", Fault(Kind.HANG)),
    Trouble("hang after", Fault(Kind.HANG_AFTER, any_answer=True)),
    Trouble("blackhole", Fault(Kind.BLACKHOLE)),
    Trouble("wrong checksum", Fault(Kind.WRONG_CHECKSUM)),
)
# With SQLite's own messages; the first rolls back the whole transaction (https://www.sqlite.org/lang_transaction.html).
_LEDGER: tuple[Trouble, ...] = (
    Trouble("ledger full", sql="RAISE(ROLLBACK, 'database or disk is full')"),
    Trouble("ledger locked", sql="RAISE(ABORT, 'database is locked')"),
)
_ACTIONS: tuple[Trouble, ...] = tuple(
    Trouble(f"file {name}", action=name)
    for name in ("appended", "truncated", "rewritten", "replaced", "renamed", "deleted")
    # Windows does not let a file be renamed or deleted while it is open.
    if os.name != "nt" or name in ("appended", "truncated", "rewritten")
)
_KILLS: tuple[Trouble, ...] = (Trouble("kill before", kill="before"), Trouble("kill after", kill="after"))
_TRIGGERS = {
    "claim": "UPDATE OF state ON files WHEN new.state = 1",
    "attempt": "UPDATE OF base_key ON files WHEN new.base_key IS NOT NULL",
    "intent": "UPDATE OF upload_id ON files WHEN new.upload_id LIKE '?%'",
    "upload id": "UPDATE OF upload_id ON files WHEN new.upload_id NOT LIKE '?%'",
    "ended": "UPDATE OF part_size ON files WHEN new.state = 1 AND new.part_size IS NULL",
    "abandon": "INSERT ON abandoned",
    "failed": "UPDATE OF state ON files WHEN new.state = 2",
    "archived": "UPDATE OF state ON files WHEN new.state = 3",
    "unclaim": "UPDATE OF attempts ON files WHEN new.attempts < old.attempts",
}


def troubles_of(step: Step) -> tuple[Trouble, ...]:
    """Return what can happen at this step."""
    kills = _KILLS if hasattr(os, "fork") else ()
    if step.commit == "claim":
        return _LEDGER
    if step.commit:
        return _LEDGER + _ACTIONS + kills
    found = _WIRE
    if step.operation != "CompleteMultipartUpload":  # the only operation that S3 may answer so
        found = tuple(t for t in found if t.fault is None or t.fault.kind is not Kind.ERROR_IN_200)
    if step.scenario == "probe of parts":
        # With the short timeout of a hang, the file's own parts may fail before the probe.
        found = tuple(trouble for trouble in found if not trouble.hangs)
    return found + _ACTIONS + kills


def modes_of(trouble: Trouble) -> tuple[str, ...]:
    """Return the modes of a trouble: a file changes once; all others can also last."""
    return ("once",) if trouble.action else ("once", "lasting")


@dataclass(frozen=True, slots=True)
class Case:
    """One run of one step."""

    number: int
    step: Step
    trouble: Trouble
    mode: str
    rename: bool = True  # False: an existing object of this key is replaced

    @property
    def name(self) -> str:
        """The name of its folder, and a part of its keys."""
        return f"c{self.number:05}x"

    def __str__(self) -> str:
        return f"{self.step.name} × {self.trouble.name}, {self.mode}{'' if self.rename else ', rename off'}"


def case_of(step: str, trouble: str, mode: str = "once") -> Case:
    """Return the case with these names."""
    return next(
        case
        for case in combinations()
        if (case.step.name, case.trouble.name, case.mode) == (step, trouble, mode)
    )


def combinations(number: int = 0) -> list[Case]:
    """Return every step with every trouble in every mode once; numbered from `number`."""
    every = [
        (step, trouble, mode) for step in STEPS for trouble in troubles_of(step) for mode in modes_of(trouble)
    ]
    return [Case(number + index, *each) for index, each in enumerate(every)]


def replacing_cases(number: int = 0) -> list[Case]:
    """Return every combination whose step exists with rename off."""
    every = [case for case in combinations() if case.step in _REPLACING]
    return [Case(number + index, c.step, c.trouble, c.mode, rename=False) for index, c in enumerate(every)]


def rounds(dice: random.Random, times: int, *, rename: bool = True) -> list[Case]:
    """Return at least `times` cases for each step and mode, with every trouble of the step equally often."""
    cases: list[Case] = []
    for step in STEPS if rename else _REPLACING:
        for mode in ("once", "lasting"):
            able = [trouble for trouble in troubles_of(step) if mode in modes_of(trouble)]
            chosen = [trouble for _ in range(-(-times // len(able))) for trouble in able]
            cases += [Case(0, step, trouble, mode) for trouble in chosen]
    dice.shuffle(cases)
    return [Case(index, case.step, case.trouble, case.mode, rename) for index, case in enumerate(cases)]


def sample(dice: random.Random, count: int) -> list[Case]:
    """Return at least `count` cases, with each step and each trouble at least once."""
    every = combinations()
    dice.shuffle(every)
    steps, troubles = {step.name for step in STEPS}, {case.trouble.name for case in every}
    chosen, rest = [], []
    for case in every:
        if case.step.name in steps or case.trouble.name in troubles:
            chosen.append(case)
            steps.discard(case.step.name)
            troubles.discard(case.trouble.name)
        else:
            rest.append(case)
    small = [case for case in rest if case.step.scenario not in ("large", "resumed", "completed", "dropped")]
    return chosen + small[: max(0, count - len(chosen))]


@dataclass(slots=True)
class Result:
    """The result of a case; `problems` is empty if every promise held."""

    case: Case
    problems: list[str]
    struck: bool
    seconds: float

    @property
    def line(self) -> str:
        return f"  {self.case.name} {self.case}: {'; '.join(self.problems)}"


@dataclass(slots=True)
class Table:
    """The results of all cases."""

    seed: int
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failures(self) -> list[Result]:
        return [result for result in self.results if result.problems]

    @property
    def held(self) -> bool:
        return not self.failures

    def lines(self) -> Iterator[str]:
        """Yield the table of steps by faults: runs, and failures after an exclamation mark."""
        columns = list(dict.fromkeys(case.trouble.name for case in combinations()))
        cells: dict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
        for result in self.results:
            cells[result.case.step.name, result.case.trouble.name][bool(result.problems)] += 1
        for index, name in enumerate(columns, 1):
            yield f"({index}) {name}"
        yield f"{'step':<34}" + "".join(f"{f'({index})':>7}" for index in range(1, len(columns) + 1))
        for step in STEPS:
            shown = []
            for column in columns:
                counted = cells.get((step.name, column))
                cell = "-" if counted is None else str(sum(counted.values()))
                shown.append(f"{cell}!{counted[True]}" if counted and counted[True] else cell)
            yield f"{step.name:<34}" + "".join(f"{cell:>7}" for cell in shown)
        modes = Counter(result.case.mode for result in self.results)
        unstruck = sum(not result.struck for result in self.results)
        yield (
            f"seed {self.seed}: {len(self.results)} runs ({dict(modes)}) in {self.seconds:.0f} s,"
            f" {unstruck} where the step was not reached, {len(self.failures)} failures"
        )
        for result in self.results:
            if not result.struck:
                yield f"  not reached: {result.case}"
        for result in self.failures[:50]:
            yield result.line


class Play:
    """Plays one case."""

    def __init__(self, stage: Stage, case: Case) -> None:
        self._stage = stage
        self._case = case
        self._dice = random.Random(f"{stage.seed}/{case.number}")
        self._base = stage.directory / case.name
        self._prefix = f"out/{case.name}"
        self._truth = Truth()
        self._planted: dict[str, str] = {}
        self._rules: list[Rule] = []
        self._deleted: set[str] = set()
        self._struck = threading.Event()
        self._problems: list[str] = []
        # The archive probes only while the store's capabilities are unknown.
        self._knowing = _KNOWING.get(case.step.scenario, "all")
        self._several = case.step.scenario in ("several", "refused amidst several")
        self._workers = 1 if self._several else 2
        self._patient_store = stage.stores.make(knowing=self._knowing, prefix=self._prefix)
        self._world = World(
            self._base,
            self._prefix,
            self._patient_store,
            trip=self._trip,
            side_by_side=case.step.scenario != "dropped"
            and case.step.skip == 0
            and self._dice.random() < 0.5,
            workers=self._workers,
            rename=case.rename,
        )

    # -- what happens to the file -------------------------------------------------------------------------------

    def _write(self, path: str, body: bytes) -> None:
        self._truth.will_hold(path, sha256_of(body))
        local = self._world.root / path
        local.write_bytes(body)
        moment = time.time_ns() - 10 * 10**9  # old enough that no change falls into the clock's tick
        os.utime(local, ns=(moment, moment))
        self._truth.holds(path, sha256_of(body))

    def _do(self, action: str) -> None:
        local, body = self._world.root / NAME, (self._world.root / NAME).read_bytes()
        if action == "deleted":
            self._truth.gone(NAME)
            local.unlink()
            self._deleted.add(NAME)
            return
        if action == "renamed":
            self._truth.will_hold("b.bin", sha256_of(body))
            self._truth.gone(NAME)
            local.rename(self._world.root / "b.bin")
            self._truth.holds("b.bin", sha256_of(body))
            self._deleted.add(NAME)
            return
        after = {
            "appended": body + b"more",
            "truncated": body[: len(body) // 2],
            "rewritten": body[:1000]
            + bytes(byte ^ 0xFF for byte in body[1000:2000])
            + body[2000:-4]
            + b"last",
            "replaced": self._dice.randbytes(len(body) - 100),
        }[action]
        self._truth.will_hold(NAME, sha256_of(after))
        if action == "appended":
            with local.open("ab") as stream:
                stream.write(b"more")
        elif action == "replaced":
            aside = self._world.root / ".aside.tmp"
            aside.write_bytes(after)
            aside.replace(local)
        else:
            local.write_bytes(after)
        self._truth.holds(NAME, sha256_of(after))

    # -- the way to the step ------------------------------------------------------------------------------------

    def _rule(self, fault: Fault, operation: str, *, times: int | None = 1, skip: int = 0) -> Rule:
        rule = self._stage.proxy.add(
            fault, operations={operation}, when=self._is_ours, times=times, skip=skip
        )
        self._rules.append(rule)
        return rule

    def _is_ours(self, request: Request) -> bool:
        return self._case.name in request.target

    def _at_request(self, operation: str, skip: int, work: Callable[[], None]) -> None:
        """Run `work` when such a request comes in, before the store sees it."""
        left = [skip]

        def came(request: Request) -> bool:
            if self._is_ours(request) and request.operation == operation:
                left[0] -= 1
                if left[0] == -1:
                    work()
            return False

        self._rules.append(self._stage.proxy.add(Fault(Kind.LATENCY), when=came))

    def _prepare(self) -> None:
        scenario = self._case.step.scenario
        large = scenario in ("large", "lost create", "resumed", "completed", "dropped", "probe of parts")
        body = self._dice.randbytes(LARGE_BYTES if large else SMALL_BYTES)
        self._write(NAME, body)
        if self._several:
            for size_bytes in OTHERS_BYTES:
                self._write(f"other {size_bytes}.bin", self._dice.randbytes(size_bytes))
        if scenario == "refused amidst several":
            self._rule(Fault(Kind.RESET_BEFORE), "PutObject", skip=1, times=2)
        elif scenario == "taken":
            key, theirs = f"{self._prefix}/{NAME}", self._dice.randbytes(500)
            self._stage.server.put(key, theirs)
            self._planted[key] = sha256_of(theirs)
        elif scenario == "arrived":
            # What obstore sent, and what the SDK sends after it.
            self._first_attempt(Kind.LOST_ANSWER, "PutObject", times=2)
        elif scenario == "unproven":
            self._rule(Fault(Kind.WRONG_CHECKSUM), "PutObject")
            # SeaweedFS shows a checksum of its own in a HEAD; without it the bytes are read back.
            if self._case.step.operation == "GetObject":
                self._rule(Fault(Kind.WRONG_CHECKSUM), "HeadObject")
        elif scenario == "lost create":
            self._first_attempt(Kind.LOST_ANSWER, "CreateMultipartUpload")
        elif scenario == "resumed":
            self._first_attempt(Kind.RESET_BEFORE, "UploadPart", skip=1)
        elif scenario == "completed":
            self._first_attempt(Kind.LOST_ANSWER, "CompleteMultipartUpload")
        elif scenario == "dropped":
            self._at_request("UploadPart", 0, lambda: self._do("rewritten"))
        elif scenario == "failing":
            self._rule(Fault(Kind.RESET_BEFORE), "PutObject")

    def _first_attempt(self, kind: Kind, operation: str, skip: int = 0, times: int = 1) -> None:
        rule = self._rule(Fault(kind, any_answer=times > 1), operation, times=times, skip=skip)
        self._world.attempt()
        self._stage.proxy.remove(rule)
        self._rules.remove(rule)
        if not rule.applied:
            self._problems.append(f"the way to the step does not lead over {operation}")

    # -- the strike ---------------------------------------------------------------------------------------------

    def _trip(self, commit: str, when: str) -> None:
        step, trouble = self._case.step, self._case.trouble
        if trouble.action and commit == step.commit and when == "before" and not self._struck.is_set():
            self._struck.set()
            self._do(trouble.action)

    def _strike(self) -> None:
        step, trouble = self._case.step, self._case.trouble
        if trouble.kill:
            for _ in range(1 if self._case.mode == "once" else PERSISTENT_ATTEMPTS):
                self._kill()
        elif trouble.sql:
            self._with_a_failing_ledger()
        elif trouble.action and step.commit:
            self._world.attempt()
        elif trouble.action:
            self._at_request(step.operation, step.skip, self._change)
            self._world.attempt()
            self._world.tidy()
        else:
            self._with_a_fault()

    def _change(self) -> None:
        self._struck.set()
        self._do(self._case.trouble.action)

    def _with_a_fault(self) -> None:
        assert self._case.trouble.fault is not None
        lasting = self._case.mode == "lasting"
        rule = self._rule(
            self._case.trouble.fault,
            self._case.step.operation,
            times=None if lasting else 1,
            skip=self._case.step.skip,
        )
        if self._case.trouble.hangs:
            self._world.use(self._stage.stores.make(hasty=True, knowing=self._knowing, prefix=self._prefix))
        said: list[str] = []
        for _ in range(PERSISTENT_ATTEMPTS if lasting else 1):
            said += self._world.attempt()
            self._world.tidy()
        if rule.applied:
            self._struck.set()
        self._check_named(said)

    def _with_a_failing_ledger(self) -> None:
        wanted = _TRIGGERS[self._case.step.commit]
        sql = f"CREATE TEMP TRIGGER trouble BEFORE {wanted} BEGIN SELECT {self._case.trouble.sql}; END"
        self._world.ledger.change(lambda db: db.execute(sql) and None)
        said: list[str] = []
        for _ in range(1 if self._case.mode == "once" else PERSISTENT_ATTEMPTS):
            said += self._world.attempt()
        if any("full" in each or "locked" in each for each in said):
            self._struck.set()
        self._world.ledger.change(lambda db: db.execute("DROP TRIGGER temp.trouble") and None)

    def _kill(self) -> None:
        """Let a child make the attempt, and end it there."""
        step, when = self._case.step, self._case.trouble.kill
        proxy = self._stage.proxy
        self._world.close()
        die = (step.commit, when) if step.commit else None
        rule = Rule(Fault(Kind.HANG))
        if die is None:
            rule = self._rule(
                Fault(Kind.HANG if when == "before" else Kind.HANG_AFTER, any_answer=True),
                step.operation,
                skip=step.skip,
            )

        def kill_when_it_hangs(pid: int) -> None:
            while _alive(pid):
                if proxy.wait_for(lambda _: rule.held > 0, 0.05):
                    os.kill(pid, signal.SIGKILL)
                    return

        status = self._stage.mortals.attempt(
            self._base,
            self._prefix,
            die=die,
            knowing=self._knowing,
            workers=self._workers,
            rename=self._case.rename,
            meanwhile=kill_when_it_hangs,
        )
        if status == -signal.SIGKILL:
            self._struck.set()
        elif status != 0:
            self._problems.append(f"a child ended with {status}")
        self._world = World(
            self._base,
            self._prefix,
            self._patient_store,
            trip=self._trip,
            workers=self._workers,
            rename=self._case.rename,
        )

    # -- the reckoning ------------------------------------------------------------------------------------------

    def _check_named(self, said: list[str]) -> None:
        """Check that during the fault the file is archived, failed with a cause, or changed and pending."""
        for path in self._truth.present:
            state, cause = self._world.state_of(path)
            if state is FileState.ARCHIVED:
                continue
            if state is FileState.FAILED and cause and any(said):
                continue
            if state is FileState.PENDING and self._several and any(said):
                continue  # claimed with the refused one, and put back
            if state is None and self._case.step.scenario == "dropped":
                continue  # its next version, which the ledger does not have yet
            self._problems.append(
                f"{path} is {state and state.word} and its cause {cause!r} while the fault lasts"
            )

    def _heal(self) -> None:
        for rule in self._rules:
            self._stage.proxy.remove(rule)
        self._rules.clear()
        self._world.use(self._patient_store)
        if not self._world.heal():
            self._problems.append(
                f"not at rest: {self._world.ledger.rows()} {self._world.ledger.abandoned()}"
            )

    def _check(self) -> None:
        for path in self._truth.present:
            state, _ = self._world.state_of(path)
            if state is not FileState.ARCHIVED:
                self._problems.append(f"{path} is {state and state.word} at the end")
        if not self._case.rename:
            self._check_replaced()
            return
        name = self._case.name
        probe_key = self._patient_store.probe_key  # the probe's, which may be replaced
        journal = [
            entry for entry in self._stage.proxy.journal if name in entry.key and entry.key != probe_key
        ]
        found = compare(
            self._stage.reader,
            self._truth,
            self._prefix,
            planted=self._planted,
            journal=journal,
            ignore=frozenset({probe_key}),
        )
        if not found.clean:
            self._problems.append(str(found))
        for path in self._deleted:
            digests = self._stage.reader.digests(self._prefix)
            if f"{self._prefix}/{path}" not in digests and path not in self._world.vanished():
                self._problems.append(f"{path} is gone, and neither archived nor counted")

    def _check_replaced(self) -> None:
        """Check that each key holds what its file holds now, and that there is no other key."""
        digests = self._stage.reader.digests(self._prefix)
        for path, digest in self._truth.present.items():
            if digests.get(f"{self._prefix}/{path}") != digest:
                self._problems.append(f"{path} is not what is in the bucket")
        for key, digest in digests.items():
            if not self._truth.allows(key.removeprefix(f"{self._prefix}/"), digest):
                self._problems.append(f"{key} is of no file")
        if left := self._stage.reader.uploads(self._prefix):
            self._problems.append(f"left behind: {left}")

    def run(self) -> Result:
        """Bring the file to the step, let the fault strike, heal, compare."""
        begin = time.monotonic()
        try:
            self._prepare()
            self._strike()
            self._heal()
            self._check()
        except Exception:
            self._problems.append(traceback.format_exc())
        finally:
            for rule in self._rules:
                self._stage.proxy.remove(rule)
            self._world.close()
        shutil.rmtree(self._base)
        return Result(self._case, self._problems, self._struck.is_set(), time.monotonic() - begin)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Stage:
    """What the cases of a block share: the store, the proxy before it, connections, and the parent of children."""

    def __init__(self, server: S3Server, directory: Path, seed: int) -> None:
        self.server = server
        self.directory = directory
        self.seed = seed
        self.reader = BucketReader(server.client, server.bucket)
        self._life = ExitStack()

    def __enter__(self) -> Stage:
        self.proxy = self._life.enter_context(FaultProxy(self.server.endpoint, seed=self.seed))
        environ = self.server.environ(S3_ENDPOINT_URL=self.proxy.url)
        self.stores = Stores(environ)
        self._life.callback(self.stores.close)
        self._probe_store()
        if hasattr(os, "fork"):
            assert self.stores.known is not None
            self.mortals = self._life.enter_context(Mortals(environ, dumps(self.stores.known.to_json())))
        return self

    def __exit__(self, *_: object) -> None:
        self._life.close()

    def _probe_store(self) -> None:
        """Probe the store's capabilities as an archive's first file does."""
        store = self.stores.make()
        world = World(self.directory / f"first-{self.proxy.port}", f"first/{self.proxy.port}", store)
        (world.root / NAME).write_bytes(b"first")
        assert world.heal()
        world.close()
        store.probe_with_own_object()  # and of multipart uploads
        self.stores.known = store.capabilities
        self.stores.warm(f"first/{self.proxy.port}/warm")


@contextmanager
def _bucket_of_its_own(server: S3Server, wanted: bool) -> Iterator[S3Server]:
    """Yield a bucket that is deleted afterwards with its objects, so that a long run does not fill the disk."""
    if not wanted:
        yield server
        return
    fresh = server.with_fresh_bucket()
    yield fresh
    fresh.client.delete_bucket(Bucket=fresh.bucket)


def play(
    cases: Sequence[Case],
    server: S3Server,
    directory: Path,
    seed: int,
    *,
    at_once: int = 8,
    progress: Callable[[str], None] = lambda line: None,
) -> Table:
    """Play these cases, `at_once` at a time.

    Args:
        server: with a bucket for this alone.
        directory: takes a folder for each case.
        seed: of contents, and of what is drawn within a case.
    """
    table = Table(seed)
    begin = time.monotonic()
    with small_parts():
        for first in range(0, len(cases), BLOCK):
            with (
                _bucket_of_its_own(server, len(cases) > BLOCK) as bucket,
                Stage(bucket, directory, seed) as stage,
                ThreadPoolExecutor(at_once) as threads,
            ):
                for result in threads.map(lambda case: Play(stage, case).run(), cases[first : first + BLOCK]):
                    table.results.append(result)
                    if result.problems:
                        progress(result.line)
            progress(f"{len(table.results)} of {len(cases)} runs, {len(table.failures)} failures")
    table.seconds = time.monotonic() - begin
    return table
