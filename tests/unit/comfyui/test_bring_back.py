"""Files brought into ComfyUI's input directory: names, equal bytes, other bytes, and what a hostile name tries."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.comfyui.bring_back import MAX_NUMBER, _link, bring_back
from cloud_archive.errors import RequestRefused

BODY = b"the picture" * 1000


class Source:
    """Gives a body in pieces, and counts how often it was asked."""

    def __init__(self, body: bytes = BODY) -> None:
        self.body = body
        self.calls = 0

    async def read(self) -> AsyncIterator[bytes]:
        self.calls += 1
        for start in range(0, len(self.body), 4096):
            yield self.body[start : start + 4096]


def asset(name: str = "fox.png", body: bytes = BODY, **more: Any) -> dict[str, Any]:
    return {"name": name, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()} | more


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_old_partial_files_of_a_killed_comfyui_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial, fresh = f".cloud-archive-{'a' * 16}.part", f".cloud-archive-{'b' * 16}.part"
    for name in (partial, ".cloud-archive-notes.part", f"x{partial}"):
        (tmp_path / name).touch()
    later = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    (tmp_path / fresh).touch()
    os.utime(tmp_path / fresh, (later, later))
    await bring_back(asset(), tmp_path, Source().read)
    assert names(tmp_path) == [fresh, ".cloud-archive-notes.part", "fox.png", f"x{partial}"]


async def test_a_file_arrives_under_its_name(tmp_path: Path) -> None:
    answer = await bring_back(asset(), tmp_path, Source().read)
    assert answer == {"name": "fox.png", "subfolder": "", "type": "input"}
    assert names(tmp_path) == ["fox.png"]
    assert (tmp_path / "fox.png").read_bytes() == BODY


async def test_a_missing_directory_is_made_as_an_upload_through_comfyuis_page_does(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "input"
    assert (await bring_back(asset(), directory, Source().read))["name"] == "fox.png"
    assert (directory / "fox.png").read_bytes() == BODY


async def test_a_hostile_name_stays_in_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "input"
    directory.mkdir()
    assert (await bring_back(asset("../../fox.png"), directory, Source().read))["name"] == "fox.png"
    assert names(tmp_path) == ["input"]
    assert names(directory) == ["fox.png"]


async def test_equal_bytes_are_used_as_they_are_without_a_request(tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(b"other")
    (tmp_path / "fox (1).png").write_bytes(BODY)
    source = Source()
    assert (await bring_back(asset(), tmp_path, source.read))["name"] == "fox (1).png"
    assert source.calls == 0
    assert names(tmp_path) == ["fox (1).png", "fox.png"]


async def test_other_bytes_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(b"other")
    assert (await bring_back(asset(), tmp_path, Source().read))["name"] == "fox (1).png"
    assert (tmp_path / "fox.png").read_bytes() == b"other"
    assert (tmp_path / "fox (1).png").read_bytes() == BODY


async def test_without_a_checksum_the_bytes_are_compared_when_they_are_here(tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(BODY)
    assert (await bring_back(asset(sha256=None), tmp_path, Source().read))["name"] == "fox.png"
    assert names(tmp_path) == ["fox.png"]


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"x", BODY[:-1] + b"x"])
async def test_other_bytes_than_were_archived_are_not_kept(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(RequestRefused, match="other bytes") as refused:
        await bring_back(asset(), tmp_path, Source(body).read)
    assert refused.value.status == 502
    assert "cloud-archive verify --deep" in str(refused.value)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="a user may make no symlinks")
async def test_a_symlink_counts_as_taken_and_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(BODY)
    directory = tmp_path / "input"
    directory.mkdir()
    (directory / "fox.png").symlink_to(outside)
    assert (await bring_back(asset(), directory, Source().read))["name"] == "fox (1).png"
    assert outside.read_bytes() == BODY


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
async def test_a_fifo_and_a_directory_of_this_name_do_not_stop_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fox.png")
    (tmp_path / "fox (1).png").mkdir()
    assert (await bring_back(asset(), tmp_path, Source().read))["name"] == "fox (2).png"


async def test_two_at_once_make_one_copy(tmp_path: Path) -> None:
    found = await asyncio.gather(*(bring_back(asset(), tmp_path, Source().read) for _ in range(8)))
    assert {each["name"] for each in found} == {"fox.png"}
    assert names(tmp_path) == ["fox.png"]


async def test_a_filesystem_without_hard_links_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "fox.png").write_bytes(b"other")
    assert (await bring_back(asset(), tmp_path, Source().read))["name"] == "fox (1).png"
    assert names(tmp_path) == ["fox (1).png", "fox.png"]


def test_on_windows_a_file_gets_its_name_once_a_virus_scanner_has_closed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, target = tmp_path / "x.part", tmp_path / "fox.png"
    temporary.touch()
    rename, is_open = Path.rename, [True]

    def refuse_open(path: Path, new: Path) -> Path:
        if is_open:
            raise PermissionError(errno.EACCES, "Sharing violation")
        return rename(path, new)

    monkeypatch.setattr(Path, "rename", refuse_open)
    monkeypatch.setattr("time.sleep", lambda _: is_open.clear())
    with monkeypatch.context() as windows:
        windows.setattr("os.name", "nt")
        assert _link(temporary, target)
    assert names(tmp_path) == ["fox.png"]


async def test_when_every_number_is_taken_it_says_so(tmp_path: Path) -> None:
    for number in range(MAX_NUMBER + 1):
        (tmp_path / (f"fox ({number}).png" if number else "fox.png")).write_bytes(b"other")
    with pytest.raises(RequestRefused, match="numbered names") as refused:
        await bring_back(asset(), tmp_path, Source().read)
    assert refused.value.status == 409
    assert len(names(tmp_path)) == MAX_NUMBER + 1


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestRefused, match="can't be written") as refused:
        await bring_back(asset(), tmp_path / "file", Source().read)
    assert refused.value.status == 507


async def test_a_disk_that_takes_only_a_part_of_the_last_piece_keeps_nothing(tmp_path: Path) -> None:
    """Such a write is no error: the system says how much it took, and refuses the next one."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BODY) - 1, before[1]))
    try:
        with pytest.raises(RequestRefused, match="can't be written") as refused:
            await bring_back(asset(), tmp_path, Source().read)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.status == 507
    assert names(tmp_path) == []
