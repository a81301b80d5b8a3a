"""What several commands do: find the directory, open ledger and bucket, parse options."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import EngineUnavailable, LedgerError
from ..terminal import print_error
from ..text import make_printable, parse_time
from .arguments import DIRECTORY_VARIABLE, WrongUsage, given_directory

if TYPE_CHECKING:
    from ..api.client import LocalEngine
    from ..config.settings import Settings
    from ..ledger.ledger import Ledger
    from ..scope import KeyScope
    from ..store.base import ObjectStore

T = TypeVar("T")

STOPPING_OR_BUSY = 503  # the status of a running archive's answer while it takes no files
SILENT_SECONDS = 10.0


def archive_root(given: Path | None) -> Path | None:
    """Return DIR, else COMFYUI_OUTPUT_DIR, else the directory of the only engine that runs.

    The directory may be missing. None: neither is given, and no engine or several run.
    """
    chosen = given_directory(given)
    if chosen is not None:
        return chosen
    engines = _running_engines()
    return engines[0].root if len(engines) == 1 else None


def unambiguous_root(given: Path | None) -> Path | None:
    """Return the directory as `archive_root` does.

    Raises:
        WrongUsage: DIR does not exist and has no ledger, or nothing is given and several engines run.
    """
    chosen = given_directory(given)
    if chosen is not None:
        if given is not None:
            check_exists(chosen)
        return chosen
    engines = _running_engines()
    return _only(engines).root if engines else None


def needed_root(given: Path | None) -> Path:
    """Return the directory as `archive_root` does. Raises WrongUsage if there is none."""
    chosen = given_directory(given)
    return chosen if chosen is not None else only_engine().root


def only_engine() -> LocalEngine:
    """Return the only engine that runs. Raises WrongUsage if none or several run."""
    return _only(_running_engines())


def _running_engines() -> list[LocalEngine]:
    from ..api.client import running_engines

    return running_engines()


def _only(engines: Sequence[LocalEngine]) -> LocalEngine:
    if len(engines) == 1:
        return engines[0]
    roots = ", ".join(make_printable(str(engine.root)) for engine in engines)
    running = f"Several archives are running: {roots}." if engines else "No archive of this user is running."
    raise WrongUsage(f"No directory was given. {running} Give DIR, or set {DIRECTORY_VARIABLE}.")


def ledger_path(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the ledger of `root` is, or would be. Raises LedgerError if its directory can't be entered."""
    from ..archive.ownership import engine_state_directory
    from ..state import LEDGER_NAME

    path = engine_state_directory(root, environ) / LEDGER_NAME
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise LedgerError(
            f"The ledger {path} can't be used: {error.strerror}. Run this as the user who archives, or set"
            " CLOUD_ARCHIVE_STATE_DIR to another directory."
        ) from error
    return path


def enclosing_root(folder: Path) -> Path | None:
    """Return the directory with a ledger on this machine that `folder` is or lies in; None if there is none."""
    for each in (folder, *folder.parents):
        with contextlib.suppress(LedgerError):  # the ledger of a parent may be usable
            if ledger_path(each).is_file():
                return each
    return None


def check_exists(root: Path) -> None:
    """Raise WrongUsage if neither the directory nor its ledger exists."""
    if not ledger_path(root).is_file() and not root.is_dir():
        raise WrongUsage(f"The directory {root} does not exist, and this user has archived nothing from it.")


@contextlib.contextmanager
def ledger_of(root: Path | None, *, needed: bool) -> Iterator[Ledger | None]:
    """Open the ledger of `root`; None if it does not exist and is not needed.

    Raises:
        WrongUsage: it is needed, and neither it nor `root` exists.
        LedgerError: it is needed and not there, or can't be used; also if a running engine will replace it.
    """
    from ..api.client import running_engine
    from ..ledger.history import existing_ledger
    from ..ledger.recovery import ledger_exists

    if root is None:
        yield None
        return
    with contextlib.suppress(EngineUnavailable):
        engine = running_engine(root)
        if engine is not None and engine.will_replace_ledger():
            raise LedgerError(
                f"The ledger {ledger_path(root)} can't be used now: the running archive has a newer one in memory, and"
                " saves it there as soon as the disk allows. Try again then; `cloud-archive status` says what is wrong."
            )
    if not needed and not ledger_exists(ledger_path(root)):
        yield None
        return
    check_exists(root)
    with existing_ledger(ledger_path(root)) as ledger:
        yield ledger


@contextlib.contextmanager
def bucket(settings: Settings) -> Iterator[ObjectStore]:
    from ..store.s3 import S3Store

    store = S3Store(settings)
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def notice_if_silent() -> Iterator[Callable[[], None]]:
    """Say after `SILENT_SECONDS` that the command waits for the store, unless the yielded function is called before."""
    timer = threading.Timer(SILENT_SECONDS, print_error, ["Still waiting for the store."])
    timer.name, timer.daemon = "cloud-archive-notice", True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def settings_now(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of the environment. Raises SettingsError."""
    from ..config.settings import load_settings

    return load_settings(environ)


def deletable_scope(given: str | None, settings: Settings) -> KeyScope:
    """Return the keys that may be deleted: below S3_PREFIX, and below `--prefix` where it is given.

    Raises:
        WrongUsage: `--prefix` is empty, holds placeholders, or lies outside S3_PREFIX.
    """
    if given is not None and not given.strip("/"):  # as `$folder/` where the shell variable is not set
        raise WrongUsage("--prefix is empty: give a folder, or leave --prefix out.")
    from ..keys import PrefixTemplate
    from ..scope import KeyScope

    scope = KeyScope(PrefixTemplate.parse(settings.prefix), _folder(given))
    if not scope.is_possible:
        raise WrongUsage(
            f"--prefix {given!r} lies outside S3_PREFIX={settings.prefix}, and nothing outside it is deleted:"
            " give a folder below it, or set S3_PREFIX to the archive that you mean."
        )
    return scope


def reading_scope(given: str | None, settings: Settings) -> KeyScope:
    """Return the keys to read: below `--prefix`, else below S3_PREFIX. WrongUsage: `--prefix` holds placeholders."""
    from ..keys import PrefixTemplate
    from ..scope import KeyScope

    return KeyScope(PrefixTemplate.parse(settings.prefix), _folder(given), anywhere=True)


def _folder(given: str | None) -> str | None:
    if given is not None and "{" in given:
        raise WrongUsage(f"--prefix {given!r}: give it as it is in the bucket, without placeholders.")
    return given


def wake_engine(root: Path) -> None:
    """Let the engine that runs for `root`, if any, upload now what is pending."""
    from ..api.client import running_engine

    with contextlib.suppress(EngineUnavailable):
        engine = running_engine(root)
        if engine is not None:
            engine.call("POST", "/cloud-sync/retry")


def parse_option(option: str, text: str, parse: Callable[[str], T]) -> T:
    """Parse the text of an option. Raises WrongUsage if `parse` raises ValueError, whose text says what is accepted."""
    try:
        return parse(text)
    except ValueError as error:
        raise WrongUsage(f"{option} {text!r}: {error}.") from error


def age_seconds(option: str, text: str | None) -> float | None:
    """Parse an age such as `30d` into seconds; None if `text` is None or `off`. Raises as `parse_option` does."""
    from ..config.parsers import parse_age

    return None if text is None else parse_option(option, text, parse_age)


def size_bytes(option: str, text: str | None) -> int | None:
    """Parse a size such as `500GB` into bytes; None if `text` is None or `off`. Raises as `parse_option` does."""
    from ..config.parsers import parse_size, refuse_missing_unit

    def parse(given: str) -> int | None:
        refuse_missing_unit(given, "GB")
        return parse_size(given)

    return None if text is None else parse_option(option, text, parse)


def moment(option: str, text: str | None, *, end: bool = False) -> float | None:
    """Parse a day, a time or an age into seconds since 1970; None if `text` is None. Raises as `parse_option` does.

    Args:
        end: a day alone means its end; default: its beginning.
    """
    return None if text is None else parse_option(option, text, lambda given: _moment(given, end))


def _moment(text: str, end: bool) -> float:
    from ..config.parsers import parse_age

    with contextlib.suppress(ValueError):
        ago = parse_age(text)
        if ago is not None:
            return time.time() - ago
    try:
        return parse_time(text, end=end).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            "accepted is a day (2026-04-01), a time (2026-04-01T12:00) or an age (7d, 36h)"
        ) from None
