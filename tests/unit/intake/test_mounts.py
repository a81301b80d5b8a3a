"""Changes of the mounts are noticed by one system call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cloud_archive.intake.mounts import ASSUMED_CHANGE_SECONDS, MountEvents

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")

MOUNTED = """
import subprocess, sys
from cloud_archive.intake.mounts import MountEvents
events = MountEvents()
events.changed()
found = [events.changed()]
for command in (["mount", "-t", "tmpfs", "none", sys.argv[1]], ["umount", "-l", sys.argv[1]]):
    subprocess.run(command, check=True)
    found += [events.changed(), events.changed()]
print(found)
"""


def test_a_mount_and_an_unmount_are_noticed_once(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", MOUNTED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    if "unshare" in done.stderr or "'mount'" in done.stderr:
        pytest.skip("no mounts here")
    assert done.stdout.strip() == str([False, True, False, True, False]), done.stderr


def test_without_an_event_the_list_is_read_once_a_minute() -> None:
    now = [0.0]
    events = MountEvents(clock=lambda: now[0])
    try:
        assert events.changed()
        now[0] = ASSUMED_CHANGE_SECONDS - 1
        assert not events.changed()
        now[0] = ASSUMED_CHANGE_SECONDS
        assert events.changed()
        assert not events.changed()
    finally:
        events.close()


def test_where_the_system_does_not_tell_the_list_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_archive.intake.mounts.sys.platform", "win32")
    events = MountEvents()
    assert events.changed()
    assert events.changed()
