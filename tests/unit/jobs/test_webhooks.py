"""Webhooks with a clock that the test turns: nothing is lost, whatever the receiver does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from cloud_archive.errors import CloudArchiveError
from cloud_archive.jobs.receiver import ReceiverFailed, post
from cloud_archive.jobs.records import JobRecord
from cloud_archive.jobs.store import JobStore
from cloud_archive.jobs.webhooks import GIVE_UP_SECONDS, Webhooks, new_message_id, sign, signing_key
from tests.functional.receivers import SECRET, close_in_the_middle, receiving

NOW = 1_775_046_896.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "jobs.sqlite3")
    store.open()
    yield store
    store.close()


def finish(store: JobStore, job_id: str, now: float) -> None:
    store.add([JobRecord(job_id, "finished", status="success", finished_at=now)])
    store.announce(job_id, "success", new_message_id(), now)


def answer_about(job_id: str) -> dict[str, Any]:
    return {"job_id": job_id, "state": "complete", "files": [], "errors": []}


def webhooks_to(url: str, store: JobStore, clock: Clock, **more: Any) -> Webhooks:
    return Webhooks(store, answer_about, url, SECRET, clock=clock, **more)


def run(webhooks: Webhooks, clock: Clock, seconds: float) -> None:
    """Let so much time pass, without waiting for it."""
    end = clock.now + seconds
    while True:
        wait = webhooks.step()
        if wait is None or clock.now + wait > end:
            clock.now = end
            return
        clock.now += wait


def job_of(message: tuple[dict[str, str], bytes]) -> str:
    """The job, after the published library has verified the signature."""
    headers, body = message
    return str(json.loads(body)["job_id"]) if _verified(headers, body) else ""


def _verified(headers: dict[str, str], body: bytes) -> bool:
    # The library compares the timestamp with its own clock; the test's clock is another one.
    key, stamp = Webhook(SECRET), int(headers["webhook-timestamp"])
    return key.sign(headers["webhook-id"], _moment(stamp), body.decode()) == headers["webhook-signature"]


def _moment(stamp: int) -> Any:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(stamp, timezone.utc)


def test_the_published_library_verifies_what_we_sign() -> None:
    import time

    now = int(time.time())
    body = json.dumps(answer_about("ä")).encode()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign(signing_key(SECRET), "msg_1", now, body),
    }
    assert Webhook(SECRET).verify(body.decode(), headers) == answer_about("ä")


def test_a_job_is_announced_once(store: JobStore, clock: Clock) -> None:
    with receiving() as receiver:
        webhooks = webhooks_to(receiver.url, store, clock)
        assert webhooks.step() is None
        for name in ("a", "b"):
            finish(store, name, clock.now)
            finish(store, name, clock.now)
        run(webhooks, clock, 60)
    assert [job_of(message) for message in receiver.taken] == ["a", "b"]
    assert webhooks.waiting() == 0


@pytest.mark.parametrize("kind", ["down", "500", "redirect", "close", "hang"])
def test_a_receiver_that_misbehaves_for_an_hour_gets_every_job(
    store: JobStore, clock: Clock, kind: str
) -> None:
    away_until = NOW + 3600

    def answer(number: int, handler: Any) -> int | None:
        if clock.now >= away_until:
            return 200
        if kind == "close":
            close_in_the_middle(handler)
            return None
        return 302 if kind == "redirect" else 500

    def send(url: str, headers: Any, body: bytes) -> None:
        if clock.now < away_until and kind in ("down", "hang"):
            clock.now += 20 if kind == "hang" else 0
            raise ReceiverFailed("did not answer in time" if kind == "hang" else "refused the connection")
        post(url, headers, body)

    with receiving(answer) as receiver:
        webhooks = webhooks_to(receiver.url, store, clock, send=send)
        for number in range(20):
            finish(store, f"job-{number}", clock.now)
            run(webhooks, clock, 120)
        assert webhooks.trouble is not None
        assert "20 finished jobs wait" in (webhooks.sentence() or "")
        run(webhooks, clock, 3600)
    assert sorted(job_of(message) for message in receiver.taken) == sorted(f"job-{n}" for n in range(20))
    assert webhooks.waiting() == 0
    assert webhooks.sentence() is None
    by_job: dict[str, set[str]] = {}
    for headers, body in receiver.messages:
        by_job.setdefault(json.loads(body)["job_id"], set()).add(headers["webhook-id"])
    assert all(len(ids) == 1 for ids in by_job.values()), "a message keeps its id"


def test_after_a_day_a_message_is_given_up(
    store: JobStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(lambda number, handler: 500) as receiver:
        webhooks = webhooks_to(receiver.url, store, clock)
        finish(store, "j", clock.now)
        run(webhooks, clock, GIVE_UP_SECONDS - 3700)
        assert webhooks.waiting() == 1
        run(webhooks, clock, 2 * 3700)
    assert (webhooks.waiting(), webhooks.expired) == (0, 1)
    assert 20 < len(receiver.messages) < 60
    assert "planted" not in caplog.text


def test_no_message_is_sent_again_to_an_address_that_is_gone(
    store: JobStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    gone = True
    with receiving(lambda number, handler: 410 if gone else 200) as receiver:
        webhooks = webhooks_to(receiver.url, store, clock)
        for name in ("a", "b"):
            finish(store, name, clock.now)
        run(webhooks, clock, 60)
        assert (webhooks.waiting(), webhooks.expired, len(receiver.messages)) == (0, 2, 2)
        assert (
            "Job a was not announced: the receiver answered 410: its address is gone for good" in caplog.text
        )
        assert "Correct the address" in (webhooks.sentence() or "")
        gone = False
        finish(store, "c", clock.now)
        run(webhooks, clock, 60)
    assert [job_of(message) for message in receiver.taken] == ["c"]
    assert webhooks.sentence() is None
    webhooks._gone = True  # as between the two assignments of a success
    assert webhooks.sentence() is None


def test_what_waits_survives_a_restart_with_its_id(tmp_path: Path, clock: Clock) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    store.open()
    with receiving(lambda number, handler: 500 if number == 1 else 200) as receiver:
        finish(store, "j", clock.now)
        webhooks_to(receiver.url, store, clock).step()
        store.close()
        store = JobStore(tmp_path / "jobs.sqlite3")
        store.open()
        run(webhooks_to(receiver.url, store, clock), clock, 60)
        store.close()
    first, second = (headers["webhook-id"] for headers, _ in receiver.messages)
    assert first == second
    assert len(receiver.taken) == 1


def test_a_kill_between_the_answer_and_its_note_delivers_twice_and_not_never(
    tmp_path: Path, clock: Clock
) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    store.open()
    with receiving() as receiver:
        finish(store, "j", clock.now)
        killed = webhooks_to(receiver.url, store, clock)
        killed._store.end_delivery = lambda message_id: 1 / 0  # type: ignore[assignment, method-assign]
        with pytest.raises(ZeroDivisionError):
            killed.step()
        store.close()
        store = JobStore(tmp_path / "jobs.sqlite3")
        store.open()
        run(webhooks_to(receiver.url, store, clock), clock, 60)
        store.close()
    assert len({headers["webhook-id"] for headers, _ in receiver.taken}) == 1
    assert len(receiver.taken) == 2


def test_a_job_whose_message_cannot_be_made_holds_up_no_other(store: JobStore, clock: Clock) -> None:
    broken = True

    def payload(job_id: str) -> dict[str, Any]:
        if job_id == "a" and broken:
            raise CloudArchiveError("The links can't be signed.")
        return answer_about(job_id)

    with receiving() as receiver:
        webhooks = Webhooks(store, payload, receiver.url, SECRET, clock=clock)
        for name in ("a", "b"):
            finish(store, name, clock.now)
        run(webhooks, clock, 3600)
        assert [job_of(message) for message in receiver.taken] == ["b"]
        broken = False
        run(webhooks, clock, 60)
    assert [job_of(message) for message in receiver.taken] == ["b", "a"]


def test_a_message_whose_links_can_never_be_signed_is_given_up_after_a_day(
    store: JobStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def payload(job_id: str) -> dict[str, Any]:
        tries.append(job_id)
        raise CloudArchiveError("The links can't be signed.")

    webhooks = Webhooks(store, payload, "http://127.0.0.1:9", SECRET, clock=clock)
    for name in ("a", "b"):
        finish(store, name, clock.now)
    run(webhooks, clock, GIVE_UP_SECONDS - 3700)
    assert webhooks.waiting() == 2
    records = [one for one in caplog.records if one.name == "cloud_archive.webhooks"]
    assert len(records) == 1, "one line for one cause, however often it fails"
    assert webhooks.sentence() == (
        "2 finished jobs wait to be sent to CLOUD_ARCHIVE_WEBHOOK_URL: The links can't be signed."
    )
    run(webhooks, clock, 2 * 3700)
    assert (webhooks.waiting(), webhooks.expired) == (0, 2)
    assert webhooks.sentence() is None
    assert len(tries) < 2 * GIVE_UP_SECONDS / 50


def test_an_unexpected_error_holds_up_no_other_job_and_is_given_up_after_a_day(
    store: JobStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def payload(job_id: str) -> dict[str, Any]:
        if job_id == "a":
            raise KeyError("planted")
        return answer_about(job_id)

    def send(url: str, headers: Any, body: bytes) -> None:
        if b'"b"' in body:
            raise RuntimeError("planted")
        post(url, headers, body)

    with receiving() as receiver:
        webhooks = Webhooks(store, payload, receiver.url, SECRET, clock=clock, send=send)
        for name in ("a", "b", "c"):
            finish(store, name, clock.now)
        run(webhooks, clock, 60)
        assert [job_of(message) for message in receiver.taken] == ["c"]
        assert webhooks.trouble is None, "it is not the receiver's fault"
        run(webhooks, clock, GIVE_UP_SECONDS + 3700)
    assert (webhooks.waiting(), webhooks.expired) == (0, 2)
    assert "The webhook about job a could not be sent" in caplog.text
    assert "The webhook about job b could not be sent" in caplog.text


def test_a_clock_that_was_ahead_delays_no_message(store: JobStore, clock: Clock) -> None:
    with receiving(lambda number, handler: 500 if number == 1 else 200) as receiver:
        webhooks = webhooks_to(receiver.url, store, clock)
        clock.now = NOW + 30 * 86_400
        finish(store, "j", clock.now)
        webhooks.step()
        clock.now = NOW
        run(webhooks, clock, 60)
        assert [job_of(message) for message in receiver.taken] == ["j"]


@pytest.mark.parametrize("off_seconds", [3 * 86_400, 50 * 365 * 86_400])
def test_a_machine_that_was_off_for_days_does_not_give_up_at_the_first_failure(
    store: JobStore, clock: Clock, off_seconds: float
) -> None:
    """The network may come up after the engine; and a machine without a clock of its own starts in 1970."""
    with receiving(lambda number, handler: 500 if number <= 3 else 200) as receiver:
        webhooks = webhooks_to(receiver.url, store, clock)
        finish(store, "j", clock.now)
        clock.now += off_seconds
        run(webhooks, clock, 120)
        assert [job_of(message) for message in receiver.taken] == ["j"]
    assert webhooks.expired == 0


@pytest.mark.parametrize(
    ("secret", "key"),
    [("whsec_AAEC", b"\x00\x01\x02"), ("AAEC", b"\x00\x01\x02"), ("no base64!", b"no base64!")],
)
def test_secrets_are_read_as_the_published_libraries_read_them(secret: str, key: bytes) -> None:
    assert signing_key(secret) == key
