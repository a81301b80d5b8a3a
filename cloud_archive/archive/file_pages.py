"""`GET /cloud-sync/files`: pages of the ledger's rows, and of the files without a row."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any

from ..errors import RequestRefused
from ..ledger.ledger import Ledger
from ..ledger.rows import FileState
from ..text import spellings
from .status import row_to_json
from .unarchived import UnarchivedFile

_LAST_ROW = 2**63 - 1  # SQLite's largest integer

Page = tuple[list[dict[str, Any]], "str | None"]  # the rows, and the cursor of the next page


def ledger_page(ledger: Ledger, state: str | None, query: str, limit: int, cursor: str | None) -> Page:
    """Return the rows of a page, newest first, and the cursor of the next page; None if this page is not full.

    Args:
        state: one state, or several separated by commas; None = all. `retrying` = the files that failed and will be
            retried; `given_up` = those that failed and wait until their cause is over; neither can be combined.
        query: only paths that contain this text, ignoring the case of ASCII letters.
        cursor: the one that the previous page returned; None = the first page.

    Raises:
        RequestRefused: 400, the cursor or the state is invalid.
    """
    try:
        before = None if cursor is None else int(cursor)
        if before is not None and not 0 <= before <= _LAST_ROW:
            raise ValueError(cursor)
    except ValueError:
        raise RequestRefused(400, "cursor must be the next_cursor of an earlier page.") from None
    retried = {"retrying": True, "given_up": False}.get(state or "")
    try:
        words = state.split(",") if state and retried is None else []
        states = tuple(FileState[word.upper()] for word in words)
    except KeyError:
        raise RequestRefused(
            400,
            "state must be a file's state, or several with commas. Ask for retrying and for given_up one at a time.",
        ) from None
    rows = ledger.rows(states=states, retried=retried, query=query, limit=limit, before=before)
    next_cursor = str(rows[-1].row) if len(rows) == limit else None
    return [row_to_json(row) for row in rows], next_cursor


def unarchived_page(
    files: Iterable[UnarchivedFile], state: str, query: str, limit: int, cursor: str | None
) -> Page:
    """Return a page of the files without a row in the ledger, and the cursor of the next page, as `ledger_page` does.

    Args:
        state: `skipped` or `baseline`; `unarchived` = all.
        query: only paths that contain this text, ignoring case.
        cursor: how many files the earlier pages hold; None = the first page.

    Raises:
        RequestRefused: 400, the cursor is invalid.
    """
    try:
        start = int(cursor or 0)
        if not 0 <= start <= sys.maxsize - limit:  # `islice` takes no larger numbers
            raise ValueError
    except ValueError:
        raise RequestRefused(400, "cursor must be the next_cursor of an earlier page.") from None
    texts = [text.lower() for text in spellings(query)]
    wanted = (
        file
        for file in files
        if state in ("unarchived", file.state) and any(text in file.path.lower() for text in texts)
    )
    rows = [file.to_json() for file in islice(wanted, start, start + limit)]
    return rows, str(start + limit) if len(rows) == limit else None
