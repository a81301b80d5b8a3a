"""The effect that some examples must have beside ending with 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.integration.archives import PREFIX
from tests.integration.stage import Stage


def _all_is_restored(stage: Stage, _: str) -> None:
    here = stage.archive.local_files(Path("restored"))
    assert {path: body for path, body in here.items() if path in stage.archive.local_files()} == {
        path: body for path, body in stage.archive.local_files().items() if path in here
    }
    assert {"a.png", "b.png", "video/c.mp4", "young.png"} <= here.keys()


def _names_the_providers(_: Stage, out: str) -> None:
    for name in ("Cloudflare R2", "AWS S3", "Google Cloud Storage", "Backblaze B2"):
        assert name in out


def _nothing_is_freed(stage: Stage, _: str) -> None:
    assert {"a.png", "video/c.mp4"} <= stage.archive.local_files().keys()


def _old_files_are_freed(stage: Stage, _: str) -> None:
    left = stage.archive.local_files().keys()
    assert not {"a.png", "video/c.mp4"} & left
    assert {"b.png", "young.png"} <= left
    assert {f"{PREFIX}/a.png", f"{PREFIX}/video/c.mp4"} <= set(stage.server.keys()), "the bucket still has it"


def _all_are_freed(stage: Stage, _: str) -> None:
    assert not {"a.png", "b.png", "video/c.mp4", "young.png"} & stage.archive.local_files().keys()
    assert {f"{PREFIX}/b.png", f"{PREFIX}/young.png"} <= set(stage.server.keys()), "the bucket still has it"


def _three_of_three(_: Stage, out: str) -> None:
    assert out.splitlines()[-1] == "Complete: 3/3"


MUST_HAVE: dict[str, Callable[[Stage, str], None]] = {
    "cloud-archive restore --to restored": _all_is_restored,
    "cloud-archive report": _names_the_providers,
    "cloud-archive free --older-than 7d --dry-run": _nothing_is_freed,
    "cloud-archive free --older-than 7d": _old_files_are_freed,
    "cloud-archive free": _all_are_freed,
    "cloud-archive upload FILE1 FILE2 FILE3": _three_of_three,
}
