"""The configuration of SeaweedFS: its command line, keys and rights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair with its rights.

    Attributes:
        actions: S3 actions, such as `s3:PutObject` (which covers multipart uploads, but not HEAD).
        bucket: the bucket that the rights apply to; `*` = every bucket.
    """

    name: str
    access_key_id: str
    secret_access_key: str
    actions: tuple[str, ...]
    bucket: str = "*"

    @property
    def policy(self) -> dict[str, object]:
        """The rights as an AWS policy document."""
        resources = [f"arn:aws:s3:::{self.bucket}", f"arn:aws:s3:::{self.bucket}/*"]
        statement = {"Effect": "Allow", "Action": list(self.actions), "Resource": resources}
        return {"Version": "2012-10-17", "Statement": [statement]}

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, actions={self.actions!r})"


def weed_arguments(
    ports: Mapping[str, int], bucket: str, certificate: tuple[Path, Path] | None, domain: str | None
) -> list[str]:
    """Return the arguments of `weed`.

    Args:
        ports: the port of each service.
        certificate: PEM files (certificate, key) for TLS on the S3 port; None = no TLS.
        domain: a request to the host `BUCKET.DOMAIN` has no bucket in its path; None = every request has.
    """
    options = {
        "dir": "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "bucket": bucket,
        "s3.config": "s3.json",
        "master.port": ports["master"],
        "master.port.grpc": ports["master.grpc"],
        # Nothing leaves this machine.
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 10_000,  # a PUT that finds its volume full waits a second for the next one
        "filer.port": ports["filer"],
        "filer.port.grpc": ports["filer.grpc"],
        "volume.port": ports["volume"],
        "volume.port.grpc": ports["volume.grpc"],
        # By default it depends on the free disk, and a few buckets use up all volumes of a small disk.
        "volume.max": 10_000,
        "volume.preStopSeconds": 0,
        "s3.port": ports["s3"],
        "s3.port.grpc": ports["s3.grpc"],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "admin.port": ports["admin"],
        "admin.port.grpc": ports["admin.grpc"],
        "admin.ui": "false",
        "webdav": "false",
    }
    if domain is not None:
        options["s3.domainName"] = domain
    if certificate is not None:
        certificate_file, key_file = certificate
        options["s3.cert.file"] = str(certificate_file.resolve())
        options["s3.key.file"] = str(key_file.resolve())
        options["s3.port.https"] = ports["s3.https"]
    return ["-logtostderr", "mini", *(f"-{name}={value}" for name, value in options.items())]


def s3_configuration(admin: Identity, others: Sequence[Identity]) -> dict[str, object]:
    """Return the content of the S3 gateway's configuration file.

    Args:
        admin: may do everything.
        others: have the rights of their policies.
    """
    identities: list[dict[str, object]] = [
        {"name": admin.name, "credentials": [_credentials(admin)], "actions": ["Admin"]}
    ]
    identities += [
        {"name": other.name, "credentials": [_credentials(other)], "policyNames": [other.name]}
        for other in others
    ]
    policies = [{"name": other.name, "content": json.dumps(other.policy)} for other in others]
    return {"identities": identities, "policies": policies}


def _credentials(identity: Identity) -> dict[str, str]:
    return {"accessKey": identity.access_key_id, "secretKey": identity.secret_access_key}
