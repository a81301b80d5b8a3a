"""Ceph with a RADOS Gateway: one monitor, one OSD that keeps everything in memory (memstore)."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from cloud_archive.demo.seaweedfs import free_ports
from tests.real_stores.daemons import daemons, need, package_version, run
from tests.servers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server, listens

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph")
PACKAGES = ("ceph-mon", "ceph-osd", "radosgw", "ceph-common")

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = {address}
auth allow insecure global id reclaim = false
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
mon data = {directory}/mon
osd data = {directory}/osd
log file = {directory}/$name.log
admin socket = {directory}/$name.asok
pid file =
keyring = {directory}/keyring
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1

[osd]
keyring = {directory}/osd/keyring
"""


@contextlib.contextmanager
def running_ceph(directory: Path, *, install: bool = False) -> Iterator[tuple[S3Server, str]]:
    """A Ceph in `directory`; yield its gateway with the version.

    Raises:
        CannotRun: it can't be installed or started.
    """
    need(PROGRAMS, PACKAGES, install=install)
    version = f"Ceph RGW {package_version('radosgw')}"
    first, second, gateway = free_ports(3)
    fsid = str(uuid.uuid4())
    address = f"[v2:127.0.0.1:{first}/0,v1:127.0.0.1:{second}/0]"
    configuration = directory / "ceph.conf"
    with daemons(directory) as started:
        for folder in ("mon", "osd"):
            (directory / folder).mkdir()
        configuration.write_text(_CONFIGURATION.format(fsid=fsid, address=address, directory=directory))
        own = ["-c", str(configuration)]
        monmap = str(directory / "monmap")
        run(["monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap])
        keyring = str(directory / "keyring")
        run(
            [
                "ceph-authtool",
                "--create-keyring",
                keyring,
                "--gen-key",
                "-n",
                "mon.",
                "--cap",
                "mon",
                "allow *",
            ]
        )
        every_right = [word for name in ("mon", "osd", "mgr") for word in ("--cap", name, "allow *")]
        run(["ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *every_right])
        run(["ceph-mon", *own, "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring])
        started.start("mon", ["ceph-mon", *own, "-i", "a", "-f"], lambda: listens(first))
        osd = str(uuid.uuid4())
        number = run(["ceph", *own, "osd", "new", osd])
        rights = ["mon", "allow profile osd", "osd", "allow *"]
        osd_keyring = str(directory / "osd" / "keyring")
        run(["ceph", *own, "auth", "get-or-create", f"osd.{number}", *rights, "-o", osd_keyring])
        run(["ceph-osd", *own, "-i", number, "--mkfs", "--osd-uuid", osd])

        def is_up() -> bool:
            return "1 up" in run(["ceph", *own, "osd", "stat"])

        started.start("osd", ["ceph-osd", *own, "-i", number, "-f"], is_up)
        keys = ["--access-key", ACCESS_KEY_ID, "--secret", SECRET_ACCESS_KEY]
        run(["radosgw-admin", *own, "user", "create", "--uid=archive", "--display-name=archive", *keys])
        started.start(
            "rgw",
            [
                "radosgw",
                *own,
                "-n",
                "client.admin",
                "-f",
                f"--rgw-frontends=beast endpoint=127.0.0.1:{gateway}",
            ],
            lambda: listens(gateway),
        )
        yield S3Server("ceph", f"http://127.0.0.1:{gateway}"), version
