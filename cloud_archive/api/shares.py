"""Answer `POST /cloud-sync/share`."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .gallery import scope_of
from .lanes import Lanes
from .routes import ROUTE_SECONDS, Arguments

if TYPE_CHECKING:
    from ..archive.engine import Engine


class ShareHandlers:
    """Answer the route `share`; the method has the route's name."""

    def __init__(self, engine: Engine, lanes: Lanes, *, public: bool) -> None:
        self._engine = engine
        self._lanes = lanes
        self._public = public

    async def share(self, request: web.Request, arguments: Arguments) -> web.Response:
        from ..sharing.share import ShareOrder

        ids = [uuid.UUID(identity) for identity in arguments["ids"]]
        options = {name: value for name, value in arguments.items() if name != "ids"}
        abandoned = threading.Event()  # the client went away, or the time is up

        def call() -> dict[str, Any]:
            catalog = self._engine.catalog()
            scope = scope_of(request, catalog, public=self._public)
            for identity in ids:
                scope.check(catalog.asset(identity))
            return self._engine.share(ids, ShareOrder(**options), abandoned.is_set)

        try:
            return web.json_response(await self._lanes.run("share", call, ROUTE_SECONDS["share"]))
        finally:
            abandoned.set()
