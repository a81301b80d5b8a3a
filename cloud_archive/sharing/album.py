"""Make an album: one HTML page with small pictures and links to the files. It has no script, and loads only videos."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from html import escape
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..text import clean_text

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem; }
ul { align-items: start; display: grid; gap: 1rem; padding: 0; }
ul { grid-template-columns: repeat(auto-fill, minmax(min(14rem, 40%), 1fr)); }
li { background: color-mix(in srgb, currentColor 7%, transparent); border-radius: .5rem; overflow: hidden; }
li { list-style: none; }
img, video { aspect-ratio: 1; display: block; object-fit: contain; width: 100%; }
p { margin: 0; overflow-wrap: anywhere; padding: .5rem .75rem; }
h1 { line-height: 1.2; overflow-wrap: anywhere; }
h1 + p { padding-inline: 0; }
.prompt { font-size: .85rem; opacity: .8; white-space: pre-wrap; }
"""


class AlbumItem(NamedTuple):
    """One file of an album: its asset, the link to it, and a small picture (bytes and MIME type) or None."""

    asset: Mapping[str, Any]
    url: str
    picture: tuple[bytes, str] | None


ReadPicture = Callable[[Mapping[str, Any]], "tuple[bytes, str] | None"]


def album_page(title: str, items: Iterable[AlbumItem], *, until: float, with_prompts: bool) -> str:
    """Return the page as HTML.

    Args:
        until: when the links expire, in seconds since 1970.
        with_prompts: show each file's prompt.
    """
    items = list(items)
    origins = {f"{parts.scheme}://{parts.netloc}" for parts in (urlsplit(item.url) for item in items)}
    media_sources = " ".join(sorted(origins)) or "'none'"
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
        f" media-src {media_sources}"
    )
    end = datetime.fromtimestamp(until, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    body = "\n".join(_item(item, with_prompts) for item in items)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p>{len(items)} {"file" if len(items) == 1 else "files"}; the links expire on {end}.</p>
<ul>
{body}
</ul>
</main>
</body>
</html>
"""


def _item(item: AlbumItem, with_prompts: bool) -> str:
    name, url = escape(clean_text(item.asset["name"])), escape(item.url)
    picture = ""
    if item.picture is not None:
        data, mime_type = item.picture
        picture = f"data:{mime_type};base64,{base64.b64encode(data).decode()}"
    if str(item.asset["mime_type"] or "").startswith("video/"):
        poster = f' poster="{picture}"' if picture else ""
        shown = f'<video controls preload="none" src="{url}"{poster}></video>'
    elif picture:
        shown = f'<a href="{url}" rel="noreferrer"><img src="{picture}" alt="{name}" loading="lazy"></a>'
    else:
        shown = ""
    prompt = item.asset["metadata"]["prompt"] if with_prompts else None
    words = f'<p class="prompt">{escape(prompt)}</p>' if prompt else ""
    return f'<li>{shown}<p><a href="{url}" rel="noreferrer">{name}</a></p>{words}</li>'
