"""Paths for keys that anybody may choose."""

from __future__ import annotations

from pathlib import PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.maintenance.safe_paths import local_parts

HOSTILE = [
    "../evil",
    "../../../../../../../../tmp/evil",
    "/etc/passwd",
    "//server/share/x",
    "a/../../evil",
    "a/./b",
    "..",
    ".",
    "...",
    ".. ",
    "C:\\Windows\\evil.dll",
    "C:evil",
    "c:/evil",
    "\\\\?\\C:\\evil",
    "\\evil",
    "..\\..\\evil",
    "x\\..\\..\\evil",
    "CON",
    "con.txt",
    "nul.tar.gz",
    "NUL .txt",
    "aux",
    "COM1",
    "com\u00b9.png",
    "LPT9.log",
    "CONIN$",
    "folder/PRN/x.png",
    "trailing.",
    "trailing ",
    "trailing. . .",
    "stream.png:hidden",
    "a\0b",
    "line\nbreak",
    "tab\tin",
    '<>"|?*',
    "ok/ComfyUI_00001_.png",
    "smile 😀.png",
]


def is_plain_on_windows(part: str) -> bool:
    """By the rules of Windows itself, as Python knows them."""
    import ntpath

    path = PureWindowsPath(part)
    reserved = ntpath.isreserved(part) if hasattr(ntpath, "isreserved") else path.is_reserved()
    return (
        not path.drive
        and not path.root
        and path.parts == (part,)
        and not reserved
        and part == part.rstrip(". ")
        and not any(sign in part for sign in '<>:"/\\|?*')
        and all(ord(sign) >= 32 for sign in part)
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_stays_inside_by_the_rules_of_windows(key: str) -> None:
    parts = local_parts(key, windows=True)
    assert parts
    assert all(is_plain_on_windows(part) for part in parts), parts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(st.text(alphabet=st.sampled_from(list("./\\:. \0\x1faCONULcom1²¹$-\udcff")), max_size=24))
def test_no_key_at_all_leaves_the_target(key: str) -> None:
    for part in local_parts(key, windows=True):
        assert is_plain_on_windows(part), part
    for part in local_parts(key, windows=False):
        assert part not in ("", ".", "..")
        assert "/" not in part
        assert "\0" not in part


@pytest.mark.parametrize(
    ("key", "windows", "parts"),
    [
        ("a//b/", False, ("a", "b")),
        ("..", False, ("%2E%2E",)),
        ("a\\b", False, ("a\\b",)),
        ("a\\b", True, ("a%5Cb",)),
        ("NUL .txt", True, ("%4EUL .txt",)),
        ("NUL .txt", False, ("NUL .txt",)),
        ("ü:.", True, ("ü%3A%2E",)),
        (".Cloud-Archive-State/engine.json", False, ("%2ECloud-Archive-State", "engine.json")),
        (".cloud-archive-state", True, ("%2Ecloud-archive-state",)),
        (".cloud-archive-\u017ftate", False, ("%2Ecloud-archive-\u017ftate",)),  # the long s
        ("/", False, ()),
        ("狐" * 255, True, ("狐" * 255,)),  # Windows counts no bytes
    ],
)
def test_only_what_a_name_must_not_hold_is_encoded(key: str, windows: bool, parts: tuple[str, ...]) -> None:
    assert local_parts(key, windows=windows) == parts
