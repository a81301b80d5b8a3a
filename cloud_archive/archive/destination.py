"""Notice that files were archived to another destination than the present one.

The rows of the ledger don't say to which bucket they belong, so the ledger remembers since when each destination was in
use. Another address may lead to the same bucket. So this is a notice for users and no doubt about the files. `verify`
ends it once it has found all of them.
"""

from __future__ import annotations

import json
import logging
import math

from ..errors import LedgerError
from ..ledger.history import count_archived_between, newest_archived
from ..ledger.ledger import DESTINATIONS, Ledger
from ..text import count_noun

logger = logging.getLogger("cloud_archive.engine")


def destination_notices(ledger: Ledger, destination: str) -> list[str]:
    """Remember the destination of this session. Return a notice if files were archived while there was another one.

    LedgerError: the ledger can't be read.
    """
    periods = _periods(ledger) or [(destination, 0.0)]
    if periods[-1][0] != destination:
        # Later than every file so far, also if the clock was set back since.
        newest = max((row.archived_at or 0.0 for row in newest_archived(ledger, 1)), default=0.0)
        periods.append((destination, max(ledger.clock(), newest + 0.001)))
    try:
        _remember(ledger, periods)
    except LedgerError as error:
        logger.warning("%s", error)
    ends = [*(since for _, since in periods[1:]), math.inf]
    files, elsewhere = 0, dict[str, None]()  # in the order of time
    for (name, since), until in zip(periods, ends, strict=True):
        if name != destination and (found := count_archived_between(ledger, since, until)):
            files += found
            elsewhere[name] = None
    if not files:
        return []
    notice = (
        f"{count_noun(files, 'file')} that {'counts' if files == 1 else 'count'} as archived may be in another bucket:"
        f" the destination was {', '.join(elsewhere)} before. Run `cloud-archive verify`; if they are missing, `verify"
        " --repair` uploads those that are still on this disk."
    )
    logger.warning("%s", notice)
    return [notice]


def confirm_destination(ledger: Ledger, destination: str) -> None:
    """Record that this destination holds every archived file. No-op if it is not that of the last session."""
    periods = _periods(ledger)
    if periods and periods[-1][0] == destination:
        _remember(ledger, [(destination, 0.0)])


def _periods(ledger: Ledger) -> list[tuple[str, float]]:
    """Return each destination and since when it was in use, in seconds since 1970; oldest first."""
    text = ledger.recall(DESTINATIONS)
    if text is None:
        # An earlier version remembered only the last one.
        last = ledger.recall("destination")
        return [] if last is None else [(last, 0.0)]
    return [(name, since) for name, since in json.loads(text)]


def _remember(ledger: Ledger, periods: list[tuple[str, float]]) -> None:
    text = json.dumps(periods)
    if text != ledger.recall(DESTINATIONS):
        ledger.remember(DESTINATIONS, text)
