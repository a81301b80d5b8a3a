"""Make short clips as common encoders write them: changing colours or a tone; videos have their index at the end."""

from __future__ import annotations

import io
import math
import random
import wave
from pathlib import Path

import av

SECONDS = 6
FRAMES_PER_SECOND = 12
_RATE = 48_000


def _frame(number: int, width: int = 320, height: int = 240) -> av.VideoFrame:
    """Return a frame of one changing colour, with noise, so that the file is too large to be read at once."""
    frame = av.VideoFrame(width, height, "yuv420p")
    chance = random.Random(number)
    grain = bytes(80 + value // 4 + number for value in range(256))
    tones = (grain, bytes([60 + 2 * number]) * 256, bytes([190 - 2 * number]) * 256)
    for plane, tone in zip(frame.planes, tones, strict=True):
        plane.update(chance.randbytes(plane.buffer_size).translate(tone))
    return frame


def write_video(path: Path, codec: str, options: dict[str, str]) -> None:
    """Write a video of `SECONDS`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.bit_rate = 6_000_000
        for number in range(SECONDS * FRAMES_PER_SECOND):
            container.mux(stream.encode(_frame(number)))
        container.mux(stream.encode(None))


def tone() -> bytes:
    """Return a WAV file of `SECONDS`: a quiet tone that rises."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        for second in range(SECONDS):
            tones = (math.sin(2 * math.pi * (220 + 40 * second) * n / _RATE) for n in range(_RATE))
            file.writeframes(b"".join(int(6000 * one).to_bytes(2, "little", signed=True) for one in tones))
    return written.getvalue()


def write_audio(path: Path, codec: str, wav: bytes) -> None:
    """Write the tone with this codec."""
    with av.open(io.BytesIO(wav)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=_RATE)
        for frame in source.decode(audio=0):
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_clips(directory: Path) -> list[str]:
    """Write a clip of each kind; returns their names."""
    wav = tone()
    write_video(
        directory / "colours.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "24"}
    )
    write_video(directory / "colours.mp4", "libx264", {"preset": "ultrafast", "g": "24"})
    (directory / "tone.wav").write_bytes(wav)
    write_audio(directory / "tone.mp3", "libmp3lame", wav)
    write_audio(directory / "tone.opus", "libopus", wav)
    return ["colours.webm", "colours.mp4", "tone.wav", "tone.mp3", "tone.opus"]
