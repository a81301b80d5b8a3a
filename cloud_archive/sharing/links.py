"""Make links to archived files."""

from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import quote

from ..store.base import ObjectStore
from ..store.links import MAX_LINK_SECONDS, AnswerHeaders, PresignedLink

DEFAULT_LINK_SECONDS = MAX_LINK_SECONDS
LONGEST = "A link lasts 7 days at the most: that is the limit of the store's signatures."
MAY_END_EARLY = (
    "The links may expire earlier, with the temporary credentials (S3_SESSION_TOKEN) that signed them."
)
NOT_READABLE = (
    "This access key may not read objects, so the store may refuse these links: allow s3:GetObject."
)


def content_disposition(name: str, mime_type: str) -> str:
    """Return a `Content-Disposition`: browsers show pictures, video and audio, but save XML (SVG) and all other files.

    XML of any type may hold a script. Another machine's row in the catalog may write `image/SVG+xml`.
    """
    kind = mime_type.lower()
    shown = kind.startswith(("image/", "video/", "audio/")) and not kind.endswith("+xml")
    quoted = quote(name.encode("utf-8", "replace"), safe="")
    return f"{'inline' if shown else 'attachment'}; filename*=UTF-8''{quoted}"


def make_link(
    store: ObjectStore, key: str, name: str, mime_type: str | None, seconds: float
) -> PresignedLink:
    """Return a link to an object; a browser gets the object under `name` and with this type.

    Args:
        seconds: how long the link lasts; 7 days at most.

    Raises:
        StoreError: it can't be signed.
    """
    mime_type = mime_type or "application/octet-stream"
    answer = AnswerHeaders(mime_type, content_disposition(name, mime_type))
    return store.presign(key, seconds, answer)


def link_json(link: PresignedLink) -> dict[str, str]:
    """Return `url` and `expires_at` of a link."""
    return {"url": link.url, "expires_at": utc_seconds(link.expires_at)}


def utc_seconds(moment: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, without fractions.

    >>> utc_seconds(1_775_046_896.9)
    '2026-04-01T12:34:56Z'
    """
    return datetime.fromtimestamp(int(moment), timezone.utc).isoformat().replace("+00:00", "Z")
