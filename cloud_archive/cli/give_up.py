"""When a command gives up on a store. The daemon never does."""

from __future__ import annotations

from ..archive.gate import Closed

GIVE_UP_SECONDS = 60.0  # without progress: no file is archived, nothing is sent, and no file still grows
REFUSALS = 2  # in a row, of a kind that waiting does not cure


class Refusals:
    """Counts refusals in a row. One alone proves nothing: the store may have been away and be just starting."""

    def __init__(self) -> None:
        self._first: int | None = None

    def are_final(self, closed: Closed | None) -> bool:
        """Return whether `REFUSALS` came in a row. Call it repeatedly with the state of the gate; None: it is open."""
        if closed is None or closed.failure.transient:
            self._first = None
            return False
        if self._first is None or closed.refusals < self._first:
            self._first = closed.refusals
        return closed.refusals - self._first + 1 >= REFUSALS
