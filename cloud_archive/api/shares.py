"""The engine's answers about shares."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .gallery import scope_of
from .lanes import Lanes
from .routes import ROUTES, Arguments

if TYPE_CHECKING:
    from ..archive.engine import Engine

_SECONDS = {route.name: route.timeout_seconds for route in ROUTES}


class ShareHandlers:
    """One method for each route of shares, named like it."""

    def __init__(self, engine: Engine, lanes: Lanes, *, public: bool) -> None:
        self._engine = engine
        self._lanes = lanes
        self._public = public

    async def share(self, request: web.Request, asked: Arguments) -> web.Response:
        from ..sharing.share import ShareOrder

        ids = [uuid.UUID(identity) for identity in asked["ids"]]
        how = {name: value for name, value in asked.items() if name != "ids"}

        def call() -> dict[str, Any]:
            catalog = self._engine.catalog()
            scope = scope_of(request, catalog, public=self._public)
            for identity in ids:
                scope.check(catalog.asset(identity))
            return self._engine.share(ids, ShareOrder(**how))

        return web.json_response(await self._lanes.run("share", call, _SECONDS["share"]))
