"""The bucket as the first part of a host, on a real store and with the system's look-up of names.

Commands run where /etc/hosts names one host only, so a request to another one fails.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.servers import SEAWEEDFS_DOMAIN, S3Server
from tests.unit.catalog.cataloguing import png

pytestmark = [
    pytest.mark.store,
    pytest.mark.usefixtures("own_state"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount that only one process has"),
]

WITH_HOSTS = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
# Looks up a host, then runs one command for each line: starting Python for each would cost most of the test's time.
COMMANDS = """
import contextlib, io, json, socket, sys
from cloud_archive.cli.app import main
print(socket.gethostbyname(sys.argv[1]), flush=True)
for line in sys.stdin:
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = main(json.loads(line))
    print(json.dumps([status, out.getvalue(), errors.getvalue()]), flush=True)
"""
ODD = "späce +%&=~(1)'.bin"
FILES = {f"fox {number}.png": png(f"a fox, number {number}") for number in range(8)} | {
    ODD: b"odd",
    "film.mp4": os.urandom(20 * 1024 * 1024 + 1),
}


class Machine:
    """Runs commands, in a process that sees only `host` in /etc/hosts, as 127.0.0.1."""

    def __init__(self, directory: Path, host: str, environ: dict[str, str]) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        hosts = directory / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {host}\n")
        self._process = subprocess.Popen(
            [
                "unshare",
                "-Urm",
                "sh",
                "-c",
                WITH_HOSTS,
                "sh",
                str(hosts),
                sys.executable,
                "-c",
                COMMANDS,
                host,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=plain | environ,
        )
        assert self._process.stdout is not None
        self._answers = self._process.stdout
        found = self._answers.readline().strip()
        if found != "127.0.0.1":
            self.close()
            pytest.skip("no mounts, or /etc/hosts is not used here")

    def command(self, *arguments: str | Path) -> tuple[str, str]:
        """Run a command that must succeed. Returns (standard output, standard error)."""
        assert self._process.stdin is not None
        print(json.dumps([str(argument) for argument in arguments]), file=self._process.stdin, flush=True)
        status, out, errors = json.loads(self._answers.readline())
        assert status == 0, (out, errors)
        return out, errors

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.command(*arguments, "--json")[0].splitlines()[-1])

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


def get(url: str) -> bytes:
    """Return what a link gives; its host is taken for 127.0.0.1."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection("127.0.0.1", parts.port or 80, timeout=60)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Host": parts.netloc})
        with connection.getresponse() as answer:
            assert answer.status == 200, answer.read()
            return answer.read()


@pytest.mark.parametrize(
    ("style", "checksum", "endpoint_host", "host"),
    [
        ("virtual", "auto", SEAWEEDFS_DOMAIN, "{bucket}." + SEAWEEDFS_DOMAIN),
        ("virtual", "md5", SEAWEEDFS_DOMAIN, "{bucket}." + SEAWEEDFS_DOMAIN),
        ("auto", "auto", "{bucket}." + SEAWEEDFS_DOMAIN, SEAWEEDFS_DOMAIN),
    ],
)
def test_files_are_archived_listed_and_shared(
    seaweedfs: S3Server, tmp_path: Path, root: Path, style: str, checksum: str, endpoint_host: str, host: str
) -> None:
    port = urlsplit(seaweedfs.endpoint).port
    host = host.format(bucket=seaweedfs.bucket)
    environ = seaweedfs.environ(
        S3_ENDPOINT_URL=f"http://{endpoint_host.format(bucket=seaweedfs.bucket)}:{port}",
        S3_ADDRESSING_STYLE=style,
        S3_CHECKSUM=checksum,
        S3_PREFIX="out",
        CLOUD_ARCHIVE_SETTLE_SECONDS="0.2",
        CLOUD_ARCHIVE_STATE_DIR=str(tmp_path / "state"),
    )
    for name, body in FILES.items():
        (root / name).write_bytes(body)

    with closing(Machine(tmp_path, host, environ)) as machine:
        assert [step for step in machine.json("check") if not step["ok"]] == []
        out, errors = machine.command("watch", root, "--once")
        assert out.splitlines()[-1] == f"Complete: {len(FILES)}/{len(FILES)}"
        assert "WARNING" not in errors
        # With md5, libcurl is never asked.
        assert "Small uploads go through the SDK" not in errors, "libcurl failed"
        check_object = {"out/.cloud-archive/check": seaweedfs.read("out/.cloud-archive/check")}
        assert seaweedfs.differing({f"out/{name}": body for name, body in FILES.items()} | check_object) == []
        assert seaweedfs.keys("out/.cloud-archive/v1/segments/")

        assert machine.json("verify", root)["sound"]
        assert machine.json("verify", root, "--deep")["sound"]
        names = (ODD, "film.mp4")
        links = machine.json("share", *(f"out/{name}" for name in names), "--dir", root)["links"]
        for name, link in zip(names, links, strict=True):
            assert urlsplit(link["url"]).netloc == f"{host}:{port}"
            assert get(link["url"]) == FILES[name]
