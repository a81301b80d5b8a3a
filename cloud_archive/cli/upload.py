"""`upload FILE…`: archive these files now, directly or through the archive that runs for their directory."""

from __future__ import annotations

import functools
import glob
import os
import re
import sys
import time
import uuid
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import LedgerError
from ..files import real_path
from ..terminal import (
    EXIT_DONE,
    EXIT_FAILED,
    interrupt_on_signals,
    is_terminal,
    print_error,
    print_json,
    print_line,
)
from ..text import format_bytes, make_printable
from .arguments import DIRECTORY_VARIABLE, WrongUsage, given_directory, watched_directory
from .common import STOPPING_OR_BUSY, enclosing_root, needed_root, parse_option
from .options import Json, directory_path, file_path

if TYPE_CHECKING:
    from ..api.client import LocalEngine
    from .direct_upload import Item, UploadResult
    from .progress import Progress

_PAUSE_SECONDS = 1.0  # between two requests for one file to the running archive
_OWN_FILE = "It is one of Cloud Archive's own files, which are never archived."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("upload", short_help="Archive these files.")(upload)


def upload(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE…]",
            show_default=False,
            parser=file_path,  # checks no more: one unreadable file must not keep the others from being archived
            help="The files to archive.",
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="P", help="Key prefix for these files, instead of S3_PREFIX."),
    ] = None,
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Archive the files that were there before archiving began."),
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            parser=directory_path,
            help=f"With --baseline: the watched directory; default: {DIRECTORY_VARIABLE}, else that of the only archive"
            " that runs.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Archive these files, or with --baseline those that were there before archiving began.

    A file in a watched directory or COMFYUI_OUTPUT_DIR keeps its path below the prefix; any other file goes to
    PREFIX/NAME. The last line is `Complete: 3/3`.
    """
    if baseline:
        if files or prefix is not None:
            raise WrongUsage("--baseline takes neither files nor --prefix.")
        raise typer.Exit(_upload_baseline(needed_root(directory), json=json))
    if not files:
        raise WrongUsage(
            "No file was given: name files, or give --baseline for those that were there before archiving began."
        )
    if directory is not None:
        raise WrongUsage("--dir needs --baseline; name a file by its path.")
    work = _Upload(prefix, json=json)
    try:
        with interrupt_on_signals():
            work.run(_expand(files))
    except KeyboardInterrupt:
        work.note_interrupted()
    raise typer.Exit(work.report())


def _expand(files: list[Path], *, windows: bool = os.name == "nt") -> list[Path]:
    """Return what `*` and `?` stand for. On Windows the shell leaves that to the program."""
    expanded: list[Path] = []
    for file in files:
        pattern = str(file).replace("[", "[[]")
        found = sorted(glob.glob(pattern)) if windows and re.search(r"[*?]", pattern) else []  # noqa: PTH207
        expanded += [Path(each) for each in found] or [file]
    return expanded


def _upload_baseline(root: Path, *, json: bool) -> int:
    """Archive everything in `root`, through a running archive or without one. Return the exit status."""
    from ..api.client import running_engine
    from ..archive.engine import Engine
    from ..config.settings import load_settings
    from ..daemon.service import GRACE_SECONDS
    from .logs import logging_to_stderr
    from .watching import archive_once

    environ = {**os.environ, "CLOUD_ARCHIVE_BACKFILL": "all"}
    load_settings(environ)
    running = running_engine(watched_directory(root), environ)
    if running is not None:
        answer = running.call("POST", "/cloud-sync/backfill")
        if answer.status != 200:
            print_error(make_printable(answer.message))
            return EXIT_FAILED
    with logging_to_stderr():
        # If an archive runs, this engine stands by, and `archive_once` waits until that one has archived everything.
        return archive_once(Engine(root, environ=environ), None, GRACE_SECONDS, json)


class _Upload:
    def __init__(self, prefix: str | None, *, json: bool) -> None:
        from ..archive.session import Session
        from ..keys import PrefixTemplate

        self._json = json
        self._prefix = prefix
        self._environ = dict(os.environ)
        if prefix is not None:
            self._environ["S3_PREFIX"] = prefix
            parse_option("--prefix", prefix, PrefixTemplate.parse)
        root = given_directory(None, self._environ)
        self._default_root = Path(real_path(root)) if root is not None and root.is_dir() else None
        self._roots: dict[Path, Path | None] = {}  # of each file
        self._names: dict[Path, str] = {}
        self._results: dict[Path, dict[str, Any]] = {}
        self._session = Session()

    def run(self, files: list[Path]) -> None:
        wanted: list[Path] = []
        for file in files:
            real = Path(real_path(file))
            if real in self._names:
                continue
            self._names[real] = str(file)
            self._roots[real] = self._find_root(real.parent)
            cause = _OWN_FILE if self._is_own(real) else _why_unfit(real)
            if cause:
                self._note_failed(real, cause)
            else:
                wanted.append(real)
        left, asked = self._upload_through_engines(wanted) if self._prefix is None else (wanted, False)
        if left or not asked:
            self._upload_directly(left)

    @functools.cache  # noqa: B019 - one object for each command
    def _find_root(self, folder: Path) -> Path | None:
        """Return COMFYUI_OUTPUT_DIR or the watched directory that `folder` is or lies in; None if neither."""
        if self._default_root is not None and folder.is_relative_to(self._default_root):
            return self._default_root
        return enclosing_root(folder)

    def _is_own(self, file: Path) -> bool:
        from ..own_files import is_state_file

        root = self._roots[file]
        return is_state_file(file) or (
            root is not None and file.relative_to(root).as_posix() in self._own_files(root)
        )

    @functools.cache  # noqa: B019 - one object for each command
    def _own_files(self, root: Path) -> Container[str]:
        from ..archive.ownership import engine_state_directory
        from ..own_files import OwnFiles
        from .ledger_view import own_files

        try:
            return own_files(root, self._environ)
        except LedgerError:  # only old log files are unknown without it
            return OwnFiles(root, engine_state_directory(root, self._environ))

    def _path(self, file: Path) -> str:
        """Return the file's path below the prefix."""
        root = self._roots[file]
        return file.name if root is None else file.relative_to(root).as_posix()

    # --- through the running archive

    def _upload_through_engines(self, files: list[Path]) -> tuple[list[Path], bool]:
        """Upload files through the archives that run for them. Return the files that are left, and if one runs."""
        from ..api.client import running_engine

        left = set(files)
        asked = False
        for root in dict.fromkeys(self._roots[file] for file in files):
            engine = running_engine(root, self._environ) if root is not None else None
            if engine is not None:
                asked = True
                inside = [file for file in files if self._roots[file] == root]
                left -= set(inside) - set(self._upload_through(engine, inside))
        return [file for file in files if file in left], asked

    def _upload_through(self, engine: LocalEngine, files: list[Path]) -> list[Path]:
        """Ask the running archive to upload each file. If it ends meanwhile, return the files that are left."""
        from ..errors import EngineUnavailable

        for number, file in enumerate(files):
            try:
                self._upload_one_through(engine, file)
            except EngineUnavailable:
                return files[number:]
        return []

    def _upload_one_through(self, engine: LocalEngine, file: Path) -> None:
        """Ask the running archive for one file until it is archived or refused for good, or the archive stalls.

        EngineUnavailable: the archive has ended, or it stalls and takes no files.
        """
        from ..errors import EngineUnavailable
        from ..store.failures import explain
        from .give_up import GIVE_UP_SECONDS, StallTimer

        stall = StallTimer()
        path = self._path(file)
        while True:
            answer = engine.call("POST", "/cloud-sync/upload", {"file_path": path}, timeout_seconds=60)
            row = answer.body.get("file") if isinstance(answer.body, dict) else None
            if answer.status == 200 and row:
                already = row.get("already_archived", False)  # an engine of an older version does not say it
                self._note_archived(file, row["s3_key"], row["sha256"], row["size_bytes"], already=already)
                return
            code = row.get("code") if row else None
            is_retried = answer.status in (202, STOPPING_OR_BUSY) or (
                answer.status == 502 and code is not None and explain(code).transient
            )
            if not is_retried or stall.seconds(_progress_of(path, engine.status())) >= GIVE_UP_SECONDS:
                if answer.status == STOPPING_OR_BUSY:
                    raise EngineUnavailable(answer.message)
                remark = " The running archive keeps trying." if is_retried else ""
                self._note_failed(file, answer.message + remark)
                return
            time.sleep(_PAUSE_SECONDS)

    # --- directly

    def _upload_directly(self, files: list[Path]) -> None:
        from ..config.settings import load_settings
        from .progress import Progress

        settings = load_settings(self._environ)  # wrong settings are an error even if no file is left
        if not files:
            return
        from .direct_upload import DirectUpload, Item, current_size_bytes

        items = [Item(file, self._path(file)) for file in files]
        total = sum(map(current_size_bytes, files))
        with Progress(is_terminal(sys.stderr)) as progress:
            direct = DirectUpload(
                settings,
                items,
                session_id=str(uuid.uuid4()),
                on_done=self._note_result,
                on_bytes=lambda sent: self._draw(progress, sent, total),
            )
            direct.run()

    def _draw(self, progress: Progress, sent: int, total: int) -> None:
        from .progress import describe_rate

        self._session.sample(sent, time.monotonic())
        counters = self._session.counters()
        rate = counters.rate_bytes_per_second
        left = counters.seconds_left(0, total - sent)
        counts = [f"{len(self._results)}/{len(self._names)}"] if self._names else []
        words = [*counts, f"{format_bytes(sent)} of {format_bytes(total)}", *describe_rate(rate, left)]
        progress.draw(sent, total, ", ".join(words))

    def _note_result(self, item: Item, result: UploadResult) -> None:
        if result.key is None:
            self._note_failed(item.local, result.cause)
        else:
            self._note_archived(
                item.local, result.key, result.sha256, result.size_bytes, already=result.already
            )

    # --- output

    def _note_archived(
        self, file: Path, key: str, sha256: str | None, size_bytes: int, *, already: bool
    ) -> None:
        name = self._names[file]
        self._results[file] = {
            "file": name,
            "s3_key": key,
            "size_bytes": size_bytes,
            "sha256": sha256,
            "already_archived": already,
        }
        if not self._json:
            print_line(
                f"{'Already archived' if already else 'Archived'} {make_printable(name)} as {make_printable(key)}"
                f" ({format_bytes(size_bytes)})"
            )

    def _note_failed(self, file: Path, cause: str) -> None:
        name = self._names[file]
        self._results[file] = {"file": name, "error": cause}
        print_error(
            make_printable(cause)
            if cause.startswith(name)
            else f"{make_printable(name)}: {make_printable(cause)}"
        )

    def note_interrupted(self) -> None:
        for file in self._names:
            if file not in self._results:
                self._note_failed(file, "Interrupted before it was archived.")

    def report(self) -> int:
        """Print the last line, and return the exit status."""
        rows: list[Mapping[str, Any]] = [self._results[file] for file in self._names if file in self._results]
        failed = len(self._names) - sum("s3_key" in row for row in rows)
        archived = len(self._names) - failed
        if self._json:
            print_json({"archived": archived, "failed": failed, "files": rows})
        else:
            print_line(f"Complete: {archived}/{len(self._names)}")
        return EXIT_FAILED if failed else EXIT_DONE


def _progress_of(path: str, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status with this file alone: what other files send or write is no progress, but their proof is."""
    own = {name: [entry for entry in status[name] if entry["path"] == path] for name in ("active", "waiting")}
    return {**status, **own}


def _why_unfit(file: Path) -> str:
    try:
        size_bytes = file.stat().st_size
    except FileNotFoundError:
        return "File not found."
    except OSError as error:
        return f"It can't be read: {error.strerror}."
    if file.is_dir():
        return "It is a directory; name files."
    if not file.is_file():
        return "It is not a regular file."
    if not os.access(file, os.R_OK):
        return "It can't be read. Allow this user to read it."
    return "" if size_bytes else "It is empty: there is nothing to archive."
