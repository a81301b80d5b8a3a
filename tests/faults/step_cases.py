"""The cases of the step matrix, each a step with a trouble and a mode, and the table of their results."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.rules import Fault, Kind
from tests.faults.world import Knowing

PERSISTENT_ATTEMPTS = 3
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

KNOWING: dict[str, Knowing] = {"probe": "nothing", "probe of parts": "puts"}

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
