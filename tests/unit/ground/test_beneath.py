"""Files are opened below a root without following a symbolic link, by descriptors and by held paths alike."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_archive import beneath
from cloud_archive.beneath import Folder, HeldFolder, PosixFolder, open_file, open_folder, stat_file


class ProcKernel:
    """Answers as Windows does, from /proc; it keeps nobody from renaming."""

    def __init__(self) -> None:
        self.held: set[int] = set()

    def root_path(self, root: str | Path) -> Path:
        return Path(root)

    def hold(self, path: Path) -> int:
        handle = os.open(path, os.O_RDONLY)  # CreateFileW opens a file as well
        self.held.add(handle)
        return handle

    def release(self, handle: int) -> None:
        self.held.remove(handle)
        os.close(handle)

    def open_file(self, path: Path) -> int:
        return beneath._open(path, os.O_RDONLY | os.O_NONBLOCK)

    def final_path(self, handle: int) -> Path:
        return Path(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115

    def final_path_of_file(self, descriptor: int) -> Path:
        return self.final_path(descriptor)


class SilentKernel(ProcKernel):
    """A filesystem that doesn't know final paths."""

    def final_path(self, handle: int) -> Path:
        raise OSError("ERROR_INVALID_FUNCTION")


KERNELS: dict[str, Callable[[], ProcKernel] | None] = {
    "posix": None,
    "held": ProcKernel,
    "held without final paths": SilentKernel,
}


@pytest.fixture(params=[*KERNELS])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each implementation in turn behind the functions of the module; what it opened must be closed."""
    name: str = request.param
    make = KERNELS[name]
    if make is None:
        if os.open not in os.supports_dir_fd:
            pytest.skip("this system has no openat")
        yield name
        return
    if os.name == "nt" and name == "held":
        yield name
        return
    if sys.platform != "linux":
        pytest.skip("the stand-in for Windows reads /proc")
    kernel = make()
    monkeypatch.setattr(beneath, "_windows_kernel", lambda: kernel)
    monkeypatch.setattr(beneath, "_FOLDER", HeldFolder)
    yield name
    assert not kernel.held


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "output"
    (found / "a" / "b").mkdir(parents=True)
    (found / "a" / "b" / "c.png").write_bytes(b"inside")
    (found / "top.png").write_bytes(b"top")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c.png").write_bytes(b"secret")
    return found


def make_link(path: Path, target: Path) -> None:
    """Make a symbolic link, or skip the test: on Windows not every user may."""
    try:
        path.symlink_to(target)
    except OSError:
        if os.name != "nt":
            raise
        pytest.skip("no symbolic links here")


def swap(folder: Path, target: Path) -> None:
    """Put a symbolic link to `target` in the place of `folder`."""
    folder.rename(folder.with_name(folder.name + " moved away"))
    make_link(folder, target)


def test_files_are_read_and_looked_at_by_their_path(kind: str, root: Path) -> None:
    with open_file(root, "a/b/c.png") as file:
        assert file.read() == b"inside"
    with open_file(root, "top.png") as file:
        assert file.read() == b"top"
    assert stat_file(root, "a/b/c.png").st_ino == (root / "a/b/c.png").stat().st_ino


def test_a_root_that_is_a_symbolic_link_is_followed(kind: str, root: Path, tmp_path: Path) -> None:
    make_link(tmp_path / "link", root)
    with open_file(tmp_path / "link", "a/b/c.png") as file:
        assert file.read() == b"inside"


def test_an_absolute_path_is_walked_from_the_top(kind: str, root: Path) -> None:
    with open_file(Path("/"), (root.resolve() / "a/b/c.png").as_posix()) as file:
        assert file.read() == b"inside"
    assert stat_file(Path("/"), root.resolve().as_posix()).st_ino == root.stat().st_ino
    swap(root / "a", root.parent / "outside")
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        open_file(Path("/"), (root.resolve() / "a/c.png").as_posix())


@pytest.mark.parametrize("path", ["a/c.png", "a/b/c.png"])
def test_a_folder_that_became_a_symbolic_link_leads_nowhere(kind: str, root: Path, path: str) -> None:
    outside = root.parent / "outside"
    make_link(outside / "b", outside)
    swap(root / "a", outside)
    for act in (open_file, stat_file):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            act(root, path)


def test_a_link_that_leads_back_inside_is_not_followed_either(kind: str, root: Path) -> None:
    make_link(root / "again", root / "a")
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        open_file(root, "again/b/c.png")


@pytest.mark.parametrize("target", ["a/b/c.png", "nothing", "a", "link.png"])
def test_a_link_in_the_place_of_the_file_is_no_file(kind: str, root: Path, target: str) -> None:
    make_link(root / "link.png", root / target)
    with pytest.raises(FileNotFoundError):
        open_file(root, "link.png").close()
    assert stat_file(root, "link.png").st_ino == (root / "link.png").lstat().st_ino


@pytest.mark.skipif(os.name == "nt", reason="needs pipes with a path")
def test_what_is_no_regular_file_is_not_opened_and_not_waited_for(kind: str, root: Path) -> None:
    os.mkfifo(root / "pipe")
    for name in ("pipe", "a"):
        with pytest.raises((FileNotFoundError, IsADirectoryError)):
            open_file(root, name)


@pytest.mark.parametrize(
    "path",
    ["../outside/c.png", "a/../../outside/c.png", "a//b/c.png", "./top.png", "", "a/b\0", "a\0/b/c.png"],
)
def test_a_path_with_parts_that_are_no_names_is_refused(kind: str, root: Path, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        open_file(root, path)


def test_a_name_with_a_separator_is_refused(kind: str, root: Path) -> None:
    with open_folder(root) as folder:
        for act in (folder.open, folder.create, folder.make, folder.enter, folder.stat, folder.unlink):
            with pytest.raises(FileNotFoundError):
                act("../outside/c.png")


def test_a_file_is_created_once_and_never_through_a_link(kind: str, root: Path) -> None:
    make_link(root / "a/dangling.png", root.parent / "outside/made.png")
    with open_folder(root, "a") as folder:
        with folder.create("new.png") as file:
            file.write(b"new")
        folder.set_mtime("new.png", 1_700_000_000_123_456_789)
        for name in ("new.png", "dangling.png", "b"):
            with pytest.raises(FileExistsError):
                folder.create(name)
    assert (root / "a/new.png").read_bytes() == b"new"
    assert (root / "a/new.png").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert not (root.parent / "outside/made.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_the_mode_of_a_created_file_is_as_asked_for(kind: str, root: Path) -> None:
    with open_folder(root) as folder:
        folder.create("private", 0o600).close()
    assert (root / "private").stat().st_mode & 0o777 == 0o600


def test_folders_are_made_and_entered(kind: str, root: Path) -> None:
    with open_folder(root, "a") as folder:
        folder.make("new")
        with pytest.raises(FileExistsError):
            folder.make("b")
        with folder.enter("new") as inner:
            inner.create("x").close()
        with folder.enter("b") as inner, pytest.raises(NotADirectoryError):
            inner.enter("c.png")
    assert (root / "a/new/x").is_file()


def test_a_rename_never_replaces(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind != "posix":  # Windows refuses a name that is taken; Linux replaces it
        monkeypatch.setattr(Path, "rename", rename_as_windows_does)
    with open_folder(root) as folder:
        folder.create("x").close()
        assert not folder.rename_new("x", "top.png")
        assert folder.rename_new("x", "y")
        assert folder.exists("y")
        assert not folder.exists("x")
    assert (root / "top.png").read_bytes() == b"top"


def test_a_file_that_a_virus_scanner_reads_is_renamed_once_it_is_closed(
    kind: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "posix":
        pytest.skip("POSIX renames files that are open")
    is_open = [True]

    def refuse_open(path: Path, target: Path) -> Path:
        if is_open:
            raise PermissionError(errno.EACCES, "Sharing violation")
        return rename_as_windows_does(path, target)

    monkeypatch.setattr(Path, "rename", refuse_open)
    monkeypatch.setattr("time.sleep", lambda _: is_open.clear())
    with open_folder(root) as folder:
        assert folder.rename_new("top.png", "moved.png")
    assert (root / "moved.png").read_bytes() == b"top"


@pytest.mark.skipif(os.open not in os.supports_dir_fd, reason="needs openat")
def test_a_rename_that_fails_leaves_no_empty_file(root: Path) -> None:
    with PosixFolder.of_root(root) as folder:
        with pytest.raises(FileNotFoundError):
            folder.rename_new("missing", "new")
        assert not folder.exists("new")


def rename_as_windows_does(path: Path, target: Path) -> Path:
    if os.path.lexists(target):
        raise FileExistsError(target)
    os.rename(path, target)  # noqa: PTH104
    return target


def test_a_rename_without_hard_links_never_replaces(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    with open_folder(root) as folder:
        assert not folder.rename_new("top.png", "a")
        assert folder.rename_new("top.png", "z.png")
    assert (root / "z.png").read_bytes() == b"top"


def test_unlink_removes_a_link_and_not_what_it_names(kind: str, root: Path) -> None:
    make_link(root / "a/link.png", root.parent / "outside/c.png")
    with open_folder(root, "a") as folder:
        folder.unlink("link.png")
    assert (root.parent / "outside/c.png").read_bytes() == b"secret"
    assert not os.path.lexists(root / "a/link.png")


@pytest.mark.skipif(os.open not in os.supports_dir_fd, reason="on Windows an open folder can't be renamed")
def test_an_open_folder_stays_the_same_folder_when_a_link_takes_its_place(root: Path) -> None:
    with open_folder(root, "a/b") as folder:
        swap(root / "a", root.parent / "outside")
        folder.create("new.png").close()
        folder.unlink("c.png")
        with folder.entries() as found:
            assert [entry.name for entry in found] == ["new.png"]
    assert sorted(path.name for path in (root.parent / "outside").iterdir()) == ["c.png"]


def test_entries_are_looked_at_where_they_are(kind: str, root: Path) -> None:
    with open_folder(root, "a/b") as folder, folder.entries() as found:
        assert [(entry.name, entry.stat(follow_symlinks=False).st_size) for entry in found] == [("c.png", 6)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_descriptor_stays_open(kind: str, root: Path) -> None:
    for path in ("a/b/c.png", "a/b/none", "none/c.png", "a", "../x", "top.png/x"):
        for act in (open_file, stat_file):
            try:
                found = act(root, path)
            except OSError:
                continue
            if not isinstance(found, os.stat_result):
                found.close()
    with open_folder(root, "a") as folder, folder.entries() as entries:
        list(entries)
    folder.close()
    assert [path for path in open_paths() if path.startswith(str(root.parent))] == []


def open_paths() -> Iterator[str]:
    """What this process has open; other threads may open and close something else meanwhile."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(descriptor)  # noqa: PTH115


@pytest.mark.skipif(os.open not in os.supports_dir_fd, reason="needs openat")
def test_a_folder_that_is_swapped_all_the_time_never_leads_outside(root: Path) -> None:
    stop = threading.Event()
    spare, outside = root / "spare", root.parent / "outside"
    make_link(spare, outside)

    def flip() -> None:
        while not stop.is_set():
            os.rename(root / "a/b", root / "a/real")  # noqa: PTH104
            os.rename(spare, root / "a/b")  # noqa: PTH104
            os.rename(root / "a/b", spare)  # noqa: PTH104
            os.rename(root / "a/real", root / "a/b")  # noqa: PTH104

    swapper = threading.Thread(target=flip)
    swapper.start()
    seen: set[bytes] = set()
    opened = refused = 0
    limit = time.monotonic() + 60
    try:
        while min(opened, refused) < 500 and time.monotonic() < limit:  # enough of both, if a thread is late
            try:
                with open_file(root, "a/b/c.png") as file:
                    seen.add(file.read())
                opened += 1
            except (FileNotFoundError, NotADirectoryError):
                refused += 1
    finally:
        stop.set()
        swapper.join()
    assert seen == {b"inside"}
    assert refused


@pytest.mark.parametrize("call", ["fstat", "fdopen"])
def test_a_file_that_cannot_be_used_is_closed(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    descriptors: list[int] = []

    def fail(descriptor: int, *_: object, **__: object) -> None:
        descriptors.append(descriptor)
        raise MemoryError

    with open_folder(root) as folder, monkeypatch.context() as failing:
        failing.setattr(os, call, fail)
        with pytest.raises(MemoryError):
            folder.open("top.png")
    (descriptor,) = descriptors
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EBADF))):
        os.fstat(descriptor)


def test_each_system_has_its_way() -> None:
    expected: type[Folder] = HeldFolder if os.name == "nt" else PosixFolder
    assert beneath._FOLDER is expected


@pytest.mark.skipif(os.name != "nt", reason="the calls of Windows")
def test_an_error_of_windows_names_the_folder_and_has_no_full_stop(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open_folder(tmp_path, "gone")
    assert caught.value.filename == "\\\\?\\" + str(tmp_path / "gone")
    assert not str(caught.value.strerror).endswith(".")


@pytest.mark.skipif(os.name != "nt", reason="the calls of Windows")
def test_a_file_can_be_renamed_and_removed_while_it_is_read(root: Path) -> None:
    with open_file(root, "top.png") as file:
        (root / "top.png").rename(root / "moved.png")
        (root / "moved.png").unlink()
        assert file.read() == b"top"
