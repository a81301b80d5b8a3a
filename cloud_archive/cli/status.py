"""`status`, `flush`, `retry` and `rescan`: ask the engine that runs for a directory, else read its ledger."""

from __future__ import annotations

import contextlib
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EngineUnavailable, RequestRefused
from ..terminal import EXIT_DONE, EXIT_FAILED, is_terminal, print_error, print_json, print_line
from ..text import count_noun, end_sentence, format_bytes, left_out_words, make_printable
from .arguments import given_directory, watched_directory
from .common import only_engine
from .options import Directory, Json, seconds_up_to

if TYPE_CHECKING:
    from ..api.client import LocalEngine
    from .ledger_view import LedgerView

FLUSH_SECONDS = 60.0
MAX_FLUSH_SECONDS = 3600.0
_SLICE_SECONDS = 2.0  # of a flush, between two updates of its progress
_PAUSE_SECONDS = 0.2  # before a flush that was refused is tried again
_CALL_SECONDS = 90.0  # a rescan waits for its scan, 60 s at most
_MAX_NAMED = 1000
_MAX_SKIPPED_NAMED = 10
_MAX_SKIPPED_LISTED = 50
_CANNOT_FLUSH = ("stopped", "not_configured", "unavailable")  # states in which waiting does not help


def register(app: typer.Typer) -> None:
    """Add the four commands."""
    app.command(
        "status", short_help="Show what the archive of DIR is doing, and whether it is safe to stop."
    )(status)
    app.command("flush", short_help="Wait until everything in DIR is in the bucket.")(flush)
    app.command("retry", short_help="Try failed files again.")(retry)
    app.command("rescan", short_help="Scan DIR now for files that are not archived yet.")(rescan)


def status(directory: Directory = None, json: Json = False) -> None:
    """Show what the archive of DIR is doing, and whether it is safe to stop.

    Exit status 0: safe to stop; 1: not yet.
    """
    root, engine = _find(directory)
    if engine is None:
        raise typer.Exit(_answer_from_ledger(root, json=json, details=True))
    found = engine.status()
    skipped = _skipped(engine, found)
    if json:
        print_json(found | {"skipped": skipped})
    else:
        _show(found)
        _show_skipped(found, skipped)
        for error in found.get("errors", []):
            print_error(make_printable(str(error)))
    raise typer.Exit(EXIT_DONE if found["safe_to_stop"] else EXIT_FAILED)


def flush(
    directory: Directory = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            parser=seconds_up_to(MAX_FLUSH_SECONDS),
            show_default=False,
            help=f"How long to wait; default: {FLUSH_SECONDS:.0f}.",
        ),
    ] = FLUSH_SECONDS,
    json: Json = False,
) -> None:
    """Wait until everything in DIR is in the bucket. Use it as the stop hook of a pod.

    Exit status 0: safe to stop; 1: the time is up, or waiting does not help.
    """
    from ..api.client import running_engine

    root, engine = _find(directory)
    if engine is None:
        raise typer.Exit(_answer_from_ledger(root, json=json, details=False))
    try:
        found, message, safe = _flush(engine, timeout)
    except EngineUnavailable:
        if running_engine(root) is not None:
            raise
        raise typer.Exit(_answer_from_ledger(root, json=json, details=False)) from None  # it has ended
    if json:
        remaining = [] if safe else _remaining(engine, found)
        print_json({"safe_to_stop": safe, "message": message, "remaining": remaining, "status": found})
    elif safe:
        print_line(message)
    if not safe:
        print_error(make_printable(message))
        _name_remaining(_remaining(engine, found), found)
    raise typer.Exit(EXIT_DONE if safe else EXIT_FAILED)


def retry(directory: Directory = None, json: Json = False) -> None:
    """Let the archive that runs for DIR upload failed files again.

    Exit status 0: done; 1: it failed, or no archive is running and something is not in the bucket.
    """
    root, engine = _find(directory)
    if engine is None:
        raise typer.Exit(_answer_from_ledger(root, json=json, details=False, retrying=True))
    raise typer.Exit(_request(engine, "retry", {}, json=json))


def rescan(
    directory: Directory = None,
    accept_root: Annotated[
        bool,
        typer.Option("--accept-root", help="Accept that DIR was replaced by another directory."),
    ] = False,
    json: Json = False,
) -> None:
    """Scan DIR now for files that are not archived yet.

    With --accept-root, first accept that DIR was replaced by another directory: files that the ledger knows and DIR
    lacks then count as gone. Exit status 0: done; 1: it failed, or no archive is running and something is not in the
    bucket.
    """
    root, engine = _find(directory)
    if engine is not None:
        raise typer.Exit(_request(engine, "rescan", {"accept_root": accept_root}, json=json))
    if accept_root:
        from ..ledger.known_root import KnownRoot
        from .common import ledger_of

        with ledger_of(root, needed=True) as ledger:
            assert ledger is not None
            KnownRoot(root, ledger).accept()
        if not json:
            print_line(f"Accepted {make_printable(str(root))}.")
    raise typer.Exit(_answer_from_ledger(root, json=json, details=False))


def _request(engine: LocalEngine, name: str, body: dict[str, Any], *, json: bool) -> int:
    """Send `retry` or `rescan` to the engine, and return the exit status."""
    answer = engine.call("POST", f"/cloud-sync/{name}", body, timeout_seconds=_CALL_SECONDS)
    done = answer.status == 200
    if json:
        body = answer.body if isinstance(answer.body, dict) else {}
        print_json({"success": done, "message": answer.message, "status": body.get("status")})
    elif done:
        print_line(answer.message)
    if not done:
        print_error(make_printable(answer.message))
    return EXIT_DONE if done else EXIT_FAILED


def _find(given: Path | None) -> tuple[Path, LocalEngine | None]:
    """Return the directory and the engine that runs for it. Without a directory: the only engine that runs.

    Raises:
        WrongUsage: no directory is named, and none or several engines run.
        EngineUnavailable: an engine is there and does not answer.
    """
    from ..api.client import running_engine

    chosen = given_directory(given)
    if chosen is None:
        only = only_engine()
        return only.root, only
    engine = running_engine(chosen)
    # The directory of a running engine may be missing now: the engine reports that itself.
    return (chosen, engine) if engine is not None else (watched_directory(given), None)


# --- with an engine


def _flush(engine: LocalEngine, timeout_seconds: float) -> tuple[dict[str, Any], str, bool]:
    """Return (status, message, whether it is safe to stop)."""
    from .progress import Progress

    deadline = time.monotonic() + timeout_seconds
    with Progress(is_terminal(sys.stderr)) as progress:
        pending = True
        while True:
            left = max(0.0, deadline - time.monotonic())
            # The last scan of the directory gets all the time that is left: a large directory on a slow file server
            # takes longer than a slice.
            part = min(left, _SLICE_SECONDS) if pending else left
            answer = engine.call(
                "POST", "/cloud-sync/flush", {"timeout_seconds": part}, timeout_seconds=part + 60.0
            )
            if answer.status == 503 and left:  # it is stopping, or too busy
                time.sleep(_PAUSE_SECONDS)
                continue
            body = answer.body if isinstance(answer.body, dict) else {}
            found = body.get("status") or engine.status()
            if answer.status == 200:
                return found, answer.message, True
            if found.get("state") in _CANNOT_FLUSH or answer.status != 504 or time.monotonic() >= deadline:
                return found, answer.message, False
            pending = bool(found.get("pending_files", 1))
            progress.show(found)


def _remaining(engine: LocalEngine, found: dict[str, Any]) -> list[dict[str, str]]:
    """Return files that are not in the bucket, each once, with its cause if there is one."""
    by_file: dict[str, dict[str, str]] = {
        str(entry["path"]): {"file": str(entry["path"]), "state": "settling", "cause": str(entry["reason"])}
        for entry in found.get("waiting", [])
    }
    # One listing for all three states: a file that moves between them meanwhile stays where it is in the list.
    with contextlib.suppress(RequestRefused):  # it has no ledger; its status says why
        for row in engine.files("failed,uploading,pending"):
            path = str(row["path"])
            cause = f"{end_sentence(row['cause'] or '')} {row['cure'] or ''}".strip()
            by_file[path] = {"file": path, "state": str(row["state"]), "cause": cause}
    order = ("failed", "uploading", "pending", "settling")
    return sorted(by_file.values(), key=lambda entry: (order.index(entry["state"]), entry["file"]))


def _name_remaining(remaining: list[dict[str, str]], found: dict[str, Any]) -> None:
    # The status counts all files that settle, and names only the first.
    count = max(len(remaining), found.get("pending_files", 0) + found.get("failed_files", 0))
    named = remaining[:_MAX_NAMED]
    for entry in named:
        cause = f": {entry['cause']}" if entry["cause"] else f": {entry['state']}"
        print_error(f"  {make_printable(entry['file'])}{make_printable(cause)}")
    if named and count > len(named):
        print_error(f"  … and {count - len(named):,} more")


def _show(found: dict[str, Any]) -> None:
    where = found["destination"]
    place = "/".join(part for part in (where["bucket"], where["prefix"]) if part)
    counts = [
        f"{found['uploaded_files']:,} archived",
        f"{found['already_archived_files']:,} already in the bucket"
        if found["already_archived_files"]
        else "",
        f"{found['pending_files']:,} waiting ({format_bytes(found.get('unsent_bytes', found['pending_bytes']))})"
        if found["pending_files"]
        else "",
        f"{found['retrying_files']:,} of them retrying" if found.get("retrying_files") else "",
        f"{found['failed_files']:,} failed" if found["failed_files"] else "",
    ]
    _line("Directory", found["watched_directory"])
    _line("Watched with", found["watching"] or "nothing: not watched now")
    if place:
        _line("Bucket", f"{place} at {where['endpoint']}")
    _line("State", found["state"].replace("_", " "))
    if "archived_files" in found:
        total = f"{count_noun(found['archived_files'], 'file')}, {format_bytes(found['archived_bytes'])}"
        _line("Archived", total)
    _line("Since start", ", ".join(count for count in counts if count))
    for active in found["active"]:
        sent = f"{format_bytes(active['sent_bytes'])} of {format_bytes(active['size_bytes'])}"
        _line("Uploading", f"{active['path']}  {sent}")
    for entry in found.get("waiting", [])[:5]:
        _line("Not complete", f"{entry['path']}  {entry['reason']}")
    if found["last_upload_time"]:
        _line("Last upload", found["last_upload_time"].replace("T", " "))
    _line("Local files", "kept" if found.get("keeps_local_files", True) else "deleted after proof")
    _line("Safe to stop", "yes" if found["safe_to_stop"] else "no")
    if risk := found.get("overwrite_risk"):
        kind = "large files" if risk == "large_files" else "files"
        _line(
            "Note",
            f"This store can't refuse to overwrite {kind}. Where several machines write the same names,"
            " put {session_id} into S3_PREFIX.",
        )


def _line(name: str, value: str) -> None:
    print_line(f"{name:<13} {make_printable(value)}")


def _skipped(engine: LocalEngine, found: dict[str, Any]) -> list[dict[str, str]]:
    """Return the first files that are left out."""
    if not found.get("skipped_files"):
        return []
    try:
        rows = list(islice(engine.files("skipped"), _MAX_SKIPPED_LISTED))
    except RequestRefused:  # it has no ledger; its status says why
        return []
    return [{"file": str(row["path"]), "cause": str(row["cause"])} for row in rows]


def _show_skipped(found: dict[str, Any], skipped: list[dict[str, str]]) -> None:
    """Print how many files are older or still to be checked, and the files that are left out."""
    count, older = int(found.get("skipped_files", 0)), int(found.get("baseline_files", 0))
    if older:
        _line("Not archived", older_words(older))
    if unchecked := int(found.get("unchecked_files", 0)):
        _line(
            "To be checked",
            f"{count_noun(unchecked, 'archived file')} touched since, hashed in the background",
        )
    if count:
        _line("Skipped", count_noun(count, "file"))
    for entry in skipped[:_MAX_SKIPPED_NAMED]:
        print_line(f"  {make_printable(entry['file'])}: {make_printable(entry['cause'])}")
    if count > min(len(skipped), _MAX_SKIPPED_NAMED) > 0:
        print_line(f"  … and {count - min(len(skipped), _MAX_SKIPPED_NAMED):,} more")


def older_words(count: int) -> str:
    """Return what a user should know about this many older files."""
    was, verb, them = ("was", "is", "it") if count == 1 else ("were", "are", "them")
    return (
        f"{count_noun(count, 'file')} that {was} there before archiving began {verb} not archived."
        f" `cloud-archive upload --baseline --dir DIR` archives {them}."
    )


# --- without one


def _answer_from_ledger(root: Path, *, json: bool, details: bool, retrying: bool = False) -> int:
    from .ledger_view import read_ledger_view

    view = read_ledger_view(root)
    safe = view.unarchived_files == 0
    if json:
        print_json(view.to_json())
    else:
        _show_ledger(view, details)
        if retrying and view.totals.failed.files:
            print_line("Failed files are retried when an archive starts.")
    for warning in view.warnings if details else ():
        print_error(make_printable(warning))
    if not safe:
        for error in view.errors[-_MAX_NAMED:]:
            print_error(make_printable(error))
        named = [path for path in view.remaining if not any(e.startswith(f"{path}: ") for e in view.errors)]
        for path in named[:_MAX_NAMED]:
            why = "touched since it was archived" if path in view.touched else "not archived"
            print_error(f"{make_printable(path)}: {why}.")
        more = view.unarchived_files - len(view.errors[-_MAX_NAMED:]) - len(named[:_MAX_NAMED])
        if more > 0:
            print_error(f"… and {more:,} more")
    return EXIT_DONE if safe else EXIT_FAILED


def _show_ledger(view: LedgerView, details: bool) -> None:
    print_line(f"No archive of this user is running for {make_printable(str(view.root))}.")
    if details and view.known:
        archived = view.totals.archived
        print_line(
            f"The ledger lists {count_noun(archived.files, 'file')} ({format_bytes(archived.size_bytes)}) as archived."
        )
    elif details:
        print_line("This user has archived nothing from this directory.")
    if view.unarchived_files:
        print_line(
            f"Not confirmed in the bucket: {count_noun(view.unarchived_files, 'file')}."
            f" {_how_to_start(view)} to archive {'it' if view.unarchived_files == 1 else 'them'}."
        )
    else:
        left_out = left_out_words(view.tally.baseline, view.totals.pruned.files)
        print_line(f"Safe to stop: every file is in the bucket{left_out}.")
    if details:
        found = view.to_json()
        _show_skipped(found, found["skipped"])


def _how_to_start(view: LedgerView) -> str:
    if not view.known:  # a first start may leave them alone
        command = "upload --baseline --dir DIR" if view.leaves_new_files else "watch DIR --once"
        return f"Run `cloud-archive {command}`"
    if view.leaves_new_files:
        return (
            "A start with CLOUD_ARCHIVE_BACKFILL=none leaves new files alone. Start ComfyUI or `cloud-archive watch`"
            " with CLOUD_ARCHIVE_BACKFILL=missed"
        )
    return "Start ComfyUI or `cloud-archive watch`"
