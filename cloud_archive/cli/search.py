"""`search` and `show`: find archived files by how they were made."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..terminal import format_table, print_json, print_line
from ..text import count_noun, format_bytes, make_printable, parse_time
from .arguments import WrongUsage
from .asset_source import named_asset, newest_assets
from .catalog_view import DatabaseAssets, catalog_of, graph_of
from .engine_catalog import EngineAssets, catalog_engine, engine_graph
from .options import CatalogDirectory, Json
from .typer_classes import QueryCommand

_PROMPT_CHARACTERS = 60
_STDOUT = "-"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("search", cls=QueryCommand, short_help="Find archived files by how they were made.")(search)
    app.command("show", short_help="Show how one file was made; save its workflow or prompt.")(show)


def search(
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUERY…]", show_default=False, help="Words and conditions; default: all files."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Show at most N files.")] = 20,
    directory: CatalogDirectory = None,
    json: Json = False,
) -> None:
    """Find archived files by prompt, model, LoRA, seed, sampler, name, time and more; the newest first.

    Words and "phrases" search prompts, texts, names and notes. The fields are model: lora: seed: sampler: type: since:
    until: machine: job: tag: is:favorite is:hidden rating: width: height: path: (such as model:flux). A - before a
    condition negates it (fox -tag:draft).
    """
    if limit < 1:
        raise WrongUsage("--limit must be 1 or more.")
    engine, words = catalog_engine(directory), " ".join(query or ())
    if engine is not None:
        found = newest_assets(EngineAssets(engine), words, limit)
    else:
        with catalog_of(directory) as database:
            found = newest_assets(DatabaseAssets(database), words, limit)
    if json:
        print_json(found)
        return
    if found["assets"]:
        for line in format_table([_cells(asset) for asset in found["assets"]]):
            print_line(line)
    shown = len(found["assets"])
    more = "" if shown == found["total"] else f", the newest {shown:,} shown (--limit)"
    print_line(f"{count_noun(found['total'], 'file')} found{more}.")


def _cells(asset: dict[str, Any]) -> list[str]:
    facts = asset["metadata"]
    models = ", ".join(name.rpartition("/")[2] for name in facts["models"])
    prompt = facts["prompt"] or ""
    if len(prompt) > _PROMPT_CHARACTERS:
        prompt = prompt[: _PROMPT_CHARACTERS - 1] + "…"
    return [make_printable(cell) for cell in (_local_day(asset["created_at"]), asset["key"], models, prompt)]


def _local_day(created_at: str) -> str:
    """Return the day of a time, as `since:` and `until:` count days."""
    from ..catalog.local_time import to_local

    seconds = parse_time(created_at).timestamp()
    return to_local(seconds).date().isoformat()


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The file's key, path or id.")],
    workflow: Annotated[
        str | None,
        typer.Option("--workflow", metavar="FILE", help="Write its workflow to FILE; - is standard output."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", metavar="FILE", help="Write its prompt graph to FILE; - is standard output."
        ),
    ] = None,
    directory: CatalogDirectory = None,
    json: Json = False,
) -> None:
    """Show how one archived file was made."""
    parts = [part for part, file in (("workflow", workflow), ("prompt", prompt)) if file is not None]
    engine = catalog_engine(directory)
    if engine is not None:
        asset = named_asset(EngineAssets(engine), key)
        graphs = {part: engine_graph(engine, asset, part) for part in parts}
    else:
        with catalog_of(directory) as database:
            asset = named_asset(DatabaseAssets(database), key)
            graphs = {part: graph_of(database, directory, asset, part) for part in parts}
    for part, file in (("workflow", workflow), ("prompt", prompt)):
        if file is not None:
            _write(file, graphs[part], part)
    if json:
        print_json(asset)
    elif _STDOUT not in (workflow, prompt):
        for line in format_table(_lines(asset), gap="   "):
            print_line(line)


def _write(file: str, graph: Any, part: str) -> None:
    text = json_module.dumps(graph, indent=2)
    if file == _STDOUT:
        sys.stdout.write(text + "\n")
        return
    Path(file).write_text(text + "\n", encoding="utf-8")
    print_line(f"Wrote the {part} to {file}.")


def _lines(asset: dict[str, Any]) -> list[list[str]]:
    facts = asset["metadata"]
    size = f"{asset['width']} x {asset['height']}" if asset["width"] else ""
    shown = {
        "key": asset["key"],
        "id": asset["id"],
        "created": asset["created_at"],
        "size": ", ".join(filter(None, (format_bytes(asset["size"]), size))),
        "machine": asset["machine"],
        "job": asset["job_id"],
        "prompt": facts["prompt"],
        "negative": facts["negative_prompt"],
        "models": ", ".join(facts["models"]),
        "LoRAs": ", ".join(map(_describe_lora, facts["loras"])),
        "seed": facts["seed"],
        "sampler": " ".join(filter(None, (facts["sampler"], facts["scheduler"]))),
        "steps": facts["steps"],
        "cfg": facts["cfg"],
        "read from": facts["source"] and f"{facts['source']}, confidence {facts['confidence']}",
        "tags": ", ".join(asset["tags"]),
        "favourite": "yes" if asset["favorite"] else "",
        "rating": asset["rating"] or None,
        "note": asset["note"],
        "hidden": "yes" if asset["hidden"] else "",
        "graphs": ", ".join(part for part in ("workflow", "prompt") if asset[f"has_{part}"]),
    }
    return [[name, make_printable(str(value))] for name, value in shown.items() if value not in (None, "")]


def _describe_lora(lora: dict[str, Any]) -> str:
    name, strength = lora["name"], lora["strength"]
    return name if strength is None else f"{name} ({strength})"
