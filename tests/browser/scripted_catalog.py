"""Answer the catalog's routes from memory: any number of assets, with pictures painted on demand."""

from __future__ import annotations

import functools
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from aiohttp import web

from tests.browser.sample_pictures import paint

from .scripted_model import Handler

_MODELS = ("juggernautXL_v9.safetensors", "flux1-dev.safetensors", "sd_xl_base_1.0.safetensors")
_WORDS = (
    "a fjord at dawn between steep hills, low mist over the water, soft light",
    "dunes at dusk, long shadows, a warm sky, 35 mm film",
    "a clear night over dark hills, the full moon, many stars",
    "glass spheres on a table, coloured studio light, shallow depth of field",
    "a screen print poster, bold shapes, three colours, the word HORIZON",
)
_REFUSALS = {400: web.HTTPBadRequest, 403: web.HTTPForbidden, 503: web.HTTPServiceUnavailable}


def an_asset(number: int, moment: datetime, **changes: Any) -> dict[str, Any]:
    """Return one asset as the contract has it."""
    name = f"picture_{number:06}_.png"
    identity = f"7f1d1f0e-5a5c-4d6e-8f53-{number:012x}"
    return {
        "id": identity,
        "name": name,
        "key": f"comfyui-outputs/{name}",
        "path": name,
        "size": 1_500_000,
        "mime_type": "image/png",
        "sha256": f"{number:064x}",
        "created_at": moment.astimezone().isoformat(),
        "machine": f"pod-{number % 2 + 1}",
        "session_id": "session",
        "job_id": None,
        "preview_url": f"/cloud-sync/assets/{identity}/thumbnail",
        "width": 768,
        "height": 768,
        "duration_seconds": None,
        "metadata": {
            "prompt": f"{_WORDS[number % 5]}, number {number}",
            "negative_prompt": "blurry",
            "models": [_MODELS[number % 3]],
            "loras": [{"name": "film_grain.safetensors", "strength": 0.6}] if number % 4 == 0 else [],
            "seed": 2**63 + number,
            "sampler": "euler",
            "scheduler": "normal",
            "steps": 20,
            "cfg": 7.0,
            "source": "png",
            "confidence": "high",
        },
        "has_workflow": True,
        "has_prompt": True,
        "tags": [],
        "favorite": False,
        "rating": 0,
        "note": "",
        "hidden": False,
    } | changes


class ScriptedCatalog:
    """What the catalog's routes answer.

    Attributes:
        calls: method, path and query or body of each call.
        failure: (status, message) of every answer; None: no failure.
        workflow: of every asset.
        picture_size: of every picture without a shape of its own.
        unread: how many files `/facets` says are not read yet.
        loading, trouble: what `/facets` says of other machines' files.

    Args:
        shapes: sizes of assets and pictures, in turn; empty: all have the same.
    """

    def __init__(self, count: int = 0, *, per_day: int = 500, shapes: Sequence[tuple[int, int]] = ()) -> None:
        self.assets: list[dict[str, Any]] = []  # newest first
        self.calls: list[tuple[str, str, Any]] = []
        self.failure: tuple[int, str] | None = None
        self.unread = 0
        self.loading: dict[str, int] | None = None
        self.trouble: str | None = None
        self.workflow: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}
        self._days: dict[str, list[dict[str, Any]]] = {}
        self._indexed = -1
        self._numbers: dict[str, int] = {}
        self.picture_size = (240, 240)
        noon = datetime.combine(date.today(), time(12))
        for number in range(count):
            moment = noon - timedelta(days=number // per_day, seconds=number % per_day)
            width, height = shapes[number % len(shapes)] if shapes else (768, 768)
            self.assets.append(an_asset(number, moment, width=width, height=height))
            self._numbers[self.assets[-1]["id"]] = number

    def routes(self) -> list[tuple[str, str, Handler]]:
        """The routes as (method, path, handler)."""
        one = "/cloud-sync/assets/{id}"
        return [
            ("GET", "/cloud-sync/assets", self._answer(self._search)),
            ("GET", "/cloud-sync/facets", self._answer(self._facets)),
            ("GET", "/cloud-sync/assets.zip", self._answer(lambda request: request.query["ids"])),
            ("GET", one, self._answer(self._one)),
            ("PATCH", one, self._edit),
            ("GET", f"{one}/thumbnail", self._picture),
            ("GET", f"{one}/content", self._picture),
            ("GET", f"{one}/workflow", self._answer(lambda _: self.workflow)),
            ("GET", f"{one}/prompt", self._answer(lambda _: {})),
            ("POST", f"{one}/bring-back", self._bring_back),
            ("POST", "/cloud-sync/share", self._share),
        ]

    def add_newest(self, number: int, **changes: Any) -> dict[str, Any]:
        """Add an asset of the second after the newest one, whatever the clock says; return it."""
        moment = datetime.fromisoformat(self.assets[0]["created_at"]) + timedelta(seconds=1)
        asset = an_asset(number, moment, **changes)
        self.assets.insert(0, asset)
        return asset

    def _note(self, request: web.Request, body: Any = None) -> None:
        path = request.path.removeprefix("/api")
        self.calls.append((request.method, path, dict(request.query) if body is None else body))
        if self.failure is not None:
            status, message = self.failure
            text = json.dumps({"success": False, "message": message})
            raise _REFUSALS[status](text=text, content_type="application/json")

    def _answer(self, make: Any) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            self._note(request)
            return web.json_response(make(request))

        return handler

    def _found(self, query: str) -> list[dict[str, Any]]:
        words, since, until = [], "", "9"
        for part in re.findall(r'(?:[^\s"]|"[^"]*(?:"|$))+', query):
            if part.startswith("since:"):
                since = part[6:]
            elif part.startswith("until:"):
                until = part[6:]
            else:
                words.append(part.lower().strip('"'))
        if not query.strip():
            return self.assets
        # A search within one day must not walk through all assets.
        assets = self._day(since) if since and since == until else self.assets
        return [
            asset
            for asset in assets
            if since <= asset["created_at"][:10] <= until and all(_matches(asset, word) for word in words)
        ]

    def _day(self, day: str) -> list[dict[str, Any]]:
        if self._indexed != len(self.assets):
            self._indexed, self._days = len(self.assets), {}
            for asset in self.assets:
                self._days.setdefault(asset["created_at"][:10], []).append(asset)
        return self._days.get(day, [])

    def _search(self, request: web.Request) -> dict[str, Any]:
        found = self._found(request.query.get("q", ""))
        after, limit = request.query.get("after"), int(request.query.get("limit") or 50)
        # As in the catalog, a page begins behind the last asset of the one before, whatever came meanwhile.
        start = 1 + next(place for place, asset in enumerate(found) if asset["id"] == after) if after else 0
        end = start + limit
        cursor = found[end - 1]["id"] if end < len(found) else None
        return {
            "assets": found[start:end],
            "total": len(found),
            "has_more": cursor is not None,
            "next_cursor": cursor,
        }

    def _facets(self, request: web.Request) -> dict[str, Any]:
        found = self._found(request.query.get("q", ""))

        def count(values: Any, newest: bool = False) -> list[dict[str, Any]]:
            pairs = (
                sorted(Counter(values).items(), reverse=True) if newest else Counter(values).most_common(100)
            )
            return [{"name": name, "count": number} for name, number in pairs]

        return {
            "models": count(model for asset in found for model in asset["metadata"]["models"]),
            "loras": count(lora["name"] for asset in found for lora in asset["metadata"]["loras"]),
            "samplers": count(asset["metadata"]["sampler"] for asset in found),
            "machines": count(asset["machine"] for asset in found),
            "types": count(_type_of(asset) for asset in found),
            "tags": count(tag for asset in found for tag in asset["tags"]),
            "days": count((asset["created_at"][:10] for asset in found), newest=True),
            "unread": self.unread,
            "loading": self.loading,
            "trouble": self.trouble,
        }

    def _one(self, request: web.Request) -> dict[str, Any]:
        wanted = request.match_info["id"]
        return next(asset for asset in self.assets if asset["id"] == wanted)

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        changes = await request.json()
        self._note(request, changes)
        asset = self._one(request)
        asset.update(changes)
        return web.json_response(asset)

    async def _bring_back(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        return web.json_response({"name": self._one(request)["name"], "subfolder": "", "type": "input"})

    async def _share(self, request: web.Request) -> web.StreamResponse:
        order = await request.json()
        self._note(request, order)
        end = datetime.now(timezone.utc) + timedelta(seconds=order["expires_seconds"])
        until = end.isoformat(timespec="seconds").replace("+00:00", "Z")
        chosen = [asset for asset in self.assets if asset["id"] in order["ids"]]
        links = [
            {"id": one["id"], "name": one["name"], "key": one["key"], "expires_at": until}
            | {"url": f"https://store.example/{one['key']}?signature=abc"}
            for one in chosen
        ]
        album = None
        if order["album"]:
            url = "https://store.example/album.html?signature=abc"
            album = {"title": order["album"], "key": "album.html", "url": url, "expires_at": until}
        share = "share-1" if album or order["strip_metadata"] else None
        errors: list[dict[str, str]] = []
        answer = {"share": share, "album": album, "links": links, "errors": errors, "warnings": []}
        return web.json_response(answer)

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        # A few pictures serve all assets; each shows what its prompt says.
        whole = self._numbers.get(request.match_info["id"], 0)
        number, size = whole % 40, self.picture_size
        if whole < len(self.assets) and (shape := self.assets[whole])["width"] != shape["height"]:
            most = max(shape["width"], shape["height"])
            size = (size[0] * shape["width"] // most, size[1] * shape["height"] // most)
        return web.Response(body=_paint_png(number, size), content_type="image/png")


@functools.cache  # one test after another shows the same pictures
def _paint_png(number: int, size: tuple[int, int]) -> bytes:
    data = io.BytesIO()
    paint(number % 5, number, size).save(data, "PNG")
    return data.getvalue()


def _type_of(asset: dict[str, Any]) -> str:
    kind = asset["mime_type"].split("/")[0]
    return kind if kind in ("image", "video", "audio") else "other"


def _matches(asset: dict[str, Any], word: str) -> bool:
    field, _, value = word.partition(":")
    value = value.strip('"')
    if field == "model":
        return value in asset["metadata"]["models"][0].lower()
    if field == "seed":
        return value == str(asset["metadata"]["seed"])
    if field == "is":
        return bool(asset[value])
    if field == "tag":
        return value in asset["tags"]
    return word in f"{asset['name']} {asset['metadata']['prompt']}".lower()
