"""Each variable gets each shape of a secret in turn; then everything that is shown or stored is searched for it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.cli.app import main
from cloud_archive.config.settings import VARIABLES
from cloud_archive.daemon.logs import RedactingFormatter
from cloud_archive.redaction import SECRET_VARIABLES, secret_values

SECRET = "planted-secret-0123456789"  # also valid as a name
KEY_ID = "AKIAIOSFODNN7EXAMPLE"
RANDOM = "kPq7XvB2mZ9rTw4YcN8sLd3FhJ6gQa5UeKxV1oRi"
RANDOM_HEX = "3f9a" * 4 + "0b7c5d21" * 6
SHAPES = {
    "user info": f"https://{KEY_ID}:{SECRET}@store.example/bucket",
    "user info of somebody else": f"https://me:{RANDOM}@store.example/bucket",
    "access key id": KEY_ID,
    "random": RANDOM,
    "random hexadecimal": RANDOM_HEX,
    "equal to one that is set": SECRET,
    "with one that is set": f"x-{SECRET}-y",
    "quoted": f'"{SECRET}"',
}
BASE = {
    "S3_ACCESS_KEY_ID": KEY_ID,
    "S3_SECRET_ACCESS_KEY": SECRET,
    "S3_BUCKET": "pictures",
    "S3_ENDPOINT_URL": "http://127.0.0.1:9",
}
NAMES = sorted({name for variable in VARIABLES.values() for name in variable.names} | set(SECRET_VARIABLES))
FORBIDDEN = (SECRET, KEY_ID, RANDOM, RANDOM_HEX)


def base_for(variable: str) -> dict[str, str]:
    """Return `BASE` without the other names of this variable's setting, which would hide what it is set to."""
    others = {name for each in VARIABLES.values() if variable in each.names for name in each.names}
    return {name: value for name, value in BASE.items() if name not in others}


def read_all_from_engine(root: Path, state: Path, environ: dict[str, str]) -> str:
    """Return everything that an engine with these settings shows."""
    events: list[dict[str, Any]] = []
    engine = Engine(root, state_base=state, environ=environ, prefer_environment=True)
    engine.subscribe(events.append)
    engine.start(autostart=True)
    try:
        (root / "a.png").write_bytes(b"1")
        said: list[object] = [
            engine.status().to_json(),
            repr(engine.check().result(60)),
            repr(engine),
            repr(engine.status()),
        ]
        if not engine.problems:
            said += [
                engine.upload("a.png", 0.2).message,
                engine.files(None, "", 10, None),
                repr(engine.archiver()),
            ]
        said.append(engine.status().to_json())
    finally:
        engine.close(0.5)
    return json.dumps([*said, events], default=repr)


@pytest.mark.usefixtures("own_state")
@pytest.mark.parametrize("variable", NAMES)
def test_a_secret_in_any_variable_is_shown_and_stored_nowhere(
    variable: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    base = base_for(variable)
    for name, value in base.items():
        monkeypatch.setenv(name, value)
    for number, (shape, text) in enumerate(SHAPES.items()):
        monkeypatch.setenv(variable, text)
        environ = base | {variable: text}
        root = tmp_path / f"output-{number}"
        root.mkdir()
        caplog.clear()
        with caplog.at_level(logging.DEBUG, logger="cloud_archive"):
            shown = read_all_from_engine(root, tmp_path / "state", environ)
        formatter = RedactingFormatter("%(message)s", secret_values(environ))
        shown += "\n".join(
            formatter.format(record) for record in caplog.records if record.name.startswith("cloud_archive")
        )
        for command in (["check"], ["status"], ["watch", "--once"]):
            capsys.readouterr()
            assert main(command) in (0, 1, 2)
            captured = capsys.readouterr()
            assert "Traceback" not in captured.err
            shown += captured.out + captured.err
        assert [secret for secret in FORBIDDEN if secret in shown] == [], shape
    for path in tmp_path.rglob("*"):
        assert [secret for secret in FORBIDDEN if secret in path.name] == []
        if path.is_file():
            content = path.read_bytes()
            assert [secret for secret in FORBIDDEN if secret.encode() in content] == [], path
