"""Find out where a bucket's objects are: the base of their URLs, and the region that signatures name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from .aws_session import isolated_session

if TYPE_CHECKING:
    from ..config.settings import Settings

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/\d{8}/([^/,]+)/s3/aws4_request,")
# Regions whose addresses end in amazonaws.com; the SDK knows those of China and of government clouds.
_COMMON_REGION = re.compile(r"(?:us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-[0-9]")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, but without dots, because
# AWS's certificate covers one label.
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class Address(NamedTuple):
    """Where the objects of one bucket are.

    Attributes:
        base: the URL's path before the key, with its last slash.
    """

    scheme: str
    host: str
    base: str
    region: str

    @classmethod
    def of_request(cls, url: str, authorization: str, key: str) -> Address | None:
        """Return the address that a request for `key` went to; None: its signature or URL has an unknown form."""
        signed = _CREDENTIAL.match(authorization)
        parts = urlsplit(url)
        path = quote(key, safe="/-_.~")
        if signed is None or parts.scheme not in ("http", "https") or not parts.path.endswith(f"/{path}"):
            return None
        return cls(parts.scheme, parts.netloc, parts.path[: -len(path)], signed[1])

    @classmethod
    def of_settings(cls, settings: Settings) -> Address | None:
        """Return the address that the settings give; None if only the SDK can find it."""
        style, bucket = addressing_style(settings), settings.bucket
        if settings.endpoint_url is None:
            if not _COMMON_REGION.fullmatch(settings.region):
                return None
            scheme, host, folder = "https", f"s3.{settings.region}.amazonaws.com", "/"
        else:
            parts = urlsplit(settings.endpoint_url)
            scheme, host, folder = parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/"
        can_be_label = _HOST_LABEL.fullmatch(bucket) is not None
        if style == "auto" and settings.endpoint_url is None and can_be_label:
            style = "virtual"
        if style == "virtual":
            if not can_be_label or _is_ip_address(host):
                return None
            return cls(scheme, f"{bucket}.{host}", folder, settings.region)
        return cls(scheme, host, f"{folder}{bucket}/", settings.region)

    @property
    def url(self) -> str:
        """The URL before the key, without its last slash."""
        return f"{self.scheme}://{self.host}{self.base.rstrip('/')}"


def addressing_style(settings: Settings) -> str:
    """Return `path`, `virtual` or (AWS only) `auto`.

    Off AWS `auto` becomes `path`, which also works on IP addresses, on localhost and with certificates for the host's
    name only. Alibaba accepts only `virtual`:
    https://www.alibabacloud.com/help/en/oss/developer-reference/compatibility-with-amazon-s3
    """
    if settings.addressing_style in ("path", "virtual"):
        return str(settings.addressing_style)
    if _is_alibaba(settings.endpoint_url):
        return "virtual"
    return "auto" if settings.is_aws else "path"


def aws_endpoint(region: str) -> str:
    """Return the URL of AWS's S3 in a region. Loads the SDK, which knows the domains of China and of others."""
    return str(isolated_session().create_client("s3", region_name=region).meta.endpoint_url)


def _is_ip_address(host: str) -> bool:
    """Return whether this is an IP address, perhaps with a port."""
    try:
        ipaddress.ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
    return True


def _is_alibaba(endpoint_url: str | None) -> bool:
    host = urlsplit(endpoint_url or "").hostname or ""
    return host.rstrip(".").endswith(".aliyuncs.com")


def forbid_overwrite_handler(endpoint_url: str | None) -> Callable[..., None] | None:
    """Return a handler that adds the store's own header to create-only writes; None if no such header is used.

    Alibaba has such a header (https://help.aliyun.com/en/oss/user-guide/0026-00000002). Google has one too, but refuses
    it together with the x-amz-* headers of every request here ("Requests cannot specify both x-amz and x-goog
    headers", https://github.com/carrierwaveuploader/carrierwave/pull/2356).
    """
    if not _is_alibaba(endpoint_url):
        return None

    def add(params: dict[str, Any], **_: object) -> None:
        if "If-None-Match" in params["headers"]:
            params["headers"]["x-oss-forbid-overwrite"] = "true"

    return add
