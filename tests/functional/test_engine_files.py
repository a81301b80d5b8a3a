"""`Engine.files`: pages of a real ledger, and cursors that no page returned."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_archive.errors import RequestRefused
from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


@pytest.mark.parametrize("cursor", ["9" * 30, str(2**63), "-1", "x", "1.5", "0x1"])
def test_a_cursor_that_no_page_gave_is_refused_by_its_name(tmp_path: Path, cursor: str) -> None:
    root = tmp_path / "output"
    with engine_on(root, MemoryStore(), tmp_path / "state") as engine:
        (root / "a.png").write_bytes(b"a")
        wait_until(lambda: bool(engine.files(None, "", 10, str(2**63 - 1))[0]), "it is in the ledger")
        with pytest.raises(RequestRefused, match=r"^cursor must be") as refused:
            engine.files(None, "", 10, cursor)
    assert refused.value.status == 400
