"""A small stand-in for ComfyUI's server: the calls that the real frontend needs, and no more.

The shapes are those of ComfyUI's `server.py` and `app/` (user_manager, app_settings, custom_node_manager);
every route also has its `/api` twin, as there. What answers `/cloud-sync` is handed in (`attach`), so that the same
frontend can be shown with a scripted model behind and with the real engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Windows reads these from its registry, where they are often wrong; ComfyUI sets them too.
for _suffix, _type in {".js": "application/javascript", ".css": "text/css"}.items():
    mimetypes.add_type(_type, _suffix)

PLUGIN_FOLDER = "cloud-archive"


class ComfyStandIn:
    """A stand-in server: settings of the user, websockets, the plugin's folder.

    Attributes:
        settings: what `/settings` answers; a test sets `Comfy.Locale` or the palette here.
        output: ComfyUI's output directory.
    """

    def __init__(
        self, frontend: Path, plugin_root: Path, output: Path, settings: dict[str, Any] | None = None
    ) -> None:
        self._frontend = frontend
        self._web = plugin_root / "web"
        self._locales = plugin_root / "locales"
        self.output = output
        self._plugin: dict[tuple[str, str], Handler] = {}
        self.settings: dict[str, Any] = {
            "Comfy.TutorialCompleted": True,
            "Comfy.Workflow.Persist": False,
            "Comfy.InstalledVersion": "9.9.9",
            "Comfy.Release.Status": "what's new seen",
            "Comfy.Release.Version": "9.9.9",
            **(settings or {}),
        }
        self._sockets: set[web.WebSocketResponse] = set()

    def attach(self, routes: list[tuple[str, str, Handler]], output: Path) -> None:
        """Serve these (method, path, handler) as the plugin from now on, with this output directory."""
        self._plugin = {(method, path): handler for method, path, handler in routes}
        self.output = output

    def application(self) -> web.Application:
        """The server's aiohttp application."""
        application = web.Application(client_max_size=16 * 2**20)
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/extensions", self._extensions),
            ("GET", "/i18n", self._i18n),
            ("GET", "/settings", self._get_settings),
            ("POST", "/settings", self._post_settings),
            ("POST", "/settings/{id}", self._post_setting),
            ("GET", "/users", _answer({"storage": "server", "migrated": True})),
            ("GET", "/userdata", _answer([])),
            ("GET", "/userdata/{file}", _missing),
            ("POST", "/userdata/{file}", _answer({})),
            ("GET", "/queue", _answer({"queue_running": [], "queue_pending": []})),
            ("GET", "/history", _answer({})),
            ("GET", "/jobs", _answer({"jobs": [], "pagination": _NO_PAGES})),
            ("GET", "/object_info", _answer({})),
            ("GET", "/system_stats", _answer(_SYSTEM_STATS)),
            ("GET", "/features", _answer({})),
            ("GET", "/embeddings", _answer([])),
            ("GET", "/experiment/models", _answer([])),
            ("GET", "/workflow_templates", _answer({})),
            ("GET", "/global_subgraphs", _answer({})),
            ("GET", "/node_replacements", _answer({})),
            ("GET", "/prompt", _answer({"exec_info": {"queue_remaining": 0}})),
            ("GET", "/view", self._view),
            ("GET", "/cloud-sync/{call:.*}", self._ask_plugin),
            ("POST", "/cloud-sync/{call:.*}", self._ask_plugin),
            ("PATCH", "/cloud-sync/{call:.*}", self._ask_plugin),
        ]
        for method, path, handler in routes:
            application.router.add_route(method, path, handler)
            application.router.add_route(method, "/api" + path, handler)
        application.router.add_get("/ws", self._websocket)
        application.router.add_get("/api/ws", self._websocket)
        application.router.add_get("/", self._index)
        application.router.add_static(f"/extensions/{PLUGIN_FOLDER}", self._web)
        application.router.add_get("/user.css", _answer_text("", "text/css"))
        application.router.add_get("/templates/{path:.*}", _answer([]))
        application.router.add_get("/{path:.*}", self._static)
        application.on_shutdown.append(self._close_sockets)
        return application

    async def broadcast(self, event: str, data: dict[str, Any]) -> None:
        """Send one event to every browser, as `PromptServer.send_sync` does."""
        for socket in list(self._sockets):
            if not socket.closed:
                with contextlib.suppress(ConnectionError):  # of a page that is just leaving, as ComfyUI does
                    await socket.send_json({"type": event, "data": data})

    async def drop_sockets(self) -> None:
        """Close every websocket, as a restart of ComfyUI does."""
        await asyncio.gather(*(socket.close() for socket in list(self._sockets)))

    async def _close_sockets(self, _: web.Application) -> None:
        await self.drop_sockets()

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self._frontend / "index.html", headers={"Cache-Control": "no-store"})

    async def _static(self, request: web.Request) -> web.StreamResponse:
        path = self._frontend / request.match_info["path"]
        if path.is_file():
            return web.FileResponse(path)
        raise web.HTTPNotFound

    async def _extensions(self, request: web.Request) -> web.StreamResponse:
        files = sorted(self._frontend.glob("extensions/**/*.js"))
        names = [f"/{file.relative_to(self._frontend).as_posix()}" for file in files]
        for file in sorted(self._web.rglob("*.js")):
            names.append(f"/extensions/{PLUGIN_FOLDER}/{file.relative_to(self._web).as_posix()}")
        return web.json_response(names)

    async def _i18n(self, request: web.Request) -> web.StreamResponse:
        # custom_node_manager.build_translations: main.json at the top, the others under their own name.
        translations: dict[str, Any] = {}
        for language in sorted(path for path in self._locales.iterdir() if path.is_dir()):
            merged: dict[str, Any] = {}
            for name in ("main", "nodeDefs", "commands", "settings"):
                file = language / f"{name}.json"
                if file.is_file():
                    content = json.loads(file.read_text(encoding="utf-8"))
                    merged.update(content if name == "main" else {name: content})
            translations[language.name] = merged
        return web.json_response(translations)

    async def _ask_plugin(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/api")
        for (method, pattern), handler in self._plugin.items():
            found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern), path)
            if method == request.method and found:
                request.match_info.update(found.groupdict())
                return await handler(request)
        raise web.HTTPNotFound

    async def _get_settings(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.settings)

    async def _post_settings(self, request: web.Request) -> web.StreamResponse:
        self.settings.update(await request.json())
        return web.Response()

    async def _post_setting(self, request: web.Request) -> web.StreamResponse:
        self.settings[request.match_info["id"]] = await request.json()
        return web.Response()

    async def _view(self, request: web.Request) -> web.StreamResponse:
        folder = self.output / request.query.get("subfolder", "")
        path = (folder / request.query["filename"]).resolve()
        if not path.is_relative_to(self.output.resolve()) or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            status = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "stand-in"}
            await socket.send_json({"type": "status", "data": status})
            async for message in socket:
                if message.type is WSMsgType.TEXT and "feature_flags" in message.data:
                    await socket.send_json({"type": "feature_flags", "data": {}})
        finally:
            self._sockets.discard(socket)
        return socket


def _answer(data: Any) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(data)

    return handler


def _answer_text(text: str, content_type: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=content_type)

    return handler


async def _missing(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


_NO_PAGES = {"offset": 0, "limit": 200, "total": 0, "has_more": False}

_SYSTEM_STATS = {
    "system": {
        "os": "linux",
        "ram_total": 8 * 2**30,
        "ram_free": 4 * 2**30,
        "comfyui_version": "0.33.0",
        "required_frontend_version": "1.27.10",
        "installed_templates_version": "",
        "required_templates_version": "",
        "python_version": "3.11",
        "pytorch_version": "2.9",
        "embedded_python": False,
        "argv": ["main.py"],
    },
    "devices": [
        {
            "name": "cpu",
            "type": "cpu",
            "index": 0,
            "vram_total": 8 * 2**30,
            "vram_free": 4 * 2**30,
            "torch_vram_total": 0,
            "torch_vram_free": 0,
        }
    ],
}
