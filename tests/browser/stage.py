"""Servers on a thread of their own, for a browser: the base of every test here."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from filelock import FileLock

from cloud_archive.demo.seaweedfs import free_ports
from tests.browser.comfy_stand_in import ComfyStandIn
from tests.browser.scripted_catalog import ScriptedCatalog
from tests.browser.scripted_model import ScriptedModel
from tests.listeners import stop_accepting

T = TypeVar("T")

PLUGIN_ROOT = Path(__file__).parents[2]
OLD_FRONTEND = "1.27.10"

# For tests that do not depend on the frontend's version; all others also run on the oldest supported one.
CURRENT_FRONTEND = pytest.mark.parametrize("frontend", ["current"], indirect=True, scope="session")
# Ours replaces Playwright's own switch of this name, so the entries of its list that matter here are repeated.
_FEATURES_OFF = (
    "WebUIOmniboxAimPopup",  # two pages for each window's address bar, which headless windows never show: 0.7 s
    "WebUIOmniboxPopup",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
)
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",  # containers without user namespaces
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no test leaves this machine
    f"--disable-features={','.join(_FEATURES_OFF)}",
)


def current_frontend() -> Path:
    """The static files of the installed `comfyui-frontend-package`."""
    import comfyui_frontend_package  # only the tests that show ComfyUI need it

    return Path(comfyui_frontend_package.__file__).parent / "static"


def old_frontend() -> Path:
    """The static files of the oldest supported frontend, downloaded once and kept between runs.

    Raises:
        subprocess.CalledProcessError: pip can't download it.
    """
    kept = Path(tempfile.gettempdir()) / f"cloud-archive-tests-frontend-{OLD_FRONTEND}"
    static = kept / "comfyui_frontend_package" / "static"
    with FileLock(f"{kept}.lock"):
        if not (static / "index.html").is_file():
            wanted = f"comfyui-frontend-package=={OLD_FRONTEND}"
            options = ["install", "--quiet", "--no-deps", "--disable-pip-version-check"]
            command = [sys.executable, "-m", "pip", *options, "--target", str(kept), wanted]
            subprocess.run(command, check=True, capture_output=True, timeout=180)
    return static


class Background:
    """An event loop on a thread of its own.

    Attributes:
        port: where servers take turns, so that the browser keeps their scripts.
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-servers", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_seconds: float = 60) -> T:
        """Run a coroutine there and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_seconds)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, for code that submits work itself."""
        return self._loop

    def close(self) -> None:
        """End the loop and its thread."""
        self.run(self._cancel_the_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_the_rest(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    @contextmanager
    def serving(self, application: web.Application, port: int = 0) -> Iterator[str]:
        """Serve an application on loopback; yield its address, such as `http://127.0.0.1:1234`."""
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)

        async def start() -> int:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            return int(runner.addresses[0][1])

        try:
            yield f"http://127.0.0.1:{self.run(start())}"
        finally:
            self.run(_stop(runner))


async def _stop(runner: web.AppRunner) -> None:
    await stop_accepting(runner)
    await runner.cleanup()


@dataclass
class Scene:
    """A running server with the scripted model behind it."""

    address: str
    model: ScriptedModel
    background: Background
    comfy: ComfyStandIn | None = None
    catalog: ScriptedCatalog = field(default_factory=ScriptedCatalog)

    def show(self, **changes: Any) -> None:
        """Change the status and push it."""
        self.model.status = {**self.model.status, **changes}
        self.push()

    def hang(self) -> None:
        """Let the server neither answer nor push while its connections stay open, as a stopped process does."""
        self.model.hung = asyncio.Event()

    def go_on(self) -> None:
        """End `hang`."""
        hung, self.model.hung = self.model.hung, None
        if hung is not None:
            self.background.loop.call_soon_threadsafe(hung.set)

    def push(self) -> None:
        """Push the status as it is."""
        self.background.run(self.model.push())


@contextmanager
def beating(background: Background, model: ScriptedModel) -> Iterator[None]:
    """Let the model push its status again and again while the block runs."""
    beats = asyncio.run_coroutine_threadsafe(model.beat(), background.loop)
    try:
        yield
    finally:
        beats.cancel()


@contextmanager
def comfy_scene(
    background: Background,
    frontend: Path,
    output: Path,
    settings: dict[str, Any] | None = None,
    catalog: ScriptedCatalog | None = None,
) -> Iterator[Scene]:
    """ComfyUI's stand-in with a real frontend and the scripted model."""
    comfy, model = ComfyStandIn(frontend, PLUGIN_ROOT, output, settings), ScriptedModel()
    catalog = catalog or ScriptedCatalog()
    model.on_push = comfy.broadcast
    comfy.attach([*model.routes(), *catalog.routes()], output)
    application = comfy.application()
    application.on_shutdown.append(model.end_streams)
    with background.serving(application) as address, beating(background, model):
        yield Scene(address, model, background, comfy, catalog)


@contextmanager
def dashboard_scene(background: Background, catalog: ScriptedCatalog | None = None) -> Iterator[Scene]:
    """The daemon's page with the scripted model."""
    model, application = ScriptedModel(), web.Application()
    catalog = catalog or ScriptedCatalog()

    async def index(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PLUGIN_ROOT / "web" / "index.html")

    for method, path, handler in [*model.routes(), *catalog.routes()]:
        application.router.add_route(method, path, handler)

    async def keep(request: web.Request, answer: web.StreamResponse) -> None:
        if request.path.endswith(".js"):
            answer.headers["Cache-Control"] = "max-age=3600"

    application.router.add_get("/", index)
    application.router.add_static("/", PLUGIN_ROOT / "web")
    application.on_response_prepare.append(keep)
    application.on_shutdown.append(model.end_streams)
    with background.serving(application, background.port) as address, beating(background, model):
        yield Scene(address, model, background, None, catalog)
