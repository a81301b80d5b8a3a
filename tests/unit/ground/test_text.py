"""File names that every system can hold."""

from __future__ import annotations

import pytest

from cloud_archive.text import safe_file_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("..", "file"),
        ("", "file"),
        ("a/b\\c.png", "c.png"),
        ("C:evil.png", "C_evil.png"),
        ("con.png", "_con.png"),
        ("COM1", "_COM1"),
        ("nul .png", "_nul .png"),
        ("com².png", "_com².png"),
        ("CONOUT$", "_CONOUT$"),
        ("con te.png", "con te.png"),
        ("contact.png", "contact.png"),
        ("a\0b\n.png", "a_b_.png"),
        ("a\ud800.png", "a_.png"),
        (".hidden.png", "hidden.png"),
        ("fox. ", "fox"),
        ("狐.png", "狐.png"),
    ],
)
def test_a_name_is_one_part_of_a_path(name: str, expected: str) -> None:
    assert safe_file_name(name) == expected


@pytest.mark.parametrize("name", ["狐" * 300 + ".png", "狐" * 300, "a." + "b" * 300, "x" * 201 + ".png"])
def test_a_long_name_is_cut_before_its_ending(name: str) -> None:
    short = safe_file_name(name)
    assert 100 < len(short.encode()) <= 200 or name.startswith("a.")
    assert short.endswith(".png") == name.endswith(".png")
    assert name.startswith(short.rpartition(".")[0] or short)


@pytest.mark.parametrize(
    "name", ["狐" * 60 + "a" * 19 + " x", "b." + "c" * 19 + " " + "d" * 200, "e" * 115 + " " + "f" * 99]
)
def test_a_name_that_was_cut_does_not_end_in_a_blank(name: str) -> None:
    assert safe_file_name(name)[-1] not in " ."
