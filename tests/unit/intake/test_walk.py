"""Scans, mounts and network filesystems."""

from __future__ import annotations

import ntpath
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_archive import files
from cloud_archive.beneath import Folder, open_folder
from cloud_archive.intake import walk
from cloud_archive.intake.walk import network_filesystem, scan


def _paths(root: Path, **options: Any) -> list[str]:
    return sorted(found.path for found in scan(root, **options))


def _tree(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def test_a_scan_finds_every_regular_file_with_its_version(tmp_path: Path) -> None:
    _tree(tmp_path, "a.png", "b/c.png", "b/d/e/f.png")
    (tmp_path / "empty").mkdir()
    assert _paths(tmp_path) == ["a.png", "b/c.png", "b/d/e/f.png"]
    found = {each.path: each for each in scan(tmp_path)}["b/c.png"]
    truth = (tmp_path / "b/c.png").stat()
    assert found.size_bytes == truth.st_size
    assert found.mtime_ns == truth.st_mtime_ns
    if os.name != "nt":  # there a folder's entries have neither
        assert (found.device, found.inode) == (truth.st_dev, truth.st_ino)


@pytest.mark.skipif(os.name == "nt", reason="needs pipes with a path")
def test_a_scan_follows_no_link_and_takes_nothing_but_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _tree(root, "a.png")
    _tree(tmp_path, "outside/secret.txt")
    (root / "to-file").symlink_to(tmp_path / "outside/secret.txt")
    (root / "to-folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))
        assert _paths(root) == ["a.png"]


def test_a_folder_that_becomes_a_link_between_two_listings_is_not_entered(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _tree(root, "a.png", "b/c.png", "d/e/f.png")
    _tree(tmp_path, "outside/secret.txt", "outside/e/secret.txt")

    def swap(path: str) -> bool:
        if path in ("b", "d/e"):
            folder = root / path.split("/")[0]
            folder.rename(tmp_path / f"{folder.name} moved")
            folder.symlink_to(tmp_path / "outside")
        return True

    assert _paths(root, wants_folder=swap) == ["a.png"]


def test_a_scan_leaves_out_directories_that_are_not_wanted(tmp_path: Path) -> None:
    _tree(tmp_path, "a.png", ".cache/b.png", "c/.d/e.png", "c/f.png")
    asked: list[str] = []

    def wants(path: str) -> bool:
        asked.append(path)
        return "/." not in f"/{path}"

    assert _paths(tmp_path, wants_folder=wants) == ["a.png", "c/f.png"]
    assert sorted(asked) == [".cache", "c", "c/.d"]


def test_a_scan_below_a_directory_yields_paths_from_the_root(tmp_path: Path) -> None:
    _tree(tmp_path, "a.png", "b/c.png", "b/d/e.png")
    assert _paths(tmp_path, below="b") == ["b/c.png", "b/d/e.png"]
    assert _paths(tmp_path, below="gone") == []


def test_a_file_that_is_renamed_while_its_folder_is_listed_is_found(tmp_path: Path) -> None:
    names = [f"{number:0200}.png" for number in range(1000)]  # many more than the system reads ahead
    _tree(tmp_path, *names)
    last = _listed(tmp_path)[-1]
    for number in range(2000):
        new = f"renamed {number}.png"
        (tmp_path / last).rename(tmp_path / new)
        first = _listed(tmp_path).index(new) < 10
        (tmp_path / new).rename(tmp_path / last)
        if first:
            break
    else:
        pytest.skip("this filesystem lists new names last")
    walked = walk.walk(tmp_path)
    found = [next(walked)[0]]
    (tmp_path / last).rename(tmp_path / new)
    found += [path for path, _ in walked]
    assert sorted(set(found) - {last}) == sorted({*names, new} - {last})


def _listed(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def test_a_folder_in_one_that_changes_while_it_is_listed_is_walked_once(tmp_path: Path) -> None:
    _tree(tmp_path, "a/b.png", "c/d.png")

    def write(path: str) -> bool:
        _tree(tmp_path, f"{path}.png", f"{path}/new.png")
        return True

    found = [path for path, _ in walk.walk(tmp_path, write)]
    assert {"a.png", "c.png"} <= set(found)
    assert [found.count(path) for path in ("a/b.png", "a/new.png", "c/d.png", "c/new.png")] == [1, 1, 1, 1]


@pytest.fixture
def walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Iterator[str], Path, Path]:
    """A walk, a folder that it has listed, and one with a new file that it has not."""
    _tree(tmp_path, ".cache/c.png", "a/old.png", "b/old.png", "c/old.png")
    for folder in (tmp_path, *tmp_path.iterdir()):
        os.utime(folder, (1000, 1000))
    later_ns = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(walk, "time", SimpleNamespace(time_ns=lambda: later_ns))  # so no folder is new
    paths = (path for path, _ in walk.walk(tmp_path, lambda path: path != ".cache", on_skipped=_once()))
    listed, between = (tmp_path / path for path in (next(paths), next(paths)))
    (other,) = {tmp_path / name for name in "abc"} - {listed.parent, between.parent}
    _tree(other, "new.png")
    return paths, listed.parent, other


def _once() -> Callable[[str, object], None]:
    """Return a callback that fails if it gets a path twice."""
    seen: set[str] = set()

    def on_skipped(path: str, reason: object) -> None:
        assert path not in seen
        seen.add(path)

    return on_skipped


def test_a_file_that_moves_to_a_folder_that_was_listed_before_is_found(
    walked: tuple[Iterator[str], Path, Path],
) -> None:
    paths, listed, other = walked
    (other / "new.png").rename(listed / "new.png")
    assert list(paths) == [f"{other.name}/old.png", f"{listed.name}/new.png"]


def test_a_file_that_replaces_one_in_a_folder_that_was_listed_before_is_found(
    walked: tuple[Iterator[str], Path, Path],
) -> None:
    paths, listed, other = walked
    (other / "new.png").replace(listed / "old.png")
    assert list(paths) == [f"{other.name}/old.png", f"{listed.name}/old.png"]


def test_a_folder_that_moves_to_one_that_was_listed_before_is_found(
    walked: tuple[Iterator[str], Path, Path],
) -> None:
    paths, listed, other = walked
    other.rename(listed / "moved")
    assert sorted(paths) == [f"{listed.name}/moved/new.png", f"{listed.name}/moved/old.png"]


def test_a_file_that_moves_to_a_new_folder_is_found(walked: tuple[Iterator[str], Path, Path]) -> None:
    paths, listed, other = walked
    (listed / "inner").mkdir()
    (other / "new.png").rename(listed / "inner" / "new.png")
    assert list(paths) == [f"{other.name}/old.png", f"{listed.name}/inner/new.png"]


def test_a_listed_folder_that_is_removed_hides_nothing(
    walked: tuple[Iterator[str], Path, Path],
) -> None:
    paths, listed, other = walked
    listed.rename(listed.with_name("renamed"))
    assert sorted(paths) == [f"{other.name}/new.png", f"{other.name}/old.png", "renamed/old.png"]


def test_a_folder_whose_times_may_stay_the_same_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changed just before it was listed, and the filesystem's clock does not move on."""
    _tree(tmp_path, "a/old.png", "b/old.png")
    frozen_ns = 10**18
    monkeypatch.setattr(walk, "time", SimpleNamespace(time_ns=lambda: frozen_ns))
    times = SimpleNamespace(st_mtime_ns=frozen_ns, st_ctime_ns=frozen_ns)
    monkeypatch.setattr(walk, "os", SimpleNamespace(**vars(os) | {"stat": lambda path: times}))
    paths = (path for path, _ in walk.walk(tmp_path))
    listed, _ = next(paths), next(paths)
    _tree((tmp_path / listed).parent, "new.png")
    assert list(paths) == [listed.replace("old", "new")]


@pytest.mark.skipif(os.name == "nt", reason="such names exist on POSIX only")
def test_odd_names_come_through_as_they_are(tmp_path: Path) -> None:
    names = [b"not utf-8 \xff\xfe.png", b"new\nline.png", b"percent %20 #?.png", "e\u0301🎨.png".encode()]
    names.append(b"x" * 251 + b".png")
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    assert sorted(os.fsencode(path) for path in _paths(tmp_path)) == sorted(names)


@pytest.mark.skipif(os.name == "nt", reason="needs a current directory with a long path")
def test_a_path_longer_than_the_system_takes_is_reported_and_passed_over(tmp_path: Path) -> None:
    _tree(tmp_path, "a.png")
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(25):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
        Path("deep.png").write_bytes(b"x")
    finally:
        os.chdir(here)
    errors: list[tuple[str, str]] = []
    found = _paths(tmp_path, on_error=lambda path, reason: errors.append((path, reason)))
    assert found == ["a.png"]
    assert len(errors) == 1
    assert errors[0][0].startswith("d" * 200 + "/")
    assert "long" in errors[0][1]


def test_a_directory_that_cannot_be_read_is_reported_and_the_rest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tree(tmp_path, "a.png", "closed/b.png", "open/c.png")
    real = open_folder

    def refuse(root: Path, path: str) -> Folder:
        if path == "closed":
            raise PermissionError(13, "Permission denied")
        return real(root, path)

    monkeypatch.setattr(walk, "open_folder", refuse)
    errors: list[tuple[str, str]] = []
    found = _paths(tmp_path, on_error=lambda path, reason: errors.append((path, reason)))
    assert found == ["a.png", "open/c.png"]
    assert errors == [("closed", "Permission denied")]


def test_a_missing_root_is_reported(tmp_path: Path) -> None:
    errors: list[str] = []
    assert _paths(tmp_path / "gone", on_error=lambda path, reason: errors.append(path)) == []
    assert errors == [""]


MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /net/share\040one rw - nfs4 host:/x rw
31 22 0:41 / /smb rw shared:1 master:2 - cifs //host/x rw
32 22 0:42 / /ssh rw - fuse.sshfs host:/x rw
33 22 8:17 / /usb rw - fuseblk /dev/sdb1 rw
34 22 0:44 / /mnt/c rw - 9p C:\134 rw,aname=drvfs;path=C:\;uid=1000
35 22 0:45 / /plain9p rw - 9p share rw
36 22 0:46 / /var/lib/over rw - overlay overlay rw
37 22 0:47 / /over rw - nfs host:/y rw
38 37 8:18 / /over/local rw - xfs /dev/sdc rw
39 22 8:19 / /covered rw - nfs host:/z rw
40 22 8:20 / /covered rw - btrfs /dev/sdd rw
41 22 0:50 / /vm rw - virtiofs share rw
42 22 0:51 /home/a/out /desktop rw - fakeowner /run/host_mark/home rw,fakeowner
42 22 0:51 / /pool rw - fuse.mergerfs a:b rw
a broken line
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/home/me/output", None),
        ("/net/share one/output", "nfs4"),
        ("/net/share one", "nfs4"),
        ("/net/share one or two", None),
        ("/smb/x", "cifs"),
        ("/smbx", None),
        ("/ssh", "fuse.sshfs"),
        ("/usb/x", None),
        ("/mnt/c/ComfyUI/output", "drvfs"),
        ("/plain9p/x", "9p"),
        ("/var/lib/over/x", None),
        ("/over/x", "nfs"),
        ("/over/local/x", None),
        ("/covered/x", None),
        ("/vm/x", "virtiofs"),
        ("/desktop/x", "fakeowner"),
        ("/pool/x", "fuse.mergerfs"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the table of mounts is Linux's")
def test_a_filesystem_without_reliable_events_is_known_by_its_mount(place: str, kind: str | None) -> None:
    assert network_filesystem(Path(place), MOUNTS) == kind


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (r"C:\out", None),
        (r"\\?\C:\out", None),
        (r"\\nas\share\out", "network drive"),
        (r"\\?\UNC\nas\share\out", "network drive"),
    ],
)
def test_a_network_drive_of_windows_is_known_by_its_path(
    place: str, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = SimpleNamespace(realpath=str, splitdrive=ntpath.splitdrive)
    for module in (walk, files):
        monkeypatch.setattr(module, "os", SimpleNamespace(name="nt", path=paths))
    fixed_drive = 3
    kernel = SimpleNamespace(GetDriveTypeW=lambda drive: {"C:\\": fixed_drive}[drive])
    monkeypatch.setattr(walk, "ctypes", SimpleNamespace(windll=SimpleNamespace(kernel32=kernel)))
    monkeypatch.setattr(walk, "sys", SimpleNamespace(platform="win32"))
    assert network_filesystem(PurePosixPath(place)) == kind  # type: ignore[arg-type]


def test_this_very_directory_can_be_asked_about(tmp_path: Path) -> None:
    assert network_filesystem(tmp_path) is None or isinstance(network_filesystem(tmp_path), str)


NESTED = r"""
21 1 8:1 / / rw - ext4 /dev/sda1 rw
40 21 0:40 / /out rw - tmpfs none rw
41 40 0:41 / /out/video rw - nfs4 server:/v rw
42 40 0:42 / /out/a\040b rw - tmpfs none rw
43 21 0:43 / /output rw - tmpfs none rw
"""


def test_mounts_below_a_directory_are_found_by_their_place() -> None:
    assert walk.mounts_below("/out", NESTED) == {("/out/video", "41"), ("/out/a b", "42")}
    assert walk.mounts_below("/output", NESTED) == frozenset()


@pytest.mark.skipif(sys.platform != "linux", reason="the table of mounts is Linux's")
def test_links_are_no_count_on_any_filesystem_but_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = "1 0 0:1 / / rw - {} /dev/x rw\n"
    for kind, counts in (
        ("ext4", True),
        ("xfs", True),
        ("tmpfs", True),
        ("btrfs", False),
        ("overlay", False),
    ):
        monkeypatch.setattr(Path, "read_bytes", lambda self, kind=kind: line.format(kind).encode())
        assert walk.link_counts_include_folders("/anything") is counts
