"""What ComfyUI loads: a plugin without nodes. Its code is in cloud_archive/."""

import sys

NODE_CLASS_MAPPINGS: dict[str, type] = {}
WEB_DIRECTORY = "./web"
__all__ = ["NODE_CLASS_MAPPINGS", "WEB_DIRECTORY"]

# ComfyUI imports `server` before any plugin; pytest and other tools that import this folder do not.
if "server" in sys.modules:
    from .cloud_archive.comfyui import plugin

    plugin.install()
