"""How the embedded SeaweedFS starts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.demo.seaweedfs import EmbeddedStore


def test_ctrl_c_does_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def refuse(*_: object, **options: object) -> None:
        given.update(options)
        raise OSError("no process")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x8000000, raising=False)
    store = EmbeddedStore(
        tmp_path, bucket="demo", access_key_id="key", secret_access_key="secret", program=tmp_path
    )
    with pytest.raises(OSError, match="no process"):
        store.start()
    assert given["start_new_session"]
    assert given["creationflags"] == 0x8000200
