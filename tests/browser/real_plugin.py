"""Our plugin with a real engine, in place of the scripted model in ComfyUI's stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from cloud_archive.comfyui.engine_client import EngineClient
from cloud_archive.comfyui.plugin import Plugin
from tests.browser.comfy_stand_in import ComfyStandIn
from tests.browser.stage import Scene


class PromptServerStandIn:
    """The part of ComfyUI's PromptServer that our plugin uses."""

    def __init__(self, comfy: ComfyStandIn, loop: asyncio.AbstractEventLoop) -> None:
        self.routes = web.RouteTableDef()
        self.loop = loop
        self.app = web.Application()
        self._comfy = comfy

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        """Send an event from any thread; it is encoded later, as in ComfyUI."""
        asyncio.run_coroutine_threadsafe(self._comfy.broadcast(event, data), self.loop)


@contextmanager
def real_plugin(scene: Scene, output: Path, state: Path) -> Iterator[None]:
    """Put our plugin in place of the scripted model, which is silent meanwhile; it starts the engine as its child."""
    comfy = scene.comfy
    assert comfy is not None
    prompt_server = PromptServerStandIn(comfy, scene.background.loop)
    before = comfy.output

    async def start() -> None:
        client = EngineClient(
            output, state, on_status=lambda status: prompt_server.send_sync("cloud-sync.status", status)
        )
        Plugin(prompt_server, client).install()
        routes = [route for route in prompt_server.routes if isinstance(route, web.RouteDef)]
        comfy.attach([(route.method, route.path, route.handler) for route in routes], output)
        for begin in prompt_server.app.on_startup:
            await begin(prompt_server.app)

    async def stop() -> None:
        for end in prompt_server.app.on_shutdown:
            await end(prompt_server.app)
        comfy.attach([*scene.model.routes(), *scene.catalog.routes()], before)

    scene.model.down = True
    scene.background.run(start())
    try:
        yield
    finally:
        scene.background.run(stop())
        scene.model.down = False
