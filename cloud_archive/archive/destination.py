"""Notice that files were archived to another destination than the present one.

The rows of the ledger don't say to which bucket they belong, and another address may lead to the same bucket. So this
is a notice for users and no doubt about the files. `verify` ends it once it has found all of them.
"""

from __future__ import annotations

import json
import logging

from ..errors import LedgerError
from ..ledger.history import count_archived_between
from ..ledger.ledger import EARLIER_DESTINATION, LAST_DESTINATION, Ledger
from ..text import count_noun

logger = logging.getLogger("cloud_archive.engine")


def destination_notices(ledger: Ledger, destination: str) -> list[str]:
    """Remember the destination of this session. Return a notice if files were archived while there was another one.

    LedgerError: the ledger can't be read.
    """
    before, text = ledger.recall(LAST_DESTINATION), ledger.recall(EARLIER_DESTINATION)
    earlier = json.loads(text) if text else None
    if before is not None and before != destination:
        # Back at the one before, only what was archived since then is elsewhere.
        since = earlier["until"] if earlier is not None and earlier["name"] == destination else 0.0
        earlier = {"name": before, "since": since, "until": ledger.clock()}
    files = 0 if earlier is None else count_archived_between(ledger, earlier["since"], earlier["until"])
    try:
        # In this order, so that a kill in between loses no notice.
        if (known := json.dumps(earlier) if files else None) != text:
            ledger.remember(EARLIER_DESTINATION, known)
        if before != destination:
            ledger.remember(LAST_DESTINATION, destination)
    except LedgerError as error:
        logger.warning("%s", error)
    if earlier is None or not files:
        return []
    notice = (
        f"{count_noun(files, 'file')} that {'counts' if files == 1 else 'count'} as archived may be in another bucket:"
        f" the destination was {earlier['name']} before. Run `cloud-archive verify`; if they are missing, `verify"
        " --repair` uploads those that are still on this disk."
    )
    logger.warning("%s", notice)
    return [notice]
