"""Run the `cloud-archive` command or an engine process.

ComfyUI's plugin starts the engine by this file's path. Its folder may have any name, and the interpreter may ignore
PYTHONPATH and the current directory, so this module imports the package under its own name.
"""

from __future__ import annotations

import gc
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path

_PACKAGE = "cloud_archive"


def main() -> int:
    """Run the engine or the command, and return the exit status."""
    gc.disable()  # modules leave little garbage, and looking for it would add a fifth to the time they take to load
    try:
        if sys.argv[1:2] == ["engine"]:
            from cloud_archive.daemon.service import run_engine_process

            return run_engine_process()
        from cloud_archive.cli.start import main as command

        return command(sys.argv[1:])
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == _PACKAGE:
            raise
        print(_explain_missing(error.name), file=sys.stderr)  # noqa: T201
        return 1


def _explain_missing(name: str) -> str:
    here = Path(__file__).parent
    requirements = here.parent / "requirements.txt"
    in_clone = requirements.is_file() and (here.parent / "pyproject.toml").is_file()
    source = ["-r", str(requirements)] if in_clone else ["cloud-archive"]
    words = [sys.executable or "python", "-m", "pip", "install", *source]
    line = subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
    return f"No module named {name}. Run: {line}"


def _name_the_package() -> None:
    """Make the imports above find the package that this script belongs to; it was started by a path or another name."""
    here = Path(__file__).resolve().parent
    # Without -I and -P, Python puts this folder first on the path, and would import our modules as top-level ones.
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    # Not through sys.path, where another Cloud Archive may be installed.
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    if __spec__ is None or __spec__.parent != _PACKAGE:  # not started as `python -m cloud_archive`
        _name_the_package()
    sys.exit(main())
