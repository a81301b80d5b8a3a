"""What tests do when a server is missing."""

from __future__ import annotations

import pytest

from tests.servers import REQUIRE_ALL, missing


def test_a_missing_server_is_skipped_where_somebody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRE_ALL, raising=False)
    with pytest.raises(pytest.skip.Exception, match="weed is not installed"):
        missing("weed")


def test_a_missing_server_fails_where_nothing_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE_ALL, "1")
    with pytest.raises(pytest.fail.Exception, match="weed is missing"):
        missing("weed")
