"""How ComfyUI loads the plugin, and how the engine starts by its path."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.routes import ROUTES
from tests.plugin_loading import load_plugins, make_plugins

REPOSITORY = Path(__file__).parents[2]


# --- loading as ComfyUI does


@pytest.fixture(scope="module")
def plugin_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A plugin that does nothing, and ours in a folder with an awkward name."""
    return make_plugins(tmp_path_factory.mktemp("custom nodes v1.2-x"))


def test_comfyui_loads_nothing_of_ours_but_the_face(plugin_folders: tuple[Path, Path]) -> None:
    found = load_plugins(plugin_folders, "-I")
    assert found["routes"] == len(ROUTES)
    new = set(found["new"])
    empty, own = (str(folder).replace(".", "_x_") for folder in plugin_folders)
    foreign = {name.partition(".")[0] for name in new if not name.startswith((empty, own))}
    assert foreign <= set(sys.stdlib_module_names)
    ours = {name.removeprefix(own).lstrip(".") for name in new if name.startswith(own)}
    assert ours == {"", "cloud_archive"} | {
        f"cloud_archive.{name}"
        for name in (
            "api",
            "api.asset_arguments",
            "api.checks",
            "api.events",
            "api.job_arguments",
            "api.routes",
            "api.share_arguments",
            "catalog",
            "catalog.limits",
            "comfyui",
            "comfyui.announcements",
            "comfyui.bring_back",
            "comfyui.child_process",
            "comfyui.engine_client",
            "comfyui.engine_connection",
            "comfyui.job_capture",
            "comfyui.job_description",
            "comfyui.plugin",
            "errors",
            "executor",
            "handshake",
            "redaction",
            "text",
        )
    }


# --- starting the engine by path


def run_main(plugin: Path, *arguments: str, flags: tuple[str, ...] = ("-I",), **more: Any) -> Any:
    command = [sys.executable, *flags, str(plugin / "cloud_archive" / "__main__.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


@pytest.mark.parametrize("flags", [("-I",), (), ("-s", "-E")])
def test_the_engine_starts_by_path_in_an_interpreter_of_any_flags(
    plugin_folders: tuple[Path, Path], flags: tuple[str, ...], tmp_path: Path
) -> None:
    shadow = "raise RuntimeError('the wrong one')"
    for name in ("keys.py", "cloud_archive.py"):
        (tmp_path / name).write_text(shadow)
    done = run_main(plugin_folders[1], "engine", input="no orders\n", flags=flags, cwd=tmp_path)
    assert done.returncode == 2
    assert "orders on standard input" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_starts_by_its_folder_without_a_warning(
    plugin_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "cloud_archive.py").write_text("raise RuntimeError('the wrong one')")
    command = [sys.executable, "-W", "error", str(plugin_folders[1] / "cloud_archive"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cloud-archive" in done.stdout


def test_the_command_starts_as_a_module_in_the_plugins_folder(
    plugin_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(plugin_folders[1], tmp_path / "cloud-archive")
    command = [sys.executable, "-m", "cloud-archive.cloud_archive", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_dependency_is_one_sentence_with_the_command(tmp_path: Path) -> None:
    package = tmp_path / "a plugin" / "cloud_archive"
    package.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(REPOSITORY / "cloud_archive" / name, package)
    (package / "daemon").mkdir()
    (package / "daemon" / "service.py").write_text("import some_module_that_is_missing\n")
    done = run_main(package.parent, "engine")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("No module named some_module_that_is_missing. Run: ")
    assert "pip install cloud-archive" in done.stderr
    for name in ("requirements.txt", "pyproject.toml"):
        (package.parent / name).write_text("")
    assert (
        "requirements.txt" + ('"' if sys.platform == "win32" else "'")
        in run_main(package.parent, "engine").stderr
    )


def test_a_module_of_ours_that_is_missing_is_a_bug_and_shown_as_one(tmp_path: Path) -> None:
    package = tmp_path / "cloud_archive"
    package.mkdir()
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(REPOSITORY / "cloud_archive" / name, package)
    assert "Traceback" in run_main(tmp_path, "engine").stderr


def test_our_modules_are_no_top_level_ones_for_other_packages(tmp_path: Path) -> None:
    package = tmp_path / "cloud_archive"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "keys.py"):
        shutil.copy(REPOSITORY / "cloud_archive" / name, package)
    (package / "daemon").mkdir()
    (package / "daemon" / "service.py").write_text("import keys\n")
    assert run_main(tmp_path, "engine", flags=()).stderr.startswith("No module named keys. ")
