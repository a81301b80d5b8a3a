"""OpenStack Swift with its s3api and tempauth: one device, one replica."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cloud_archive.demo.seaweedfs import free_ports
from tests.real_stores.daemons import daemons, need, package_version, run
from tests.servers import SECRET_ACCESS_KEY, S3Server, listens

SERVERS = ("account", "container", "object")
PROGRAMS = (
    "swift-ring-builder",
    "swift-proxy-server",
    *(f"swift-{name}-server" for name in SERVERS),
    "memcached",
)
PACKAGES = ("swift-proxy", "swift-account", "swift-container", "swift-object", "memcached")
REGION = "us-east-1"

_SWIFT = "[swift-hash]\nswift_hash_path_suffix = archive\nswift_hash_path_prefix = archive\n"
_SERVER = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {directory}
devices = {directory}/devices
mount_check = false
user = root
workers = 1
disable_fallocate = true
log_name = {name}
log_level = WARNING
recon_cache_path = {directory}

[pipeline:main]
pipeline = {name}-server

[app:{name}-server]
use = egg:swift#{name}

[object-updater]
interval = 2
recon_cache_path = {directory}
"""
_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {directory}
user = root
workers = 2
log_name = proxy
log_level = WARNING

[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth slo dlo versioned_writes proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 5
node_timeout = 30

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{cache}

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:s3api]
use = egg:swift#s3api
location = {region}
force_swift_request_proxy_log = false

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin

[filter:slo]
use = egg:swift#slo

[filter:dlo]
use = egg:swift#dlo

[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
"""


@contextlib.contextmanager
def running_swift(directory: Path, *, install: bool = False) -> Iterator[tuple[S3Server, str]]:
    """A Swift in `directory`; yield its s3api with the version.

    Raises:
        CannotRun: it can't be installed or started.
    """
    need(PROGRAMS, PACKAGES, install=install)
    version = f"OpenStack Swift {package_version('swift-proxy')}"
    *ports, proxy, cache = free_ports(len(SERVERS) + 2)
    with daemons(directory) as started:
        (directory / "devices" / "d1").mkdir(parents=True)
        (directory / "swift.conf").write_text(_SWIFT)
        started.start(
            "memcached",
            ["memcached", "-l", "127.0.0.1", "-p", str(cache), "-u", "root"],
            lambda: listens(cache),
        )
        for name, port in zip(SERVERS, ports, strict=True):
            ring = str(directory / f"{name}.builder")
            run(["swift-ring-builder", ring, "create", "4", "1", "1"])
            run(["swift-ring-builder", ring, "add", f"r1z1-127.0.0.1:{port}/d1", "1"])
            run(["swift-ring-builder", ring, "rebalance"])
            file = directory / f"{name}-server.conf"
            file.write_text(_SERVER.format(port=port, name=name, directory=directory))
            started.start(name, [f"swift-{name}-server", str(file)], lambda port=port: listens(port))  # type: ignore[misc]
        started.start(
            "object-updater",
            ["swift-object-updater", str(directory / "object-server.conf")],
            lambda: True,
        )
        file = directory / "proxy-server.conf"
        file.write_text(
            _PROXY.format(
                port=proxy, directory=directory, cache=cache, secret=SECRET_ACCESS_KEY, region=REGION
            )
        )
        started.start("proxy", ["swift-proxy-server", str(file)], lambda: listens(proxy))
        yield S3Server("swift", f"http://127.0.0.1:{proxy}", access_key_id="test:tester"), version
