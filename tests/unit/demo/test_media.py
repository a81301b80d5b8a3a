"""The pictures and films that the demo writes are whole files of their kinds."""

from __future__ import annotations

import io
import json
import struct
import zlib

import av

from cloud_archive.demo.media import (
    FRAMES_PER_SECOND,
    encode_png,
    make_comfyui_image,
    render_picture,
    video_head,
    video_size_patch,
    video_tail,
)
from cloud_archive.intake.containers import ContainerState, inspect_container


def test_an_image_is_a_whole_png_with_its_prompt_and_workflow() -> None:
    body = make_comfyui_image(5, 64, 48)
    assert inspect_container(io.BytesIO(body), "a.png", len(body)) is ContainerState.COMPLETE
    texts: dict[str, str] = {}
    pixels = b""
    position = 8
    while position < len(body):
        (length,) = struct.unpack_from(">I", body, position)
        kind, data = body[position + 4 : position + 8], body[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", body, position + 8 + length)[0] == zlib.crc32(kind + data)
        if kind == b"tEXt":
            name, _, text = data.decode("latin-1").partition("\0")
            texts[name] = text
        pixels += data if kind == b"IDAT" else b""
        position += 12 + length
    assert len(zlib.decompress(pixels)) == 48 * (1 + 3 * 64)
    prompt, workflow = json.loads(texts["prompt"]), json.loads(texts["workflow"])
    assert prompt["9"]["class_type"] == "SaveImage"
    ids = {node["id"] for node in workflow["nodes"]}
    assert ids == {int(number) for number in prompt}
    assert all(link[1] in ids and link[3] in ids for link in workflow["links"])


def test_a_film_is_whole_only_when_its_end_is_written() -> None:
    pictures = [render_picture(32, 16, 1, number / 16) for number in range(4)]
    frames = [encode_png(32, 16, picture) for picture in pictures]
    sizes = [len(frame) for frame in frames]
    growing = video_head() + b"".join(frames)
    assert inspect_container(io.BytesIO(growing), "a.mp4", len(growing)) is not ContainerState.COMPLETE
    position, patch = video_size_patch(sizes)
    whole = growing[:position] + patch + growing[position + len(patch) :] + video_tail(sizes, 32, 16)
    assert inspect_container(io.BytesIO(whole), "a.mp4", len(whole)) is ContainerState.COMPLETE
    with av.open(io.BytesIO(whole)) as container:
        shown = [frame.to_image().tobytes() for frame in container.decode(video=0)]
        assert shown == pictures
        assert container.streams.video[0].average_rate == FRAMES_PER_SECOND
