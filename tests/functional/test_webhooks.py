"""Webhooks of a real engine: sent after proof, with the job's tags and links, and never delaying an upload."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from cloud_archive.archive.engine import Engine
from tests.memory_store import MemoryStore
from tests.servers import wait_until

from .archives import engine_on
from .jobs import hold, output, passed_job
from .receivers import SECRET, Receiver, receiving


def settings(receiver: Receiver) -> dict[str, str]:
    return {"CLOUD_ARCHIVE_WEBHOOK_URL": receiver.url, "CLOUD_ARCHIVE_WEBHOOK_SECRET": SECRET}


def asset(engine: Engine, name: str) -> dict[str, object]:
    found = engine.catalog().search(f"path:{name}", "created_at", "desc", 10, None).assets
    return found[0] if found else {}


def test_the_message_is_the_answer_and_comes_after_proof(root: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    go = hold(store)
    with receiving() as receiver, engine_on(root, store, tmp_path / "state", **settings(receiver)) as engine:
        wait_until(lambda: engine.status().running, "running")
        (root / "a.png").write_bytes(b"1")
        engine.add_jobs([passed_job("quick"), passed_job("j", output("a.png"))])
        wait_until(lambda: len(receiver.taken) == 1, "the job without files is announced")
        assert engine.job("j")["state"] == "uploading"
        go.set()
        wait_until(lambda: len(receiver.taken) == 2, "announced")
        headers, body = receiver.taken[1]
        assert Webhook(SECRET).verify(body.decode(), headers) == engine.job("j")
        wait_until(lambda: engine.status().waiting_webhooks == 0, "nothing waits")
        engine.add_jobs([passed_job("j", output("a.png"))])  # passed on again, as after a kill
        engine.add_jobs([passed_job("last")])
        wait_until(lambda: len(receiver.taken) == 3, "announced")
    assert [json.loads(body)["job_id"] for _, body in receiver.taken] == ["quick", "j", "last"]


def test_options_give_tags_a_note_and_links(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"tags": ["client-a"], "note": "second round", "urls": True, "host": "evil"}
    with (
        caplog.at_level(logging.DEBUG),
        receiving() as receiver,
        engine_on(root, MemoryStore(), tmp_path / "state", **settings(receiver)) as engine,
    ):
        events: list[object] = []
        engine.subscribe(events.append)
        wait_until(lambda: engine.status().running, "running")
        (root / "a.png").write_bytes(b"1")
        engine.add_jobs([passed_job("j", output("a.png"), options=options)])
        wait_until(lambda: len(receiver.taken) == 1, "announced")
        wait_until(lambda: asset(engine, "a.png").get("tags") == ["client-a"], "tagged")
        assert asset(engine, "a.png")["note"] == "second round"
        assert "X-Amz-Signature" in json.dumps(engine.job("j", urls=True))
        status = json.dumps(engine.status().to_json())
        wait_until(lambda: bool(events), "the status was pushed")
    message = json.loads(receiver.taken[0][1])
    assert "X-Amz-Signature" in message["files"][0]["url"]
    assert message["errors"] == ["extra_data.cloud_archive.host is unknown: tags, note, urls are known."]
    # No file and no log keeps a link or a secret.
    shown = (
        caplog.text
        + status
        + json.dumps(events, default=repr)
        + "".join(
            path.read_bytes().decode("latin-1") for path in (tmp_path / "state").rglob("*") if path.is_file()
        )
    )
    for secret in ("X-Amz-Signature", "planted-path-secret", SECRET, SECRET.removeprefix("whsec_")):
        assert secret not in shown


def test_a_dead_receiver_delays_no_upload_and_is_shown(root: Path, tmp_path: Path) -> None:
    go = threading.Event()
    with receiving(lambda number, handler: 200 if go.wait(60) else None) as receiver:
        with engine_on(root, MemoryStore(), tmp_path / "state", **settings(receiver)) as engine:
            wait_until(lambda: engine.status().running, "running")
            engine.add_jobs([passed_job(str(number)) for number in range(3)])
            wait_until(lambda: len(receiver.messages) == 1, "the first message hangs")
            (root / "a.png").write_bytes(b"1")
            engine.add_jobs([passed_job("j", output("a.png"))])
            wait_until(lambda: engine.job("j")["state"] == "complete", "archived meanwhile")
            wait_until(lambda: engine.status().waiting_webhooks == 4, "four wait")
            assert "cloud_archive_waiting_webhooks 4.0" in engine.metrics_text()
        go.set()
        # The next start sends what was left.
        with engine_on(root, MemoryStore(), tmp_path / "state", **settings(receiver)) as engine:
            wait_until(
                lambda: {json.loads(body)["job_id"] for _, body in receiver.taken} >= {"0", "1", "2", "j"},
                "all",
            )
            wait_until(lambda: engine.status().waiting_webhooks == 0, "nothing waits")


def test_what_a_receiver_answers_is_shown_without_its_url(root: Path, tmp_path: Path) -> None:
    with (
        receiving(lambda number, handler: 500) as receiver,
        engine_on(root, MemoryStore(), tmp_path / "state", **settings(receiver)) as engine,
    ):
        wait_until(lambda: engine.status().running, "running")
        engine.add_jobs([passed_job("j")])
        wait_until(lambda: any("answered 500" in error for error in engine.status().errors), "shown")
        assert "127.0.0.1" not in " ".join(engine.status().errors)


def test_without_a_secret_nothing_is_sent_and_the_status_says_so(root: Path, tmp_path: Path) -> None:
    with receiving() as receiver:
        environ = {"CLOUD_ARCHIVE_WEBHOOK_URL": receiver.url}
        with engine_on(root, MemoryStore(), tmp_path / "state", **environ) as engine:
            wait_until(lambda: engine.status().running, "running")
            engine.add_jobs([passed_job("j")])
            wait_until(lambda: engine.job("j")["state"] == "complete", "over")
            assert any("CLOUD_ARCHIVE_WEBHOOK_SECRET" in error for error in engine.status().errors)
    assert receiver.messages == []
