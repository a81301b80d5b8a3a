"""Check what a ZIP of assets asks for.

This module is loaded into ComfyUI's process: standard library only.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ..errors import RequestRefused

MAX_IN_ZIP = 200


def zip_arguments(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the ids of a ZIP. RequestRefused: 400, there are none, too many, or one is not an id."""
    texts = [text for text in query.get("ids", "").split(",") if text.strip()]
    if not 1 <= len(texts) <= MAX_IN_ZIP:
        raise RequestRefused(400, f"ids must be 1 to {MAX_IN_ZIP} ids of assets, separated by commas.")
    try:
        ids = [str(uuid.UUID(text.strip())) for text in texts]
    except ValueError:
        raise RequestRefused(400, "ids must be ids of assets: UUIDs, separated by commas.") from None
    return {"ids": ",".join(dict.fromkeys(ids))}
