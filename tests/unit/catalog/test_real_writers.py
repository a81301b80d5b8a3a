"""Files that ComfyUI's own save nodes wrote on CPU, read back to the fields that their graph must give."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_archive.catalog.describe import describe
from cloud_archive.catalog.source import BytesSource

FIXTURES = Path(__file__).parents[2] / "fixtures" / "comfyui"
FILES = sorted(path.name for path in FIXTURES.glob("[0-9]*"))
MEDIA = {
    ".png": ("image/png", (64, 48)),
    ".webp": ("image/webp", (64, 48)),
    ".svg": ("image/svg+xml", (64, 48)),
    ".exr": ("image/x-exr", (64, 48)),
    ".webm": ("video/webm", (64, 48)),
    ".mkv": ("video/x-matroska", (64, 48)),
    ".mp4": ("video/mp4", (64, 48)),
    ".flac": ("audio/flac", (None, None)),
    ".mp3": ("audio/mpeg", (None, None)),
    ".opus": ("audio/opus", (None, None)),
    ".glb": ("model/gltf-binary", (None, None)),
    ".latent": ("application/octet-stream", (None, None)),
}


def test_each_kind_of_save_node_is_here() -> None:
    assert {Path(name).suffix for name in FILES} <= set(MEDIA)
    assert len([name for name in FILES if name.startswith("0.3.64_")]) == 11


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_save_node_says_how_it_was_made(name: str) -> None:
    found = describe(BytesSource((FIXTURES / name).read_bytes()), name)
    assert (found.prompt, found.negative_prompt) == ("ein Fuchs im Schnee, 雪の中の狐", "blurry")
    assert (found.models, found.seed, found.sampler) == (("fox_v1.safetensors",), 2**64 - 1, "euler")
    assert (found.scheduler, found.steps, found.cfg, found.denoise) == ("normal", 20, 7.5, 1.0)
    assert (found.confidence, found.has_prompt, found.has_workflow) == ("high", True, True)
    mime_type, size = MEDIA[Path(name).suffix]
    assert (found.mime_type, (found.width, found.height)) == (mime_type, size)
    if mime_type.startswith("audio/"):
        assert found.duration_seconds == pytest.approx(0.5, abs=0.05)
    if mime_type.startswith("video/"):
        assert found.duration_seconds == pytest.approx(0.3, abs=0.05)
