"""Run `watch`: the daemon, or with `--once` the archiving of existing files. Doesn't import typer; see start.py."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CloudArchiveError
from ..terminal import EXIT_DONE, EXIT_FAILED, is_terminal, print_error, print_json, print_line
from ..text import make_printable
from .arguments import WrongUsage, host_and_port, is_loopback_host, read_token, watched_directory

if TYPE_CHECKING:
    from ..archive.engine import Engine
    from ..daemon.service import PublicAddress
    from .once_result import Result

logger = logging.getLogger("cloud_archive.watch")

GRACE_SECONDS = 30.0
_MAX_NAMED = 1000  # failures on standard error
_MAX_SKIPPED_NAMED = 20


def run_watch(
    directory: Path | None,
    *,
    once: bool = False,
    serve: str | None = None,
    token_file: Path | None = None,
    log_file: Path | None = None,
    log_json: bool = False,
    grace: float = GRACE_SECONDS,
    json: bool = False,
) -> int:
    """Run `watch` with the options of its command, and return the exit status.

    Raises:
        WrongUsage: the directory or an option is wrong.
        SettingsError: the settings are wrong.
    """
    root = watched_directory(directory)  # checked first: opening the log file makes its folder
    with contextlib.ExitStack() as stack:
        from .logs import logging_to_stderr

        try:
            file_log = stack.enter_context(logging_to_stderr(json_lines=log_json, log_file=log_file))
        except OSError as error:
            raise WrongUsage(f"--log-file {log_file}: {error.strerror}.") from error
        try:
            return _run_logged(root, once, serve, token_file, grace, json)
        except CloudArchiveError as error:
            if file_log is not None:  # on standard error the caller prints it
                record = logger.makeRecord(logger.name, logging.ERROR, "", 0, str(error), (), None)
                file_log.handle(record)
            raise


def _run_logged(
    root: Path, once: bool, serve: str | None, token_file: Path | None, grace: float, json: bool
) -> int:
    if token_file is not None and serve is None:
        raise WrongUsage("--token-file needs --serve.")
    address = None if serve is None else host_and_port(serve)
    from ..config.settings import load_settings
    from ..own_files import note_own_file

    token = None
    if token_file is not None:
        token = read_token(token_file)
        note_own_file(token_file)
    settings = load_settings(os.environ)
    if token is None and settings.serve_token is not None:
        token = settings.serve_token.get_secret_value()
    from ..archive.engine import Engine
    from ..daemon.service import PublicAddress

    public = None if address is None else PublicAddress(*address, token)
    engine = Engine(root, backfill="all" if once else None, counts_metrics=not once or public is not None)
    run = archive_once if once else _watch
    return run(engine, public, grace, json)


def _watch(engine: Engine, public: PublicAddress | None, grace: float, json: bool) -> int:
    ending = threading.Event()

    def until_end() -> None:
        # With problems there is no archiver, so there is nothing to wait for.
        if not engine.problems:
            ending.wait()

    remaining = _run(engine, public, grace, until_end, ending.set)
    for problem in engine.problems:
        print_error(make_printable(problem))
    unknown = engine.remainder is not None and not engine.remainder.scanned and not engine.handed_over
    failed = bool(remaining or engine.problems or unknown)
    if json:
        print_json({"success": not failed, "remaining": remaining, "errors": list(engine.problems)})
    return EXIT_FAILED if failed else EXIT_DONE


def archive_once(engine: Engine, public: PublicAddress | None, grace: float, json: bool) -> int:
    """Archive the existing files and report; return the exit status."""
    from .once import Once
    from .progress import Progress

    with Progress(is_terminal(sys.stderr)) as progress:
        work = Once(engine, on_status=progress.show)
        remaining = _run(engine, public, grace, work.run, work.stop, once=True)
    result = work.result
    if not result.finished:
        work.note_end(remaining)
    return _report(result, json=json)


def _run(
    engine: Engine,
    public: PublicAddress | None,
    grace: float,
    work: Callable[[], None],
    on_ending: Callable[[], None],
    *,
    once: bool = False,
) -> list[str]:
    import asyncio

    from ..daemon.service import SHORT_WORK_SECONDS, run_daemon

    listens = False

    def ready(_: int, port: int | None) -> None:
        nonlocal listens
        listens = True
        if public is not None:
            logger.info("Dashboard: %s", _address(public.host, port))
            if not is_loopback_host(public.host):
                logger.warning("%s", _open_to(public.host, port, has_token=public.token is not None))

    try:
        return asyncio.run(
            run_daemon(
                engine,
                public=public,
                grace_seconds=grace,
                on_ready=ready,
                work=work,
                on_ending=on_ending,
                listen_after_seconds=SHORT_WORK_SECONDS if once and public is None else 0.0,
            )
        )
    except OSError as error:
        if public is None or listens:
            raise
        raise CloudArchiveError(
            f"--serve {_joined(public.host, public.port)}: nothing can listen there: {error.strerror or error}."
            " Give an address of this machine and a free port."
        ) from error


def _joined(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(host: str, port: int | None) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound to
    return f"http://{_joined(reachable, port)}/"


def _open_to(host: str, port: int | None, *, has_token: bool) -> str:
    everywhere = host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound to
    where = f"port {port} of this machine" if everywhere else _joined(host, port)
    if has_token:
        return (
            f"Other machines reach {where} over plain http, so the token can be read on the way. On a network that you"
            " do not trust, put a proxy with TLS in front, and serve on 127.0.0.1."
        )
    return (
        f"No token is set: everybody who reaches {where} can download and share all archived files, start and stop the"
        " archive, and have files uploaded. Set CLOUD_ARCHIVE_SERVE_TOKEN or give --token-file, or serve on 127.0.0.1."
    )


def _report(result: Result, *, json: bool) -> int:
    """Print failures on standard error and the totals on standard output, and return the exit status."""
    failed = bool(result.failures) or not result.finished
    for path, cause in sorted(result.failures)[:_MAX_NAMED]:
        print_error(f"{make_printable(path)}: {make_printable(cause)}" if path else make_printable(cause))
    if len(result.failures) > _MAX_NAMED:
        print_error(f"… and {len(result.failures) - _MAX_NAMED:,} more")
    if failed and not result.failures:
        print_error("Interrupted.")
    if json:
        print_json(result.to_json())
    else:
        for path, cause in sorted(result.skipped)[:_MAX_SKIPPED_NAMED]:
            print_line(f"Skipped {make_printable(path)}: {make_printable(cause)}")
        if result.skipped_files > _MAX_SKIPPED_NAMED:
            print_line(f"… and {result.skipped_files - _MAX_SKIPPED_NAMED:,} more skipped")
        done = result.archived + result.already
        # `total` includes files that failed.
        total = max(result.total, done)
        if total or not failed:  # else the errors say it all
            print_line(f"Complete: {done}/{total}" if total else "Complete: nothing to archive")
    return EXIT_FAILED if failed else EXIT_DONE
