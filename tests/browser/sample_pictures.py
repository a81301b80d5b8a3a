"""Paint colourful pictures as ComfyUI saves them: landscapes, skies, still lifes, posters.

`python -m tests.browser.sample_pictures DIRECTORY [COUNT]` writes them.
"""

from __future__ import annotations

import colorsys
import json
import math
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter
from PIL.PngImagePlugin import PngInfo

from cloud_archive.demo.media import make_prompt, make_workflow

_MODELS = ("juggernautXL_v9.safetensors", "flux1-dev.safetensors", "sd_xl_base_1.0.safetensors")
_SCENES = (
    ("landscapes", "fjord", "a fjord between steep hills at dawn, low mist over the water, soft light"),
    ("landscapes", "dunes", "dunes at dusk, long shadows, a warm sky, 35 mm film"),
    ("skies", "night", "a clear night over dark hills, the full moon, many stars"),
    ("still_life", "spheres", "glass spheres on a table, coloured studio light, shallow depth of field"),
    ("posters", "poster", "a screen print poster, bold shapes, three colours, the word HORIZON"),
)
Colour = tuple[int, int, int]


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    column = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        mix = y / size[1]
        column.putpixel((0, y), tuple(int(a + (b - a) * mix) for a, b in zip(top, bottom, strict=True)))
    return column.resize(size)


def _hills(picture: Image.Image, chance: random.Random, hue: float, darkest: float, layers: int = 5) -> None:
    width, height = picture.size
    draw = ImageDraw.Draw(picture)
    for layer in range(layers):
        depth = (layer + 1) / layers
        base = height * (0.42 + 0.5 * depth)
        waves = [(chance.uniform(60, 260), chance.uniform(0, 7), chance.uniform(8, 34)) for _ in range(3)]
        line = [
            (x, base + sum(h * math.sin(x / w + p) for w, p, h in waves) * 0.6)
            for x in range(0, width + 8, 8)
        ]
        tone = _colour(hue + 0.05 * depth, 0.25 + 0.35 * depth, 0.75 - (0.75 - darkest) * depth)
        draw.polygon([*line, (width, height), (0, height)], fill=tone)


def paint(scene: int, seed: int, size: tuple[int, int] = (768, 768)) -> Image.Image:
    """Return a picture of one of the scenes; equal seeds give equal pictures."""
    chance = random.Random(seed)
    hue = chance.random()
    width, height = size
    if scene == 0:
        picture = _gradient(size, _colour(hue, 0.45, 0.95), _colour(hue + 0.12, 0.2, 1.0))
        _hills(picture, chance, hue + 0.5, 0.16)
    elif scene == 1:
        picture = _gradient(size, _colour(0.62 + 0.1 * chance.random(), 0.55, 0.6), _colour(0.06, 0.6, 1.0))
        x, y, r = chance.uniform(0.2, 0.8) * width, height * 0.4, width * 0.09
        ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=(255, 236, 190))
        _hills(picture, chance, 0.06, 0.3, 4)
    elif scene == 2:
        picture = _gradient(size, _colour(0.66, 0.75, 0.16), _colour(hue * 0.2 + 0.6, 0.6, 0.5))
        draw = ImageDraw.Draw(picture)
        for _ in range(220):
            x, y, r = chance.random() * width, chance.random() * height * 0.7, chance.choice((0.7, 1, 1.6))
            draw.ellipse((x - r, y - r, x + r, y + r), fill=_colour(0.6, 0.15, chance.uniform(0.6, 1)))
        x, y, r = chance.uniform(0.2, 0.8) * width, chance.uniform(0.15, 0.35) * height, width * 0.07
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 246, 226))
        _hills(picture, chance, 0.62, 0.06, 3)
    elif scene == 3:
        picture = _gradient(size, _colour(hue, 0.5, 0.25), _colour(hue + 0.08, 0.55, 0.6))
        for ball in range(9):
            r = chance.uniform(0.06, 0.2) * width
            x, y = chance.random() * width, height * chance.uniform(0.35, 0.95)
            layer = Image.new("RGBA", size)
            draw = ImageDraw.Draw(layer)
            tone = _colour(hue + 0.13 * ball, 0.7, 0.95)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(*tone, 190))
            draw.ellipse((x - r * 0.5, y - r * 0.65, x, y - r * 0.25), fill=(255, 255, 255, 150))
            picture.paste(layer.filter(ImageFilter.GaussianBlur(abs(ball - 6) * 1.2)), (0, 0), layer)
    else:
        picture, edge = Image.new("RGB", size, _colour(hue, 0.15, 0.97)), min(width, height)
        draw = ImageDraw.Draw(picture)
        for ring in range(5):
            r = edge * (0.42 - 0.08 * ring)
            box = (width / 2 - r, height * 0.42 - r, width / 2 + r, height * 0.42 + r)
            draw.pieslice(box, 180, 360, fill=_colour(hue + 0.11 * ring, 0.75, 0.9 - 0.1 * (ring % 2)))
        draw.text(
            (width * 0.13, height * 0.56),
            "HORIZON",
            fill=_colour(hue + 0.5, 0.8, 0.3),
            font_size=edge / 6.2,
        )
        draw.text(
            (width * 0.14, height * 0.76),
            f"No. {seed % 97:02d}",
            fill=_colour(hue, 0.7, 0.5),
            font_size=edge / 14,
        )
    return picture


def graph(scene: int, seed: int, chance: random.Random) -> dict[str, Any]:
    """Return the graph that says how a picture was made."""
    prompt = make_prompt(seed)
    prompt["6"]["inputs"]["text"] = _SCENES[scene][2]
    prompt["4"]["inputs"]["ckpt_name"] = _MODELS[scene % len(_MODELS)]
    prompt["3"]["inputs"] |= {
        "sampler_name": chance.choice(("euler", "dpmpp_2m")),
        "steps": chance.choice((20, 28, 30)),
        "cfg": chance.choice((3.5, 5.0, 7.0)),
    }
    return prompt


def write(directory: Path, count: int = 120) -> list[Path]:
    """Write pictures over about five weeks, the newest today; returns their paths."""
    now = time.time()
    made = []
    for number in range(count):
        chance = random.Random(number)
        scene = chance.randrange(len(_SCENES))
        seed = chance.randrange(2**63)
        folder, name, _ = _SCENES[scene]
        size = chance.choice(((768, 768), (896, 640), (640, 896)))
        prompt = graph(scene, seed, chance)
        info = PngInfo()
        info.add_text("prompt", json.dumps(prompt))
        info.add_text("workflow", json.dumps(make_workflow(prompt)))
        path = directory / folder / f"{name}_{number:05}_.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        paint(scene, seed, size).save(path, pnginfo=info, compress_level=3)
        made_at = now - 60 - (number / count) ** 1.6 * 36 * 86_400 - chance.random() * 600
        os.utime(path, (made_at, made_at))
        made.append(path)
    return made


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 120)
