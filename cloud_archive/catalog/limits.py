"""Limits of what users give: queries, tags and notes. Loaded into ComfyUI's process: standard library only."""

from __future__ import annotations

# A whole prompt can be pasted. With 200,000 files a word takes about 1 ms, one of less than three characters 40 ms.
MAX_QUERY_CHARACTERS = 4000
# The library puts a day before a query.
MAX_DAY_QUERY_CHARACTERS = len("since:2026-11-25 until:2026-11-25 ") + MAX_QUERY_CHARACTERS
QUERY_TOO_LONG = f"The query is longer than {MAX_QUERY_CHARACTERS:,} characters; shorten it."
MAX_TAGS = 100
MAX_TAG_CHARACTERS = 100
MAX_NOTE_CHARACTERS = 10_000
