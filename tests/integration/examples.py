"""Find every example of the README and of docs/; `test_examples.py` runs them.

An example is a command line in a fenced block, or a code span that begins like one. A new one is found automatically,
and fails until a runner takes it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md")))
SHELL, SYNOPSIS, TEXT, FILE = "sh", "synopsis", "text", "file"
SCRIPT = "docs/examples/start.sh"

_FENCE = re.compile(r"(?:<!-- ([\w-]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_PROGRAMS = (
    r"cloud-archive|python3?|pip|curl|git|docker|mc|gcloud|vastai|weed|nohup|apt-get|[\w-]+\.(?:sh|py)"
)
_COMMANDS = (
    r"demo|watch|upload|check|status|flush|retry|verify|restore|report|prune|free|compact|search|show|catalog|share"
    r"|unshare|job|rescan"
)
_COMMAND_LIKE = re.compile(
    rf"(?:\S*/)?(?:{_PROGRAMS}) \S|(?:{_COMMANDS}) --|(?:GET|POST) /|export |s3\.configure "
    r"|(?:S3|R2|CLOUD_ARCHIVE|COMFYUI|ENABLE)_[A-Z0-9_]*="
)


@dataclass(frozen=True)
class Example:
    """One line or block that a page tells its reader to type.

    Attributes:
        kind: `sh` from a block of that language, `synopsis` from the README's list of commands, `text` from other
            blocks, `span` from a code span in the text, `file` for a file in docs/examples.
    """

    page: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0][:70]}"


def examples() -> list[Example]:
    """Return all examples in the order of the pages; each text once a page."""
    found: dict[Example, None] = {}
    for page in PAGES:
        for example in _of_page(page.relative_to(ROOT).as_posix(), page.read_text("utf-8")):
            found.setdefault(example)
    for file in sorted((ROOT / "docs" / "examples").iterdir()):
        found.setdefault(_of_file(file.relative_to(ROOT).as_posix(), file.read_text("utf-8")))
    return list(found)


def _of_file(file: str, text: str) -> Example:
    """Return the commands that the file starts. An unknown file becomes an example of its own, so that it fails."""
    if file.endswith(".service"):
        line = re.search(r"^ExecStart=\S*/(cloud-archive .*)$", text, re.MULTILINE)
    elif file.endswith("/Dockerfile"):
        words = re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE)
        return Example(file, FILE, " ".join(word for part in words for word in json.loads(part)))
    elif file.endswith("/compose.yaml"):
        line = re.search(r"^ *(dockerfile: .*)$", text, re.MULTILINE)
    else:
        return Example(file, FILE, file)
    assert line is not None, file
    return Example(file, FILE, line[1])


def _of_page(page: str, text: str) -> list[Example]:
    found: list[Example] = []
    for mark, language, body in _FENCE.findall(text):
        if language in ("json", "jsonl", "sql", "python"):
            continue  # tests/unit/project/test_docs.py and tests/unit/catalog/bucket read or run these
        kind = SYNOPSIS if mark == "commands" else language or TEXT
        # A block with `cd` or variables is one example; elsewhere each line is one.
        whole = body.startswith(("cd ", "export ", "#!")) or kind == TEXT
        lines = [body.strip()] if whole else [_without_comment(line) for line in body.splitlines()]
        found += [Example(page, kind, line) for line in lines if line]
    for span in _SPAN.findall(_FENCE.sub("", text)):
        line = " ".join(span.replace("\\|", "|").split())
        if _COMMAND_LIKE.match(line):
            found.append(Example(page, "span", line))
    return found


def _without_comment(line: str) -> str:
    return re.sub(r"\s+# .*", "", line).strip()
