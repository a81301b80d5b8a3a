"""One case of the step matrix: bring a file to its step, let the trouble strike, heal, compare with the bucket."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable

from cloud_archive.ledger.rows import FileState
from tests.faults.rules import Fault, Kind, Request, Rule
from tests.faults.step_cases import KNOWING, PERSISTENT_ATTEMPTS, Case, Result
from tests.faults.step_stage import Stage
from tests.faults.truth import Truth, compare, sha256_of
from tests.faults.world import SMALL_PART_BYTES, World

SMALL_BYTES = 3000
OTHERS_BYTES = (1000, 2000, 4000)  # files that are claimed with ours: two before it, one after
LARGE_BYTES = SMALL_PART_BYTES + 70_000
NAME = "a.bin"
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
        self._one_action = threading.Lock()  # one may begin in the proxy's thread, the next in the worker's
        self._problems: list[str] = []
        # The archive probes only while the store's capabilities are unknown.
        self._knowing = KNOWING.get(case.step.scenario, "all")
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
        with self._one_action:
            self._do_alone(action)

    def _do_alone(self, action: str) -> None:
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
            self._rule(Fault(Kind.RESET_BEFORE), "PutObject", skip=1, times=None)
        elif scenario == "taken":
            key, theirs = f"{self._prefix}/{NAME}", self._dice.randbytes(500)
            self._stage.server.put(key, theirs)
            self._planted[key] = sha256_of(theirs)
        elif scenario == "arrived":
            # libcurl may send it twice, and the SDK sends it again.
            self._first_attempt(Kind.LOST_ANSWER, "PutObject", times=None)
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
            self._rule(Fault(Kind.RESET_BEFORE), "PutObject", times=None)

    def _first_attempt(self, kind: Kind, operation: str, skip: int = 0, times: int | None = 1) -> None:
        rule = self._rule(Fault(kind, any_answer=times is None), operation, times=times, skip=skip)
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
        """Check the states of the files during the fault."""
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
