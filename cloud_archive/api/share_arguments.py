"""Check the arguments of `POST /cloud-sync/share`. Loaded into ComfyUI's process: standard library only."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any

from ..errors import RequestRefused
from .checks import flag, number_or_nan

MAX_SHARED = 500
DEFAULT_SECONDS = 7 * 86_400.0  # how long links last
MAX_STRIPPED = 100  # a call answers only when the copy of each is written and proven
MAX_TITLE_CHARACTERS = 200
_KNOWN = ("ids", "expires_seconds", "strip_metadata", "album", "with_prompts")


def share_arguments(body: Mapping[str, object]) -> dict[str, Any]:
    """Return the checked arguments of a body. RequestRefused: 400, names what is wrong."""
    if unknown := set(body) - set(_KNOWN):
        raise RequestRefused(400, f"{min(unknown)} is unknown: {', '.join(_KNOWN)} are known.")
    strip, with_prompts = flag(body, "strip_metadata"), flag(body, "with_prompts")
    album = body.get("album")
    if album is not None and (
        not isinstance(album, str) or not album.strip() or len(album) > MAX_TITLE_CHARACTERS
    ):
        raise RequestRefused(400, f"album must be a title of 1 to {MAX_TITLE_CHARACTERS} characters.")
    ids = _ids(body.get("ids"))
    if strip and len(ids) > MAX_STRIPPED:
        raise RequestRefused(400, f"Up to {MAX_STRIPPED} files can be shared without metadata in one call.")
    return {
        "ids": ids,
        "expires_seconds": _seconds(body.get("expires_seconds")),
        "strip_metadata": strip,
        "album": album.strip() if isinstance(album, str) else None,
        "with_prompts": with_prompts,
    }


def _ids(ids: object) -> list[str]:
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_SHARED:
        raise RequestRefused(400, f"ids must be a list of 1 to {MAX_SHARED} ids of assets.")
    asset_ids = []
    for asset_id in ids:
        try:
            asset_ids.append(str(uuid.UUID(asset_id)))
        except (ValueError, TypeError, AttributeError):
            raise RequestRefused(400, "Each entry of ids must be the id of an asset, a UUID.") from None
    return list(dict.fromkeys(asset_ids))


def _seconds(given: object) -> float:
    if given is None:
        return DEFAULT_SECONDS
    seconds = number_or_nan(given)
    if 1 <= seconds < math.inf:  # false for NaN
        return seconds
    raise RequestRefused(400, "expires_seconds must be a number of seconds, 1 or more.")
