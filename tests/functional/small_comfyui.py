"""The part of ComfyUI that the plugin uses, on a real aiohttp."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from .prompt_queue import PromptQueue


class SmallPromptServer:
    """The part of ComfyUI's PromptServer that the plugin uses, with ComfyUI's behaviour."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.app = web.Application()
        self.routes = web.RouteTableDef()
        self.prompt_queue = PromptQueue()
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send_sync(self, event: str, data: dict[str, Any], sid: str | None = None) -> None:
        self.loop.call_soon_threadsafe(self.sent.append, (event, data))

    def add_routes(self) -> None:
        twin = web.RouteTableDef()
        for route in self.routes:
            assert isinstance(route, web.RouteDef)
            twin.route(route.method, "/api" + route.path)(route.handler, **route.kwargs)
        self.app.add_routes(twin)
        self.app.add_routes(self.routes)
