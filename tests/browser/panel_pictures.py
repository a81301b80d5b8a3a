"""Take a picture of each state of the panel: `python -m tests.browser.panel_pictures DIRECTORY`.

For people who work on the panel, and for the pictures in the README. It asserts nothing.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.browser.sample_pictures import paint
from tests.browser.scripted_model import ScriptedModel, a_file, a_status, from_now
from tests.browser.stage import (
    CHROMIUM_ARGUMENTS,
    Background,
    Scene,
    comfy_scene,
    current_frontend,
    dashboard_scene,
    old_frontend,
)
from tests.chromium import find_chromium

_NAMES = (
    "portraits/aurora_00012_.png",
    "portraits/aurora_00013_.png",
    "landscapes/fjord_00004_.png",
    "clips/harbour_00002_.mp4",
    "landscapes/fjord_00005_.png",
    "voice/narration_00001_.flac",
    "ComfyUI_00231_.png",
    "ComfyUI_00232_.png",
)
_QUIET = {"Comfy.Workflow.ShowMissingNodesWarning": False, "Comfy.Minimap.Visible": False}
_REFUSED: dict[str, Any] = {
    "cause": "Nothing answers at the endpoint: the connection was refused.",
    "cure": "Check S3_ENDPOINT_URL (host and port), and that the store is running.",
}


def paint_outputs(output: Path) -> None:
    """Paint pictures for the list of files."""
    for number, name in enumerate(_NAMES):
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".png":
            path.write_bytes(b"not shown")
            continue
        image = Image.new("RGB", (160, 160))
        draw = ImageDraw.Draw(image)
        for row in range(160):
            mix = row / 160
            tint = [int(127 + 110 * math.sin(number * 1.7 + part * 2 + mix * 2)) for part in range(3)]
            draw.line([(0, row), (160, row)], fill=(tint[0], tint[1], tint[2]))
        for hill in range(3):
            line = [(x, 90 + hill * 24 + 14 * math.sin(x / 22 + hill * 2 + number)) for x in range(161)]
            draw.polygon([*line, (160, 160), (0, 160)], fill=(30 + hill * 12, 38 + number * 6, 60 - hill * 9))
        image.save(path)


def furnish(model: ScriptedModel) -> None:
    """Give the model a ledger, a day of uploads, and a check that passed."""
    sizes = (2_411_724, 2_398_110, 3_120_554, 41_234_567, 3_001_223, 8_812_001, 1_843_200, 1_902_331)
    now = datetime.now(timezone.utc)
    model.files = []
    for number in range(120):
        name = _NAMES[number % 8].replace("_0", f"_{number // 8}", 1) if number > 7 else _NAMES[number]
        ago = (now - timedelta(minutes=3 * number + 1)).isoformat()
        model.files.append(a_file(name, size_bytes=sizes[number % 8], uploaded_at=ago))
    model.report = [
        {
            "start": (now - timedelta(hours=back)).replace(minute=0, second=0, microsecond=0).isoformat(),
            "files": int(18 + 16 * math.sin(back / 3)),
            "bytes": int(7e7 * (1.2 + math.sin(back / 2.2))),
        }
        for back in range(20)
        if back not in (7, 8, 9)
    ]
    model.check = [
        {"name": "Name resolves", "ok": True, "cause": "s3.example.net: 203.0.113.7", "cure": ""},
        {"name": "Credentials are accepted", "ok": True, "cause": "", "cure": ""},
        {"name": "Write, read back, delete", "ok": True, "cause": "214 ms", "cure": ""},
        {"name": "Create-only writes", "ok": True, "cause": "honoured", "cure": ""},
    ]


def recent(count: int = 6) -> list[dict[str, Any]]:
    """Return the newest uploads, oldest first."""
    sizes = (2_411_724, 2_398_110, 3_120_554, 41_234_567, 3_001_223, 8_812_001)
    return [
        {
            "file_name": _NAMES[place],
            "s3_key": f"comfyui-outputs/2026-04/{_NAMES[place]}",
            "upload_time": from_now(-40 - 95 * place),
            "size_bytes": sizes[place],
            **({} if _NAMES[place].endswith(".flac") else {"asset_id": str(place)}),
        }
        for place in reversed(range(count))
    ]


def add_thumbnails(page: Page) -> None:
    """Answer with a painted picture where the page asks for the thumbnail of `recent`."""

    def answer(route: Route) -> None:
        place = int(urlsplit(route.request.url).path.split("/")[-2])
        picture = io.BytesIO()
        paint(place, seed=place, size=(160, 160)).save(picture, "PNG")
        route.fulfill(body=picture.getvalue(), content_type="image/png")

    page.route("**/assets/*/thumbnail*", answer)


def states(model: ScriptedModel) -> dict[str, Callable[[], None]]:
    """Return, by name of the picture, a function that sets the model's state."""
    counted = {"total_files": 231, "uploaded_files": 228, "already_archived_files": 3, "archived_files": 1521}

    def settle(**changes: Any) -> None:
        furnish(model)
        model.status = a_status(**counted, recent_uploads=recent(), **changes)

    def uploading() -> None:
        settle(
            state="uploading",
            uploading=True,
            safe_to_stop=False,
            pending_files=3,
            pending_bytes=49_411_724,
            unsent_bytes=24_411_724,
            rate_bytes_per_second=2_060_000,
            seconds_left=12,
            active=[
                _moving("clips/harbour_00003_.mp4", 38_000_000, 24_400_000),
                _moving("portraits/aurora_00014_.png", 2_411_724, 600_000),
            ],
            waiting=[{"file_name": "clips/x.mp4", "size_bytes": 9_000_000, "reason": "still being written"}],
        )

    def retrying() -> None:
        settle(
            state="retrying",
            safe_to_stop=False,
            failed_files=0,
            pending_files=5,
            retrying_files=5,
            pending_bytes=31_000_000,
            unsent_bytes=31_000_000,
            errors=[f"{_REFUSED['cause']} {_REFUSED['cure']}"],
        )
        failed = [
            a_file(name, "failed", **_REFUSED, attempts=3, next_try_at=from_now(24 + 3 * place))
            for place, name in enumerate(_NAMES[:5])
        ]
        model.files = [*failed, *model.files]

    def attention() -> None:
        settle(safe_to_stop=False, failed_files=1, retrying_files=1, pending_files=1, unsent_bytes=1_843_200)
        cause = "The object key is longer than the store allows."
        key = a_file(
            f"{'deep/' * 9}a_very_long_name_00001_.png",
            "failed",
            cause=cause,
            cure="Shorten the file's path.",
            attempts=1,
        )
        denied = a_file(
            "private/clip_00001_.mp4",
            "failed",
            cause="The store denies access: these credentials may not write here.",
            cure="Allow s3:PutObject on the bucket and prefix for them, and check S3_BUCKET.",
            attempts=4,
            next_try_at=from_now(3600),
        )
        model.files = [key, denied, *model.files]

    def not_configured() -> None:
        model.files, model.report = [], []
        model.status = a_status(
            state="not_configured",
            running=False,
            safe_to_stop=False,
            errors=["S3_BUCKET is not set: the bucket's name", "S3_ACCESS_KEY_ID is not set: the access key"],
            destination={"endpoint": "", "bucket": "", "prefix": ""},
        )

    def unarchived() -> None:
        settle(baseline_files=5, skipped_files=3)
        older = [a_file(f"older/render_{number:05}_.png", "baseline") for number in range(5)]
        skipped = [
            a_file(".cache/", "skipped", 0, reason="hidden"),
            a_file("notes.txt", "skipped", reason="not_included"),
            a_file("portraits/aurora_00015_.png.part", "skipped", reason="temporary"),
        ]
        model.files = [*older, *skipped, *model.files]

    def stopping() -> None:
        uploading()
        model.status |= {"state": "stopped", "running": False, "uploading": False}

    return {
        "idle": settle,
        "unverified": lambda: settle(
            state="retrying",
            connection_verified=False,
            errors=["The store does not know this access key. Check S3_ACCESS_KEY_ID."],
        ),
        "stopping": stopping,
        "unarchived": unarchived,
        "uploading": uploading,
        "retrying": retrying,
        "attention": attention,
        "stopped": lambda: settle(state="stopped", running=False),
        "standby": lambda: settle(state="standby", running=False),
        "starting": lambda: settle(state="starting", safe_to_stop=False),
        "checking": lambda: settle(safe_to_stop=False),
        "unavailable": lambda: settle(
            state="unavailable",
            running=False,
            safe_to_stop=False,
            errors=["The engine ended unexpectedly (signal 9); it is started again in 4 s."],
        ),
        "not_configured": not_configured,
    }


def _moving(name: str, size: int, sent: int) -> dict[str, Any]:
    key = f"comfyui-outputs/2026-04/{name}"
    return {"file_name": name, "size_bytes": size, "sent_bytes": sent, "s3_key": key}


def _open_comfy(browser: Browser, scene: Scene) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    add_thumbnails(page)
    page.goto(scene.address)
    page.wait_for_function(
        "window.app?.extensionManager?.getSidebarTabs().some(t => t.id === 'cloud-archive')"
    )
    page.wait_for_selector("#splash-loader", state="detached")
    page.evaluate(
        "app.graph.clear(); (app.extensionManager.toast.dismissAll ?? app.extensionManager.toast.removeAll)()"
    )
    page.evaluate("app.extensionManager.sidebarTab.toggleSidebarTab('cloud-archive')")
    page.wait_for_selector("cloud-archive-panel")
    return page


def main(target: Path, only: list[str]) -> None:
    """Write the pictures into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    output = target / "output"
    paint_outputs(output)
    background = Background()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_ARGUMENTS))
        for scheme in ("dark", "light"):
            with dashboard_scene(background) as scene:
                context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
                page = context.new_page()
                add_thumbnails(page)
                for name, prepare in states(scene.model).items():
                    if only and name not in only:
                        continue
                    prepare()
                    for width in (312, 1200):
                        page.set_viewport_size({"width": width, "height": 900})
                        page.goto(scene.address)
                        page.wait_for_timeout(800)
                        page.screenshot(path=target / f"{name}-{width}-{scheme}.png", full_page=True)
                context.close()
        for label, frontend in (("new", current_frontend()), ("old", old_frontend())):
            for scheme in ("dark", "light"):
                for language in ("en", "ja", "zh") if scheme == "dark" else ("en",):
                    settings = {"Comfy.ColorPalette": scheme, "Comfy.Locale": language, **_QUIET}
                    with comfy_scene(background, frontend, output, settings) as scene:
                        set_up = states(scene.model)
                        set_up["uploading"]()
                        page = _open_comfy(browser, scene)
                        page.wait_for_timeout(1500)
                        page.screenshot(path=target / f"comfy-{label}-{scheme}-{language}.png")
                        if language == "en":
                            set_up["retrying"]()
                            scene.push()
                            page.wait_for_timeout(700)
                            page.screenshot(path=target / f"comfy-{label}-{scheme}-retrying.png")
                        page.close()
        browser.close()
    background.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
