"""Finish an earlier `prune` that was killed, before a command uses the ledger."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..terminal import print_error
from ..text import make_printable

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..ledger.ledger import Ledger
    from ..store.base import ObjectStore


def finish_prune(settings: Settings, ledger: Ledger, store: ObjectStore, *, holds_lock: bool = False) -> None:
    """Find out what a killed `prune` has deleted, and record it. If that is not possible, print why.

    Args:
        holds_lock: the caller holds `prune_lock`.

    Raises:
        LedgerError: the ledger can't be read or written.
    """
    from ..catalog.bucket.tombstones import record_deletions
    from ..maintenance.interrupted_prune import finish_interrupted_prune

    cause = ""
    try:
        if not finish_interrupted_prune(
            ledger,
            store,
            partial(record_deletions, settings, store),
            destination=settings.destination,
            holds_lock=holds_lock,
        ):
            cause = "The store does not say which objects are there: allow s3:ListBucket to this access key."
    except StoreError as error:
        cause = str(error)
    if cause:
        print_error(
            make_printable(f"What an earlier, interrupted prune has deleted could not be found out. {cause}")
        )
