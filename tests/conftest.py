"""Fixtures for all tests. The S3 servers run once a session; each test gets a fresh bucket on them."""

from __future__ import annotations

import gc
import logging
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

from cloud_archive import files
from cloud_archive.archive import pipeline
from tests.memory_store import Hanging
from tests.sdk_data import read_sdk_data_once
from tests.servers import S3Server, make_certificate, running_moto, running_rclone, running_seaweedfs

# Tests leave little garbage. Looking for it after each 700 new objects, as Python does, takes 4 to 13 % of their CPU.
gc.set_threshold(10_000)

# The same examples in each run, so that a green test stays green; `--hypothesis-profile=default` draws new ones.
hypothesis.settings.register_profile(
    "suite",
    derandomize=True,
    database=None,
    deadline=None,  # a busy machine needs longer than the 200 ms of the default
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Let garbage collections not examine what was loaded: it stays to the end."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _sdk_data() -> None:
    read_sdk_data_once()


@pytest.fixture(scope="session", autouse=True)
def _short_keeper_pause() -> None:
    """Let engines of this process look for due retries and lost directories every 0.2 s instead of every 2 s."""
    pipeline.KEEPER_SECONDS = 0.2


@pytest.fixture(autouse=True)
def _log_levels_of_before() -> Iterator[None]:
    """Undo the log levels that a command sets, which would change what later tests see."""
    loggers = [logging.getLogger(), logging.getLogger("cloud_archive")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hide the settings, the AWS account and the archives of the user who runs the tests."""
    import os

    for name in list(os.environ):
        if name.startswith(("S3_", "R2_", "AWS_", "CLOUD_ARCHIVE_")) and name != "CLOUD_ARCHIVE_REQUIRE_ALL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state-home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", str(path)).casefold())


@pytest.fixture
def hang() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.end()


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """`real_path` takes two names that differ only in case or Unicode form for one file, as on APFS."""
    monkeypatch.setattr(files, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(Path, "samefile", lambda one, other: _folded(one) == _folded(other))


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give commands a state directory of this test's own, and no default watched directory."""
    monkeypatch.delenv("COMFYUI_OUTPUT_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A watched directory, empty."""
    directory = tmp_path / "output"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def seaweedfs_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def seaweedfs(seaweedfs_session: S3Server) -> S3Server:
    """SeaweedFS with a fresh bucket. A test that stops or pauses it takes `own_seaweedfs` instead."""
    return seaweedfs_session.with_fresh_bucket()


@pytest.fixture
def rclone_s3(rclone_session: S3Server) -> S3Server:
    """`rclone serve s3` with a fresh bucket."""
    return rclone_session.with_fresh_bucket()


@pytest.fixture
def moto_s3(moto_session: S3Server) -> S3Server:
    """moto with a fresh bucket."""
    return moto_session.with_fresh_bucket()


@pytest.fixture(scope="session")
def own_seaweedfs_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_seaweedfs(tmp_path_factory.mktemp("own-seaweedfs")) as server:
        yield server


@pytest.fixture
def own_seaweedfs(own_seaweedfs_session: S3Server) -> S3Server:
    """A SeaweedFS that a test may stop, pause and restart, with a fresh bucket; it runs when the test begins."""
    assert own_seaweedfs_session.embedded is not None
    own_seaweedfs_session.embedded.start()
    if sys.platform != "win32":
        own_seaweedfs_session.embedded.resume()
    return own_seaweedfs_session.with_fresh_bucket()


@pytest.fixture(params=["seaweedfs", "rclone_s3", "moto_s3"])
def any_s3(request: pytest.FixtureRequest) -> S3Server:
    """Each of the three servers in turn, with a fresh bucket."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, S3Server)
    return server


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """PEM files of a self-signed certificate for 127.0.0.1, localhost and store.example: (certificate, key)."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def tls_seaweedfs_session(
    tmp_path_factory: pytest.TempPathFactory, self_signed: tuple[Path, Path]
) -> Iterator[S3Server]:
    directory = tmp_path_factory.mktemp("seaweedfs-tls")
    with running_seaweedfs(directory, certificate=self_signed, ca_bundle=self_signed[0]) as server:
        yield server


@pytest.fixture
def tls_seaweedfs(tls_seaweedfs_session: S3Server) -> S3Server:
    """SeaweedFS behind TLS with a certificate of its own; `environ()` names it as S3_CA_BUNDLE."""
    return tls_seaweedfs_session.with_fresh_bucket()
