"""The checks of what `POST /cloud-sync/share` asks for.

This module is loaded into ComfyUI's process: standard library only.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any

from ..errors import RequestRefused

MAX_SHARED = 500
DEFAULT_SECONDS = 7 * 86_400.0
_KNOWN = ("ids", "expires_seconds")


def share_arguments(body: Mapping[str, object]) -> dict[str, Any]:
    """Return the arguments of a body. RequestRefused: 400, names what is wrong."""
    if unknown := set(body) - set(_KNOWN):
        raise RequestRefused(400, f"{min(unknown)} is unknown: {', '.join(_KNOWN)} are known.")
    return {"ids": _ids(body.get("ids")), "expires_seconds": _seconds(body.get("expires_seconds"))}


def _ids(ids: object) -> list[str]:
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_SHARED:
        raise RequestRefused(400, f"ids must be a list of 1 to {MAX_SHARED} ids of assets.")
    found = []
    for identity in ids:
        try:
            found.append(str(uuid.UUID(identity)))
        except (ValueError, TypeError, AttributeError):
            raise RequestRefused(400, "Each of ids must be the id of an asset, a UUID.") from None
    return list(dict.fromkeys(found))


def _seconds(seconds: object) -> float:
    if seconds is None:
        return DEFAULT_SECONDS
    # bool is a number to Python, and json.loads reads NaN and Infinity.
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        seconds = 0
    if seconds < 1:
        raise RequestRefused(400, "expires_seconds must be a number of seconds, 1 or more.")
    return float(seconds)
