"""Plain boto3 without retries, independent of the archive's store code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.servers import S3Server


def plain_client(
    url: str,
    server: S3Server,
    *,
    read_timeout: float = 60,
    connect_timeout: float = 60,
    region: str = "us-east-1",
    checksums: bool = False,
) -> S3Client:
    """Return a client for `url` with the credentials of `server`; the caller closes it.

    Args:
        read_timeout, connect_timeout: in seconds.
        checksums: True keeps boto3's default of CRC headers on every upload; False is `when_required`.
    """
    config = Config(
        retries={"total_max_attempts": 1},
        read_timeout=read_timeout,
        connect_timeout=connect_timeout,
        s3={"addressing_style": "path"},
        proxies={},
        request_checksum_calculation="when_supported" if checksums else "when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        region_name=region,
        config=config,
    )
