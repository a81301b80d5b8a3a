"""Load the plugin as ComfyUI does, in an interpreter of its own, after a plugin that does nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
LOAD = """
import importlib.util, json, sys, time, types, asyncio
import aiohttp.web, logging.handlers  # ComfyUI has loaded these
server = types.ModuleType("server")
class PromptServer: pass
PromptServer.instance = PromptServer()
PromptServer.instance.routes = aiohttp.web.RouteTableDef()
PromptServer.instance.app = aiohttp.web.Application()
PromptServer.instance.loop = asyncio.new_event_loop()
server.PromptServer = PromptServer
sys.modules["server"] = server
def load(path):
    name = path.replace(".", "_x_")
    began = time.perf_counter()
    spec = importlib.util.spec_from_file_location(name, path + "/__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return time.perf_counter() - began
before = set(sys.modules)
base = load(sys.argv[1])
taken = load(sys.argv[2])
PromptServer.instance.loop.close()
new = sorted(set(sys.modules) - before)
routes = len(PromptServer.instance.routes)
print(json.dumps({"base_seconds": base, "seconds": taken, "new": new, "routes": routes}))
"""


def make_plugins(base: Path) -> tuple[Path, Path]:
    """Make a plugin that does nothing, and ours in a folder with an awkward name; return both folders."""
    empty = base / "empty"
    empty.mkdir()
    (empty / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    ours = base / "Cloud Archive-0.1 (copy)"
    ours.mkdir()
    shutil.copy(REPOSITORY / "__init__.py", ours)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "cloud_archive", ours / "cloud_archive", ignore=ignore)
    return empty, ours


def load_plugins(folders: tuple[Path, Path], *flags: str) -> dict[str, Any]:
    """Load both.

    Returns:
        `base_seconds` and `seconds` that each took, the modules that are `new` since, and how many `routes` there are.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *flags, "-c", LOAD, *map(str, folders)],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env=environment,
    )
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found
