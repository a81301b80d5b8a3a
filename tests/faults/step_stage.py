"""What the cases of one block share: the store, the proxy, connections, and the parent of children."""

from __future__ import annotations

import os
from contextlib import ExitStack
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.mortal import Mortals
from tests.faults.proxy import FaultProxy
from tests.faults.truth import BucketReader
from tests.faults.world import Stores, World

if TYPE_CHECKING:
    from tests.servers import S3Server


class Stage:
    """What the cases of a block share: the store, the proxy before it, connections, and the parent of children."""

    def __init__(self, server: S3Server, directory: Path, seed: int) -> None:
        self.server = server
        self.directory = directory
        self.seed = seed
        self.reader = BucketReader(server.client, server.bucket)
        self._life = ExitStack()

    def __enter__(self) -> Stage:
        self.proxy = self._life.enter_context(FaultProxy(self.server.endpoint, seed=self.seed))
        environ = self.server.environ(S3_ENDPOINT_URL=self.proxy.url)
        self.stores = Stores(environ)
        self._life.callback(self.stores.close)
        self._probe_store()
        if hasattr(os, "fork"):
            assert self.stores.known is not None
            self.mortals = self._life.enter_context(Mortals(environ, dumps(self.stores.known.to_json())))
        return self

    def __exit__(self, *_: object) -> None:
        self._life.close()

    def _probe_store(self) -> None:
        """Probe the store's capabilities as an archive's first file does."""
        store = self.stores.make()
        world = World(self.directory / f"first-{self.proxy.port}", f"first/{self.proxy.port}", store)
        (world.root / "first.bin").write_bytes(b"first")
        assert world.heal()
        world.close()
        store.probe_with_own_object()  # and of multipart uploads
        self.stores.known = store.capabilities
        self.stores.warm(f"first/{self.proxy.port}/warm")
