"""SVG: the JSON that ComfyUI's SaveSVGNode puts into `<metadata>`."""

from __future__ import annotations

import html
import json
import re

from ..json_text import load_json
from ..source import BoundedSource
from .facts import MAX_TEXT_BYTES, FactsBuilder, decode_text

_SIZE = re.compile(r"\s(width|height)=[\"'](\d{1,6})(?:\.\d+)?(?:px)?[\"']")


def read_svg(source: BoundedSource, facts: FactsBuilder) -> None:
    """Find the first `<metadata>` element and the size in the `<svg>` tag."""
    text = decode_text(source.read(0, min(source.size, MAX_TEXT_BYTES)))
    tag = text[text.index("<svg") :][:4096].partition(">")[0]
    sizes = dict(_SIZE.findall(tag))
    if len(sizes) == 2:
        facts.set_size(int(sizes["width"]), int(sizes["height"]))
    start = text.find("<metadata>")
    end = text.find("</metadata>", start)
    if start < 0 or end < 0:
        return
    body = text[start + len("<metadata>") : end].strip()
    plain = body.removeprefix("<![CDATA[").removesuffix("]]>")
    body = plain if body.startswith("<![CDATA[") else html.unescape(body)
    for name, value in load_json(body).items():
        facts.add_text(name, value if isinstance(value, str) else json.dumps(value))
