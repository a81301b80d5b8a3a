"""The orders that the plugin sends to the engine that it starts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

ORPHAN_SECONDS = 600.0  # the default of `Orders.orphan_seconds`


@dataclass(frozen=True, slots=True)
class Orders:
    """One JSON line on standard input.

    Attributes:
        token: every call to the engine must be signed with it.
        state_base: see `Ownership`.
        orphan_seconds: how long the engine continues to upload after its parent has ended.
        autostart: whether to start watching; None = as CLOUD_ARCHIVE_AUTOSTART says.
        started_at: when ComfyUI started, in seconds since 1970; None = not known.
    """

    token: str = field(repr=False)
    root: str
    state_base: str | None
    orphan_seconds: float = ORPHAN_SECONDS
    autostart: bool | None = None
    started_at: float | None = None

    @classmethod
    def parse(cls, line: str) -> Orders:
        """Return the orders from a JSON line. Raises ValueError if it is invalid."""
        fields: Any = json.loads(line)
        if not isinstance(fields, dict):
            raise ValueError("orders must be a JSON object")
        try:
            return cls(
                token=str(fields["token"]),
                root=str(fields["root"]),
                state_base=fields.get("state_base"),
                orphan_seconds=float(fields.get("orphan_seconds", ORPHAN_SECONDS)),
                autostart=fields.get("autostart"),
                started_at=fields.get("started_at"),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"orders without {error}") from None
