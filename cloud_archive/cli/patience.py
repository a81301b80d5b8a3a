"""How long a command waits for a store. The daemon waits without a limit."""

from __future__ import annotations

from ..archive.gate import Closed

GIVE_UP_SECONDS = 60.0  # without a file archived, a byte sent further than before, or a file that still grows
REFUSALS = 2  # in a row, of a kind that waiting does not cure


class Refusals:
    """Counts refusals that last. One after a store that was away proves nothing: it may be just starting."""

    def __init__(self) -> None:
        self._first: int | None = None

    def are_final(self, closed: Closed | None) -> bool:
        """Return whether `REFUSALS` came in a row. Call it again and again with the gate as it is."""
        if closed is None or closed.failure.transient:
            self._first = None
            return False
        if self._first is None or closed.refusals < self._first:
            self._first = closed.refusals
        return closed.refusals - self._first + 1 >= REFUSALS
