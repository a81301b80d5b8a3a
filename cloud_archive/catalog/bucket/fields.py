"""The columns of a segment's rows: one table for the code, docs/catalog-format.md and the definitions for engines."""

from __future__ import annotations

from typing import Any, NamedTuple

FORMAT_VERSION = 1
"""Of segments. A reader skips a segment of another version, and names it."""

HEADER, PUT, SET, DEL, REPLACES = "header", "put", "set", "del", "replaces"


class Field(NamedTuple):
    """One column.

    Attributes:
        kind: `string`, `long`, `double`, `boolean`, `strings` (a list), or `loras` (a list of name and strength).
        rows: in which rows it can stand.
        meaning: one line for the page.
    """

    name: str
    kind: str
    rows: tuple[str, ...]
    meaning: str


_ALL = (PUT, SET, DEL)
FIELDS: tuple[Field, ...] = (
    Field("op", "string", (HEADER, REPLACES, *_ALL), "what the row is"),
    Field("clock", "double", _ALL, "seconds since 1970: when the file was archived, edited or deleted"),
    Field(
        "machine", "string", _ALL, "the machine that did it; null in a put: not known, the row was rebuilt"
    ),
    Field("key", "string", _ALL, "the object's key; the asset's id is the UUIDv5 (URL) of `s3://BUCKET/KEY`"),
    Field("path", "string", (PUT,), "relative to the watched directory"),
    Field("size", "long", (PUT,), "bytes"),
    Field("mime_type", "string", (PUT,), "such as image/png"),
    Field("sha256", "string", (PUT,), "of the bytes, hexadecimal"),
    Field("created_at", "string", (PUT,), "the file's modification time, ISO 8601 in UTC"),
    Field("mtime_ns", "long", (PUT,), "the same in nanoseconds since 1970"),
    Field("session_id", "string", (PUT,), "the engine's session"),
    Field("job_id", "string", (PUT,), "ComfyUI's prompt id"),
    Field("width", "long", (PUT,), "pixels"),
    Field("height", "long", (PUT,), "pixels"),
    Field("duration_seconds", "double", (PUT,), "of video and audio"),
    Field("prompt", "string", (PUT,), "the positive prompt"),
    Field("negative_prompt", "string", (PUT,), "the negative prompt"),
    Field("models", "strings", (PUT,), "checkpoints and diffusion models"),
    Field("loras", "loras", (PUT,), "each with its strength"),
    Field("seed", "string", (PUT,), "decimal; it may need 64 bits without a sign"),
    Field("sampler", "string", (PUT,), "such as euler"),
    Field("scheduler", "string", (PUT,), "such as karras"),
    Field("steps", "long", (PUT,), "sampling steps"),
    Field("cfg", "double", (PUT,), "guidance scale"),
    Field("denoise", "double", (PUT,), "1 for text to image"),
    Field("input_images", "strings", (PUT,), "names of images that the graph loads"),
    Field("source", "string", (PUT,), "where this was read: job, png, webp, mp4 and so on"),
    Field("confidence", "string", (PUT,), "high or low"),
    Field("texts", "strings", (PUT,), "other texts of the graph; searched"),
    Field("model_names", "strings", (PUT,), "all model files that the graph names"),
    Field("has_workflow", "boolean", (PUT,), "a workflow that the frontend can open"),
    Field("has_prompt", "boolean", (PUT,), "a graph in API format"),
    Field("reader", "long", (PUT,), "version of the reader; a newer one wins"),
    Field(
        "pack", "string", (PUT,), "the pack that holds graphs and thumbnail, such as packs/2026-11-25/….pack"
    ),
    Field("graphs_offset", "long", (PUT,), "in the pack: gzip of {prompt, workflow}"),
    Field("graphs_length", "long", (PUT,), "bytes"),
    Field("thumbnail_offset", "long", (PUT,), "in the pack: a WebP of 320 pixels at the most"),
    Field("thumbnail_length", "long", (PUT,), "bytes"),
    Field("favorite", "boolean", (SET,), "edits hold only what was changed"),
    Field("rating", "long", (SET,), "0 to 5"),
    Field("note", "string", (SET,), "a text"),
    Field("hidden", "boolean", (SET,), "left out of searches"),
    Field("tags_added", "strings", (SET,), "tags put on"),
    Field("tags_removed", "strings", (SET,), "tags taken off"),
    Field("version", "long", (HEADER,), "of this format"),
    Field("written_at", "string", (HEADER,), "ISO 8601 in UTC"),
    Field("written_by", "string", (HEADER,), "the machine that wrote the file"),
    Field("rows", "long", (HEADER,), "put, set and del rows that follow"),
    Field("names", "strings", (REPLACES,), "files whose rows this file repeats: they need not be read"),
)
MAX_LIST = 1000
_MAX_LONG = 1 << 63


def _is_long(value: Any) -> bool:
    return type(value) is int and -_MAX_LONG <= value < _MAX_LONG


def _is_double(value: Any) -> bool:
    # json.loads also reads NaN and Infinity, and whole numbers of any length.
    return type(value) in (int, float) and abs(value) < 1e18


def _is_strings(value: Any) -> bool:
    return type(value) is list and len(value) <= MAX_LIST and set(map(type, value)) <= _STRINGS


def _is_loras(value: Any) -> bool:
    if type(value) is not list or len(value) > MAX_LIST:
        return False
    for one in value:
        if type(one) is not dict or type(one.get("name")) is not str:
            return False
        strength = one.get("strength")
        if strength is not None and not _is_double(strength):
            return False
    return True


_STRINGS = frozenset({str})
# A type, or a function that tells whether a value is sound.
_CHECKS: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "long": _is_long,
    "double": _is_double,
    "strings": _is_strings,
    "loras": _is_loras,
}
_FIELDS_OF: dict[str, dict[str, Any]] = {
    row: {field.name: _CHECKS[field.kind] for field in FIELDS if row in field.rows}
    for row in (*_ALL, HEADER, REPLACES)
}


def checked_row(found: dict[str, Any]) -> dict[str, Any]:
    """Return the row's known fields. ValueError: one has the wrong type, or `op` is none that this version knows."""
    op = found.get("op")
    checks = _FIELDS_OF.get(op) if isinstance(op, str) else None
    if checks is None:
        raise ValueError("unknown op")
    row: dict[str, Any] = {}
    for name, value in found.items():
        check = checks.get(name)
        if check is None or value is None:
            continue
        sound = type(value) is check if check is str or check is bool else check(value)
        if not sound:
            raise ValueError(f"{name} has the wrong type")
        row[name] = value
    return row
