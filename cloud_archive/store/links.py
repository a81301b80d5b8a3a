"""Presigned links: anybody who has one can read one object until it expires."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ..errors import StoreError
from .failures import explain

if TYPE_CHECKING:
    from .requests import RequestExecutor

MAX_LINK_SECONDS = 7 * 86_400
"""The longest life of a link (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ShareObjectPreSignedURL.html)."""

_MIN_LINK_SECONDS = 1


class AnswerHeaders(NamedTuple):
    """The headers with which the store answers a link."""

    content_type: str
    content_disposition: str


class PresignedLink(NamedTuple):
    """A link to one object.

    Attributes:
        url: a secret until it expires.
        expires_at: seconds since 1970.
        may_end_early: it ends with the temporary credentials that signed it, and their end is not known.
    """

    url: str
    expires_at: float
    may_end_early: bool = False

    def __repr__(self) -> str:
        return f"PresignedLink(expires_at={self.expires_at!r})"


def presign(
    requests: RequestExecutor, bucket: str, key: str, expires_seconds: float, answer: AnswerHeaders
) -> PresignedLink:
    """See `ObjectStore.presign`."""
    try:
        sdk: Any = requests.client().sdk
        end = credentials_end(sdk)
        seconds = min(expires_seconds, MAX_LINK_SECONDS)
        if end is not None:
            seconds = min(seconds, end - time.time())
        if seconds < _MIN_LINK_SECONDS:
            raise StoreError("GetObject", key, explain("ExpiredToken"))
        # Without this the SDK signs links of most stores with the old version 2, which many refuse.
        sdk.meta.events.register_first(
            "choose-signer.s3.GetObject", _sign_links_with_version_4, "cloud-archive"
        )
        # Last, because the SDK itself fills in here the region to which the store redirected earlier requests.
        sdk.meta.events.register_last(
            "before-endpoint-resolution.s3", _sign_links_for_the_found_region, "cloud-archive-region"
        )
        url = sdk.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": bucket,
                "Key": key,
                "ResponseContentType": answer.content_type,
                "ResponseContentDisposition": answer.content_disposition,
            },
            ExpiresIn=int(seconds),
        )
    except StoreError:
        raise
    except Exception as error:
        raise requests.explained(error, "GetObject", key) from None  # its text may hold a credential
    temporary = "x-amz-security-token=" in url.lower()
    expires_at = expiry_of(url)
    if end is not None:
        expires_at = min(expires_at, end)  # the lifetime was computed before the link was signed
    return PresignedLink(url, expires_at, may_end_early=temporary and end is None)


def credentials_end(sdk: Any) -> float | None:
    """Return when the client's credentials expire, in seconds since 1970; None: never, or it is not known."""
    credentials = getattr(getattr(sdk, "_request_signer", None), "_credentials", None)
    if credentials is None:
        return None
    credentials.get_frozen_credentials()  # renews those of a role that are about to end
    end = getattr(credentials, "_expiry_time", None)
    return end.timestamp() if isinstance(end, datetime) else None


def expiry_of(url: str) -> float:
    """Return when a presigned link expires, in seconds since 1970. ValueError: it is no presigned link."""
    query: Mapping[str, list[str]] = parse_qs(urlsplit(url).query)
    try:
        signed_at = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        return signed_at.timestamp() + int(query["X-Amz-Expires"][0])
    except (KeyError, IndexError):
        raise ValueError("this is no presigned link") from None


def _sign_links_with_version_4(signature_version: Any, **_: object) -> str | None:
    plain = isinstance(signature_version, str) and not signature_version.startswith(("v4a", "v4-s3express"))
    return "s3v4" if plain and signature_version.endswith("-query") else None


def _sign_links_for_the_found_region(
    builtins: Mapping[str, Any], context: dict[str, Any], **_: object
) -> None:
    """Sign links for the region of their address; the SDK signs them for that of the settings, which stores refuse."""
    region = builtins.get("AWS::Region")
    # `aws-global` is the SDK's name for AWS's address without a region; no signature may contain it.
    if context.get("is_presign_request") and region and region != "aws-global":
        context.setdefault("signing", {})["region"] = region
