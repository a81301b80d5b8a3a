"""Fixtures of the commands' tests."""

from __future__ import annotations

import pytest

from tests.unit.cli.settings import SETTINGS


@pytest.fixture
def settings_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
