"""Archive files through endpoint URLs as consoles show them: with the bucket, and with a base path."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.config.settings import load_settings
from cloud_archive.maintenance.check import has_no_failure, run_check
from cloud_archive.store.s3 import S3Store
from tests.quirks.server import Answer, Forward, Profile, QuirkServer, Request, error
from tests.servers import S3Server

pytestmark = pytest.mark.store

BASE = "/storage/v1/s3"


class BasePath(Profile):
    """A store below a base path, as Supabase's; it accepts a request only if the signature covers the whole path."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self.agents: list[str] = []

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if not request.target.startswith(f"{BASE}/"):
            return error(404, "NoSuchBucket", f"nothing at {request.target}")
        if not self._is_signed(request):
            return error(403, "SignatureDoesNotMatch", "the signature is of another path")
        self.agents.append(request.headers["User-Agent"])
        request.target = request.target.removeprefix(BASE)
        return await forward(request)

    def _is_signed(self, request: Request) -> bool:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=[^/]+/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?"
            r"Signature=(\w+)",
            request.headers["Authorization"],
        )
        assert found is not None
        day, region, names, signature = found.groups()
        path, _, query = request.target.partition("?")
        pairs = sorted(pair if "=" in pair else f"{pair}=" for pair in query.split("&") if pair)
        headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names.split(";"))
        body = request.headers["X-Amz-Content-SHA256"]
        canonical = f"{request.method}\n{path}\n{'&'.join(pairs)}\n{headers}\n{names}\n{body}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{request.headers['X-Amz-Date']}\n{day}/{region}/s3/aws4_request\n{digest}"
        key = f"AWS4{self._secret}".encode()
        for part in (day, region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == signature


def archive(root: Path, state: Path, environ: dict[str, str], files: dict[str, bytes]) -> Engine:
    """Archive `files` one after the other with one engine; return the closed engine."""
    engine = Engine(root, state_base=state, environ=environ | {"CLOUD_ARCHIVE_SETTLE_SECONDS": "0.1"})
    engine.start(autostart=True)
    try:
        for name, body in files.items():
            (root / name).write_bytes(body)
            assert engine.upload(name, 60).http_status == 200, engine.status().to_json()
    finally:
        engine.close(60)
    return engine


def test_a_base_path_works_from_check_to_the_fast_put(
    seaweedfs: S3Server, root: Path, tmp_path: Path
) -> None:
    profile = BasePath(seaweedfs.secret_access_key)
    with QuirkServer(seaweedfs, profile) as server:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=server.url + BASE, S3_PREFIX="out")
        steps = run_check(lambda: load_settings(environ))
        assert has_no_failure(steps), [step for step in steps if step.ok is False]
        files = {"a b+c.png": b"1", "ü.png": b"2", "c.png": b"3", "large.mp4": bytes(9 * 1024 * 1024)}
        archive(root, tmp_path / "state", environ, files)
        store = S3Store(load_settings(environ))
        assert b"".join(store.read("out/c.png", 1)) == b"3"
        sha256 = hashlib.sha256(b"4").hexdigest()
        for name in ("x", "y"):
            store.put(name, b"4", sha256=sha256, content_type="image/png", metadata={}, create_only=True)
        fast = store._requests.fast.client()
        assert fast is not None
        assert fast.address.base == f"{BASE}/{seaweedfs.bucket}/"
        store.close()
    assert all(status < 300 or status in (404, 412) for _, _, status in server.log)
    found = seaweedfs.objects("out/")
    assert {key: body for key, body in found.items() if "check" not in key} == {
        f"out/{name}": body for name, body in files.items()
    }


@pytest.mark.parametrize(
    "endpoint",
    [lambda url, bucket: f"{url}/{bucket}", lambda url, bucket: f'"{url}/{bucket}/"'],
    ids=["bucket", "in quotes"],
)
def test_the_bucket_in_the_endpoint_is_removed_and_reported_once(
    seaweedfs: S3Server,
    root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    endpoint: Callable[[str, str], str],
) -> None:
    environ = seaweedfs.environ(
        S3_ENDPOINT_URL=endpoint(seaweedfs.endpoint, seaweedfs.bucket), S3_PREFIX="out"
    )
    with caplog.at_level(logging.INFO, logger="cloud_archive"):
        engine = archive(root, tmp_path / "state", environ, {"a.png": b"1"})
    assert seaweedfs.read("out/a.png") == b"1"
    said = f"The endpoint's URL names the bucket {seaweedfs.bucket}; {seaweedfs.endpoint} is used as S3_ENDPOINT_URL."
    assert [record.getMessage() for record in caplog.records].count(said) == 1
    assert engine.status().errors == ()
    settings_step = run_check(lambda: load_settings(environ))[0]
    assert settings_step.ok
    assert said in settings_step.cause
    assert urlsplit(seaweedfs.endpoint).netloc in settings_step.cause
