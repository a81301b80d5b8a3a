"""The columns of a segment's rows: one table for the code, docs/catalog-format.md and the tables of query engines."""

from __future__ import annotations

from typing import Any, NamedTuple

FORMAT_VERSION = 1
"""The version of the segments' format. A reader refuses a segment of another version."""

HEADER, PUT, SET, DEL, REPLACES = "header", "put", "set", "del", "replaces"


class Field(NamedTuple):
    """One column.

    Attributes:
        kind: `string`, `long`, `double`, `boolean`, `strings` (a list), or `loras` (a list of name and strength).
        rows: the `op` of each kind of row that can have it.
        meaning: one line for docs/catalog-format.md.
    """

    name: str
    kind: str
    rows: tuple[str, ...]
    meaning: str


_ALL = (PUT, SET, DEL)
FIELDS: tuple[Field, ...] = (
    Field("op", "string", (HEADER, REPLACES, *_ALL), "what the row is"),
    Field(
        "clock",
        "double",
        _ALL,
        "seconds since 1970, by the writer's clock: when the file was archived, edited or deleted; of a rebuilt row, by"
        " the store's clock: when the object was written",
    ),
    Field(
        "machine",
        "string",
        _ALL,
        "name of the machine that archived, edited or deleted the file; a rebuilt row has none (see below)",
    ),
    Field(
        "key",
        "string",
        _ALL,
        "the object's key. The asset's id is the UUIDv5 of `s3://BUCKET/KEY` in the URL namespace",
    ),
    Field("path", "string", (PUT,), "the file's path relative to the watched directory, with `/`"),
    Field("size", "long", (PUT,), "the object's size in bytes"),
    Field("mime_type", "string", (PUT,), "such as image/png"),
    Field("sha256", "string", (PUT,), "SHA-256 of the object's bytes, 64 hexadecimal digits"),
    Field("created_at", "string", (PUT,), "the file's modification time, ISO 8601 in UTC"),
    Field("mtime_ns", "long", (PUT,), "the file's modification time, nanoseconds since 1970"),
    Field("session_id", "string", (PUT,), "UUID of the engine's session that archived the file"),
    Field("job_id", "string", (PUT,), "prompt id of the ComfyUI job that wrote the file"),
    Field("width", "long", (PUT,), "pixels"),
    Field("height", "long", (PUT,), "pixels"),
    Field("duration_seconds", "double", (PUT,), "length of a video, sound or animation"),
    Field("prompt", "string", (PUT,), "the positive prompt, up to 100,000 characters of it"),
    Field("negative_prompt", "string", (PUT,), "the negative prompt, up to 100,000 characters of it"),
    Field("models", "strings", (PUT,), "checkpoints and diffusion models, then VAEs and text encoders"),
    Field("loras", "loras", (PUT,), "LoRAs, each with its strength"),
    Field(
        "seed",
        "string",
        (PUT,),
        "decimal digits; values go up to 2^64 - 1, more than a signed 64-bit integer holds",
    ),
    Field("sampler", "string", (PUT,), "such as euler"),
    Field("scheduler", "string", (PUT,), "such as karras"),
    Field("steps", "long", (PUT,), "sampling steps"),
    Field("cfg", "double", (PUT,), "guidance scale"),
    Field("denoise", "double", (PUT,), "the sampler's denoise; 1 for text to image"),
    Field("input_images", "strings", (PUT,), "file names of the images and other media that the graph loads"),
    Field(
        "source",
        "string",
        (PUT,),
        "where the description was read from: job (the ComfyUI job), or the file's format, such as png or mp4",
    ),
    Field("confidence", "string", (PUT,), "high, or low where the graph leaves doubt"),
    Field("texts", "strings", (PUT,), "other texts in the graph, for full-text search"),
    Field(
        "model_names",
        "strings",
        (PUT,),
        "names of the graph's other model files: those that neither `models` nor `loras` holds",
    ),
    Field(
        "has_workflow", "boolean", (PUT,), "whether a workflow is known, which ComfyUI's frontend can open"
    ),
    Field("has_prompt", "boolean", (PUT,), "whether a prompt graph in ComfyUI's API format is known"),
    Field(
        "reader",
        "long",
        (PUT,),
        "version of the program's metadata reader that described the file; greater is better",
    ),
    Field("pack", "string", (PUT,), "name, below `v1/`, of the pack that holds the graphs and the thumbnail"),
    Field("graphs_offset", "long", (PUT,), "where the graphs begin in the pack, in bytes"),
    Field("graphs_length", "long", (PUT,), "how long the graphs are, in bytes"),
    Field("thumbnail_offset", "long", (PUT,), "where the thumbnail begins in the pack, in bytes"),
    Field("thumbnail_length", "long", (PUT,), "how long the thumbnail is, in bytes"),
    Field("favorite", "boolean", (SET,), "marked as a favourite"),
    Field("rating", "long", (SET,), "0 to 5"),
    Field("note", "string", (SET,), "the user's note"),
    Field("hidden", "boolean", (SET,), "left out of searches unless they ask for hidden files"),
    Field("tags_added", "strings", (SET,), "tags that were added"),
    Field("tags_removed", "strings", (SET,), "tags that were removed"),
    Field("version", "long", (HEADER,), "the version of this format: 1"),
    Field("written_at", "string", (HEADER,), "when the segment or month file was written, ISO 8601 in UTC"),
    Field("written_by", "string", (HEADER,), "the machine that wrote the segment or month file"),
    Field("rows", "long", (HEADER,), "how many put, set and del rows follow"),
    Field(
        "names",
        "strings",
        (REPLACES,),
        "names, below `v1/`, of the segments and month files whose rows this month file repeats",
    ),
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
# A type, or a function that returns whether a value is valid.
_CHECKS: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "long": _is_long,
    "double": _is_double,
    "strings": _is_strings,
    "loras": _is_loras,
}
_CHECKS_OF_ROW: dict[str, dict[str, Any]] = {
    row: {field.name: _CHECKS[field.kind] for field in FIELDS if row in field.rows}
    for row in (*_ALL, HEADER, REPLACES)
}


def checked_row(found: dict[str, Any]) -> dict[str, Any]:
    """Return the row's fields that are known and not null. ValueError: `op` is unknown, or a value is not valid."""
    op = found.get("op")
    checks = _CHECKS_OF_ROW.get(op) if isinstance(op, str) else None
    if checks is None:
        raise ValueError("unknown op")
    row: dict[str, Any] = {}
    for name, value in found.items():
        check = checks.get(name)
        if check is None or value is None:
            continue
        is_valid = type(value) is check if check is str or check is bool else check(value)
        if not is_valid:
            raise ValueError(f"{name} is not valid")
        row[name] = value
    return row
