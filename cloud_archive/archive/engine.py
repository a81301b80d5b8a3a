"""The engine: one archiver and what surrounds it. Settings, the lock, standing by, handing over, telling others.

Whatever is wrong, there is always a status that says so: without settings `not_configured`, while another process
archives the directory `standby`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import stat as stat_module
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ..beneath import stat_file
from ..config.settings import Settings, is_set, load_settings
from ..config.settings import state_directory as configured_state_directory
from ..errors import (
    CloudArchiveError,
    FileChanged,
    FileUnreadable,
    FileVanished,
    KeyRejected,
    LedgerError,
    RequestRefused,
    SettingsError,
    StoreError,
)
from ..files import to_relative
from ..handshake import call_engine
from ..ledger.ledger import Ledger
from ..ledger.recovery import IN_MEMORY_NOTICE, open_ledger, remember_log_files
from ..ledger.rows import FileState
from ..maintenance.shared_check import CheckAnswer, SharedCheck
from ..redaction import redact, secret_values
from ..state import (
    FALLBACK_NAME,
    DirectoryLock,
    OwnFiles,
    find_state_directory,
    make_state_directory,
    read_engine_info,
)
from ..store.base import Capabilities, ObjectStore
from ..store.s3 import S3Store
from ..text import count_noun
from .archive import Archiver, Left, Submission
from .metrics import recorder
from .notifier import Notifier, StatusCallback
from .session import Session
from .status import State, Status, row_to_json

logger = logging.getLogger("cloud_archive.engine")

STANDBY_SECONDS = 1.0  # between two tries to take over
LONGEST_STANDBY_SECONDS = 30.0  # the same, after many that failed
LEDGER_SECONDS = 10.0  # between two looks at a ledger that fails, or that is in memory for want of a disk
LEDGER_TRIES = 3  # looks in a row at which nothing could be committed, until the ledger is opened anew
LEDGER_STOP_SECONDS = 10.0  # for uploads under way, before that
HANDOVER_ANSWER_SECONDS = 5.0
HANDOVER_SECONDS = 10.0  # how long to wait for an engine that said that it hands over
_LAST_ROW = 2**63 - 1  # of any ledger: SQLite's largest integer
StoreFactory = Callable[..., ObjectStore]


@dataclass(frozen=True, slots=True)
class UploadAnswer:
    """What `POST /cloud-sync/upload` answers."""

    http_status: int
    message: str
    file: dict[str, Any] | None = None


class Engine:
    """The facade behind the routes and the command. Every method may block: keep it off an event loop.

    Args:
        root: the watched directory.
        state_base: where the state lives; None = CLOUD_ARCHIVE_STATE_DIR, else the platform's place.
        environ: settings; default: this process's environment.
        make_root: make the watched directory where it is missing.
        backfill: overrides CLOUD_ARCHIVE_BACKFILL where that is not set.
        make_store: for tests.
        orphaned: whether the process that this engine serves is gone; such an engine hands over when asked.
        prefer_environment: CLOUD_ARCHIVE_STATE_DIR goes before `state_base`.
        machine_wide: False for a directory that nobody else can know (the demonstration): nothing is written
            outside `state_base`.
    """

    def __init__(
        self,
        root: Path,
        *,
        state_base: Path | None = None,
        environ: Mapping[str, str] | None = None,
        make_root: bool = False,
        backfill: str | None = None,
        make_store: StoreFactory = S3Store,
        orphaned: Callable[[], bool] = lambda: False,
        prefer_environment: bool = False,
        machine_wide: bool = True,
    ) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - symlinks stay as they are
        self.session_id = str(uuid.uuid4())
        self.started_at = time.time()
        self._environ = os.environ if environ is None else environ
        self._state_base = state_base
        self._make_root = make_root
        self._backfill = backfill
        self._make_store = make_store
        self._orphaned = orphaned
        self._prefer_environment = prefer_environment
        self.machine_wide = machine_wide
        self._lock = threading.RLock()
        self._archiver: Archiver | None = None
        self._ledger: Ledger | None = None
        self._directory_lock: DirectoryLock | None = None
        self._settings: Settings | None = None
        self._problems: list[str] = []
        self._fault_may_pass = False  # why the last try to begin failed
        self._want_running = False
        self._closing = threading.Event()
        self._handed_over = threading.Event()
        self._ending = threading.Event()
        self._standby: threading.Thread | None = None
        self._ledger_keeper: threading.Thread | None = None
        self._notifier = Notifier(self._push_status)
        self._metrics = recorder()
        self._check = SharedCheck(lambda: load_settings(self._environ))
        self.left: Left | None = None  # what is not in the bucket, once it was closed; None: nobody can tell
        self.state_directory: Path | None = None
        self.on_begin: Callable[[], None] = lambda: None  # called once this engine holds the lock
        self.on_standby: Callable[[], None] = lambda: None  # called where another engine holds it

    # --- life

    def prepare(self) -> Path:
        """Make the state directory and say where it is.

        Raises:
            CloudArchiveError: it cannot be made, or other users may change it.
        """
        base = self._state_base
        if base is None or self._prefer_environment:
            base = configured_state_directory(self._environ) or base
        named = base is not self._state_base
        self.state_directory = make_state_directory(self.root, base, keep_mode=named)
        return self.state_directory

    def start(self, *, autostart: bool | None = None) -> None:
        """Read the settings and begin; trouble is in the status, and never raised.

        Args:
            autostart: None = as CLOUD_ARCHIVE_AUTOSTART says.
        """
        self._notifier.start()
        try:
            self._settings = load_settings(self._environ)
        except SettingsError as error:
            self._problems = [str(problem) for problem in error.problems]
            for problem in self._problems:
                logger.error("%s", problem)
            return
        if self._settings.endpoint_remark:
            logger.info("%s", self._settings.endpoint_remark)
        self._want_running = self._settings.autostart if autostart is None else autostart
        if self._try_to_begin():
            return
        if not self._problems:
            self.on_standby()
            logger.info("Another process archives %s: standing by", self.root)
        self._stand_by()

    def _stand_by(self) -> None:
        self._standby = threading.Thread(target=self._keep_trying, name="cloud-archive-standby", daemon=True)
        self._standby.start()

    def _keep_trying(self) -> None:
        """Try to begin until it succeeds: any fault may pass, and another engine may end."""
        failures = 0
        while not self._closing.wait(min(STANDBY_SECONDS * 2**failures, LONGEST_STANDBY_SECONDS)):
            if self._try_to_begin():
                logger.info("Took over the archive of %s", self.root)
                return
            failures = min(failures + 1, 10) if self._problems else 0

    def _try_to_begin(self) -> bool:
        """Begin, or start what a fault kept from starting. False where that must be tried again."""
        archiver = self._archiver
        try:
            if archiver is not None:
                if self._want_running:
                    archiver.start()
                    self._problems = []
            elif not self._take_over():
                if self._fault_may_pass:
                    self._problems = []  # another engine archives now
                return False
        except (CloudArchiveError, OSError) as error:
            self._fault_may_pass = True
            self._fail(str(error))
        except Exception as error:
            self._fault_may_pass = False
            self._fail(f"The archive cannot begin: {type(error).__name__}: {error}.", error)
        return not self._problems

    def _fail(self, sentence: str, error: Exception | None = None) -> None:
        """Show what is wrong; the log names it once, with the traceback of an unexpected error."""
        sentence = redact(sentence, secret_values(self._environ))
        if self._problems != [sentence]:
            logger.error("%s", sentence, exc_info=error)
        self._problems = [sentence]
        self._notifier.notify()

    def _take_over(self) -> bool:
        """Take the lock, from an orphaned engine too, and begin. False where another engine keeps it."""
        if self.state_directory is None:
            self.prepare()
        assert self.state_directory is not None
        if self._make_root:
            self.root.mkdir(parents=True, exist_ok=True)
        if self._directory_lock is None:
            self._directory_lock = DirectoryLock(
                self.state_directory, self.root, machine_wide=self.machine_wide
            )
        if not self._directory_lock.acquire():
            if not self._ask_for_handover():
                return False
            deadline = time.monotonic() + HANDOVER_SECONDS
            while not self._directory_lock.acquire():
                if time.monotonic() > deadline or self._closing.wait(0.05):
                    return False
        try:
            self._begin()
        except BaseException:
            self._let_go()
            raise
        return True

    def _let_go(self) -> None:
        """Release ledger and lock, so that a healthy standby can take over."""
        with self._lock:
            ledger, self._ledger, self._archiver = self._ledger, None, None
        if ledger is not None:
            ledger.close()
        if self._directory_lock is not None:
            self._directory_lock.release()

    def _ask_for_handover(self) -> bool:
        assert self.state_directory is not None
        info = read_engine_info(self.state_directory)
        if info is None or info.pid == os.getpid():
            return False
        try:
            _, answer = call_engine(
                info.port, info.token, "POST", "/engine/handover", None, HANDOVER_ANSWER_SECONDS
            )
        except (OSError, http.client.HTTPException):
            return False
        return isinstance(answer, dict) and bool(answer.get("success"))

    def _keep_ledger(self) -> None:
        """A ledger that fails for a while is opened anew, as at a start; one in memory goes back to its disk."""
        failing = 0
        while not self._closing.wait(LEDGER_SECONDS):
            try:
                failing = failing + 1 if self._ledger_fails(failing) else 0
                if failing >= LEDGER_TRIES:
                    failing = 0
                    self._open_ledger_anew()
                elif self._ledger is not None and self._ledger.saved_as is not None:
                    self._leave_memory(self._ledger.saved_as)
            except Exception:
                logger.exception("Looking after the ledger failed")

    def _ledger_fails(self, failing: int) -> bool:
        """Whether it cannot be read, or not written where somebody found so."""
        archiver = self._archiver
        if archiver is None:
            return False
        try:
            if archiver.ledger_trouble is not None or failing:
                archiver.ledger.probe()
            else:
                archiver.ledger.totals()
        except LedgerError:
            return True
        return False

    def _leave_memory(self, path: Path) -> None:
        ledger = self._ledger
        assert ledger is not None
        try:
            ledger.save(path)  # the first time to see whether that can be done
        except LedgerError as error:
            logger.debug("%s", error)
            return
        self._open_ledger_anew(save_as=path)

    def _open_ledger_anew(self, save_as: Path | None = None) -> None:
        """With the same session: whoever looks sees its counters go on."""
        with self._lock:
            archiver, ledger = self._archiver, self._ledger
            if archiver is None or ledger is None or self._closing.is_set():
                return
            if archiver.running and not self.root.is_dir():
                return  # a directory that is away does not keep an archive from going on, but from beginning
            logger.warning("The ledger is opened anew")
            with contextlib.suppress(LedgerError):
                archiver.stop(LEDGER_STOP_SECONDS)
            if save_as is not None:
                try:
                    ledger.save(save_as)
                except LedgerError as error:
                    logger.error("%s", error)
                    if self._want_running:
                        archiver.start()
                    return
            for notice in archiver.session.notices:
                if notice.endswith(IN_MEMORY_NOTICE):
                    archiver.session.withdraw(notice)
            archiver.close()
            ledger.close()
            try:
                self._begin(archiver.session)
            except (CloudArchiveError, OSError) as error:
                self._let_go()
                self._fail(str(error))
                self._stand_by()

    def _begin(self, session: Session | None = None) -> None:
        """Open the ledger and start the archiver; the lock is held."""
        assert self._settings is not None
        assert self.state_directory is not None
        settings = self._settings
        if self._backfill is not None and not is_set("CLOUD_ARCHIVE_BACKFILL", self._environ):
            settings = settings.model_copy(update={"backfill": self._backfill})
        ledger, notices, everything = open_ledger(self.state_directory, began=self.started_at)
        self._ledger = ledger
        if self._directory_lock is not None and self._directory_lock.unlocked:
            notices.append(
                "No lock could be made, neither in the state directory nor for this machine:"
                " see to it that no second archive runs for this directory."
            )
        if everything and settings.backfill == "missed":
            settings = settings.model_copy(update={"backfill": "all"})
        if self.state_directory.name == FALLBACK_NAME:
            notices.append(
                f"The state is kept in {self.state_directory}, because this user has no home directory that can be"
                " written. Set CLOUD_ARCHIVE_STATE_DIR to keep it elsewhere."
            )
            logger.warning("%s", notices[-1])
        try:
            logs = remember_log_files(ledger, _log_files())
        except LedgerError as error:
            logger.warning("%s", error)
            logs = _log_files()
        own = OwnFiles(self.root, self.state_directory, logs)
        store = self._open_store(settings, ledger)
        archiver = Archiver(
            settings,
            self.root,
            ledger,
            store,
            session_id=self.session_id,
            on_change=self._notifier.notify,
            started_at=self.started_at,
            metrics=self._metrics,
            session=session,
            own=own,
        )
        for notice in notices:
            archiver.session.notice(notice)
        with self._lock:
            self._ledger, self._archiver = ledger, archiver
        self._problems = []
        self.on_begin()
        if self._ledger_keeper is None:
            self._ledger_keeper = threading.Thread(
                target=self._keep_ledger, name="cloud-archive-ledger-keeper", daemon=True
            )
            self._ledger_keeper.start()
        if self._want_running and not self._closing.is_set():
            try:
                archiver.start()
            except CloudArchiveError as error:
                self._fail(str(error))
        else:
            archiver.warm_up()  # there is time now
        self._notifier.notify()

    def _open_store(self, settings: Settings, ledger: Ledger) -> ObjectStore:
        """With what an earlier session found out about this destination."""
        name = f"capabilities of {settings.endpoint_label}/{settings.bucket}"
        text = ledger.recall(name)
        known = Capabilities.from_json(json.loads(text)) if text else None

        def remember(found: Capabilities) -> None:
            try:
                ledger.remember(name, json.dumps(found.to_json()))
            except LedgerError as error:
                logger.warning("%s", error)

        return self._make_store(settings, capabilities=known, on_capabilities=remember)

    def close(self, grace_seconds: float = 30.0) -> list[str]:
        """Stop, let uploads under way finish within the grace, let go of everything.

        Returns:
            Paths that are not in the bucket yet.
        """
        self._closing.set()
        self._ending.set()
        if self._standby is not None and self._standby is not threading.current_thread():
            self._standby.join()
        if self._ledger_keeper is not None:
            self._ledger_keeper.join(LEDGER_STOP_SECONDS)
        with self._lock:
            archiver, self._archiver = self._archiver, None
            ledger, self._ledger = self._ledger, None
        remaining: list[str] = []
        if archiver is not None:
            try:
                remaining = archiver.stop(grace_seconds)
                self.left = archiver.left
            except LedgerError as error:
                logger.error("%s", error)
            archiver.close()
        if ledger is not None:
            if ledger.saved_as is not None:
                with contextlib.suppress(LedgerError):
                    ledger.save(ledger.saved_as)
            ledger.close()
        if self._directory_lock is not None:
            self._directory_lock.release()
        self._notifier.stop()
        return remaining

    def request_handover(self) -> bool:
        """Another engine asks for the directory: yes where the process that this one serves is gone."""
        if not self._orphaned():
            return False
        self._handed_over.set()
        self._ending.set()
        self.stop_draining()
        return True

    def wait_for_handover(self) -> None:
        """Return once this engine was asked to hand over, or is closed."""
        self._ending.wait()

    def drain(self, timeout_seconds: float) -> bool:
        """Take nothing new, finish what is pending. True where nothing is left but what needs somebody's hand."""
        archiver = self._archiver
        return archiver is None or archiver.drain(timeout_seconds)

    def stop_draining(self) -> None:
        """Let `drain` return now."""
        if self._archiver is not None:
            self._archiver.stop_draining()

    @property
    def handed_over(self) -> bool:
        """Whether this engine was asked to hand over, and must end at once."""
        return self._handed_over.is_set()

    @property
    def has_scanned(self) -> bool:
        """Whether the directory was looked through once since the start, or nothing watches it."""
        archiver = self._archiver
        return archiver is not None and archiver.has_scanned

    @property
    def environ(self) -> Mapping[str, str]:
        """Where the settings come from."""
        return self._environ

    @property
    def problems(self) -> tuple[str, ...]:
        """Why there is no archiver, or why it does not watch; empty where nothing is wrong with it."""
        return tuple(self._problems)

    # --- what routes and commands call

    def archiver(self) -> Archiver:
        """The archiver.

        Raises:
            CloudArchiveError: there is none, and why.
        """
        archiver = self._archiver
        if archiver is not None:
            return archiver
        if self._problems:
            raise CloudArchiveError(" ".join(_sentence(problem) for problem in self._problems))
        if self._standby is not None:
            raise CloudArchiveError("Another process archives this directory; ask that one.")
        raise CloudArchiveError("The archive is not ready yet.")

    def status(self, look: bool = True, *, recent: bool = False, heartbeat: bool = False) -> Status:
        """See `Archiver.status`; also while there is no archiver."""
        archiver = self._archiver
        if archiver is None:
            return self._status_without_archiver()
        try:
            found = archiver.status(look=look, recent=recent, heartbeat=heartbeat)
        except LedgerError as error:
            return Status(
                running=archiver.running,
                session_id=self.session_id,
                state=State.UNAVAILABLE,
                errors=(str(error),),
                destination=archiver.destination,
                watched_directory=str(self.root),
            )
        return replace(found, errors=(*self._problems, *found.errors)[-50:])

    def _status_without_archiver(self) -> Status:
        if self._settings is None:
            state = State.NOT_CONFIGURED if self._problems else State.STARTING
        elif self._problems:
            state = State.UNAVAILABLE
        else:
            state = State.STANDBY if self._standby is not None else State.STARTING
        errors = list(self._problems)
        if state is State.STANDBY:
            errors.append("Another process archives this directory; this one takes over when that ends.")
        return Status(
            running=False,
            session_id=self.session_id,
            state=state,
            errors=tuple(errors),
            watched_directory=str(self.root),
        )

    def start_watching(self) -> str:
        """`POST /cloud-sync/start`. Raises CloudArchiveError with the reason where it can't."""
        self._want_running = True
        archiver = self.archiver()
        if archiver.running:
            return "Already archiving."
        if self._make_root:
            self.root.mkdir(parents=True, exist_ok=True)
        archiver.start()
        self._problems = []
        return f"Archiving {self.root}."

    def stop_watching(self) -> str:
        """`POST /cloud-sync/stop`: answers at once; uploads under way finish, and a start meanwhile resumes."""
        self._want_running = False
        archiver = self.archiver()
        was_running = archiver.running
        archiver.pause()
        status = archiver.status(look=False)
        active = len(status.active)
        parts = ["Stopped." if was_running else "Already stopped."]
        if active:
            parts.append(f"{count_noun(active, 'upload')} under way will finish.")
        if waiting := status.pending_files - active:
            parts.append(f"{count_noun(waiting, 'file')} will wait until you start again.")
        return " ".join(parts)

    def upload(self, file_path: str, timeout_seconds: float = 20.0) -> UploadAnswer:
        """`POST /cloud-sync/upload`.

        Raises:
            RequestRefused: 400, 403 or 404.
            CloudArchiveError: there is no archiver.
        """
        path = self._contained(file_path)
        archiver = self.archiver()
        if path in archiver.own:
            raise RequestRefused(403, "This is a file of Cloud Archive's own: it is never archived.")
        try:
            found = archiver.submit(path, timeout_seconds)
        except FileVanished:
            raise RequestRefused(404, f"File not found: {file_path}") from None
        row = None if found.row is None else row_to_json(found.row)
        if found.archived:
            assert found.row is not None
            what = "Already archived" if found.already else f"Archived {path}"
            return UploadAnswer(200, f"{what} as {found.row.key}.", row)
        return _unfinished(path, found, row)

    def _contained(self, file_path: str) -> str:
        """The relative path of a regular file inside the watched directory, symlinks resolved."""
        try:
            root = self.root.resolve()
            target = (root / file_path).resolve()
            path = to_relative(root, target)
        except ValueError:
            raise RequestRefused(403, "This file is outside the watched directory.") from None
        except (OSError, RuntimeError, UnicodeError):
            raise RequestRefused(400, "This is no path of a file.") from None
        try:
            found = root.stat() if target == root else stat_file(root, path)
        except OSError:
            raise RequestRefused(404, f"There is no file {file_path}.") from None
        if not stat_module.S_ISREG(found.st_mode):
            kind = "a directory" if stat_module.S_ISDIR(found.st_mode) else "no regular file"
            raise RequestRefused(400, f"{file_path} is {kind}; name one file.")
        if found.st_size == 0:
            raise RequestRefused(400, f"{file_path} is empty: there is nothing to archive.")
        return path

    def rescan(self, accept_root: bool = False) -> str:
        """`POST /cloud-sync/rescan`.

        Args:
            accept_root: first take the directory that is there now for the known one.
        """
        archiver = self.archiver()
        if accept_root:
            archiver.known_root.accept()
            if not archiver.running:
                return f"Accepted {self.root}."
        found = archiver.rescan()
        return f"{found} new files found." if found != 1 else "1 new file found."

    def retry(self) -> str:
        """`POST /cloud-sync/retry`."""
        count = self.archiver().retry()
        return f"{count} failed files go back to the queue." if count != 1 else "1 failed file goes back."

    def archive_baseline(self) -> str:
        """`POST /cloud-sync/backfill`: archive also what was there before the first start; answers at once."""
        count = self.archiver().archive_baseline()
        return f"{count_noun(count, 'older file')} {'is' if count == 1 else 'are'} being archived."

    def flush(self, timeout_seconds: float = 60.0, given_up: Callable[[], bool] = lambda: False) -> bool:
        """`POST /cloud-sync/flush`: True once it is safe to stop; False when time is up or `given_up` says so."""
        return self.archiver().flush(timeout_seconds, given_up)

    def files(
        self, state: str | None, query: str, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of the ledger, newest first, and where the next one begins.

        Raises:
            RequestRefused: 400, the cursor or the state is none.
        """
        archiver = self.archiver()
        if state in ("skipped", "baseline"):
            return _unarchived_page(archiver, state, query, limit, cursor)
        ledger = archiver.ledger
        try:
            before = None if cursor is None else int(cursor)
            if before is not None and not 0 <= before <= _LAST_ROW:
                raise ValueError(cursor)
        except ValueError:
            raise RequestRefused(400, "cursor must be the next_cursor of an earlier page.") from None
        again = {"retrying": True, "given_up": False}.get(state or "")
        try:
            words = state.split(",") if state and again is None else []
            states = tuple(FileState[word.upper()] for word in words)
        except KeyError:
            raise RequestRefused(400, "state must be one that a file has, or several with commas.") from None
        rows = ledger.rows(states=states, again=again, query=query, limit=limit, before=before)
        following = str(rows[-1].row) if len(rows) == limit else None
        return [row_to_json(row) for row in rows], following

    def check(self) -> Future[CheckAnswer]:
        """`POST /cloud-sync/check`: start the connection check, or join the one that runs. Does not block."""
        return self._check.begin()

    def last_check(self) -> CheckAnswer:
        """`GET /cloud-sync/check`: the result of the last check and its time. Does not block."""
        return self._check.last

    def report(self, by: Literal["hour", "day"], last: int) -> list[dict[str, Any]]:
        """`GET /cloud-sync/report`: what came into the bucket in the last hours or days, for a chart."""
        from ..maintenance.report import chart_rows

        return chart_rows(self.archiver().ledger, by, last, time.time())

    def metrics_text(self) -> str:
        """`GET /cloud-sync/metrics`: Prometheus text. Raises CloudArchiveError without prometheus-client."""
        archiver = self._archiver
        return self._metrics.text(None if archiver is None else archiver.gauges())

    def subscribe(self, callback: StatusCallback) -> Callable[[], None]:
        """Call back with the status, from a thread of ours, at most 4 times a second. Returns how to end it."""
        return self._notifier.subscribe(callback)

    def _push_status(self) -> dict[str, Any]:
        return self.status(recent=True).to_json()


def _log_files() -> list[Path]:
    """Return the files that this process logs to."""
    handlers = logging.getLogger("cloud_archive").handlers
    return [Path(each.baseFilename) for each in handlers if isinstance(each, logging.FileHandler)]


def _unarchived_page(
    archiver: Archiver, state: str, query: str, limit: int, cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """See `Engine.files`; the cursor is the number of files on the pages before."""
    try:
        start = int(cursor or 0)
        if start < 0:
            raise ValueError
    except ValueError:
        raise RequestRefused(400, "cursor is none that this archive gave.") from None
    wanted = (
        file
        for file in archiver.unarchived_files()
        if file.state == state and query.lower() in file.path.lower()
    )
    rows = [file.to_json() for file in islice(wanted, start, start + limit)]
    return rows, str(start + limit) if len(rows) == limit else None


def find_engine(root: Path, environ: Mapping[str, str]) -> Path:
    """The state directory in which a running engine for `root` would be found."""
    return find_state_directory(root, configured_state_directory(environ))


def _unfinished(path: str, found: Submission, row: dict[str, Any] | None) -> UploadAnswer:
    error = found.error
    if error is None or isinstance(error, FileChanged):
        return UploadAnswer(202, f"{path} is queued.", row)
    if isinstance(error, StoreError):
        return UploadAnswer(502, f"{path} was not archived. {error}", row)
    if isinstance(error, FileVanished):
        return UploadAnswer(404, f"{path} is gone.", row)
    status = 400 if isinstance(error, KeyRejected) else 500
    if isinstance(error, FileUnreadable):
        status = 403
    return UploadAnswer(status, f"{path} was not archived: {error}", row)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
