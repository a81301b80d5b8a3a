"""What users see of a row of the ledger."""

from __future__ import annotations

from datetime import datetime

from cloud_archive.archive.session import RecentUpload
from cloud_archive.archive.status import ActiveFile, State, Status, row_to_json
from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger


def test_the_times_of_a_file_say_which_zone_they_are_in() -> None:
    moment = 1_700_000_000.5
    ledger = Ledger(None, clock=lambda: moment)
    ledger.open()
    ledger.add([FileVersion("a.png", 1, 5)])
    (row,) = ledger.rows()
    found = row_to_json(row)
    ledger.close()
    seen_at = datetime.fromisoformat(found["seen_at"])
    assert seen_at.utcoffset() is not None
    assert seen_at.timestamp() == int(moment)
    assert (found["uploaded_at"], found["freed_at"], found["next_try_at"]) == (None, None, None)


def test_uploading_is_true_while_an_upload_is_under_way_whatever_the_state() -> None:
    active = (ActiveFile("a.png", 10, 5, "k/a.png", "a.png"),)
    stopping = Status(running=False, session_id="s", state=State.STOPPED, active=active)
    assert stopping.to_json()["uploading"] is True
    assert Status(running=False, session_id="s", state=State.STOPPED).to_json()["uploading"] is False


def test_each_entry_of_a_list_is_an_object() -> None:
    status = Status(
        running=True,
        session_id="s",
        state=State.IDLE,
        recent_uploads=(RecentUpload("a.png", "k/a.png", "2026-04-01T12:34:56", 10, "a.png"),),
        active=(ActiveFile("b.png", 10, 5, "k/b.png", "b.png"),),
    )
    found = status.to_json()
    assert found["recent_uploads"][0]["s3_key"] == "k/a.png"
    assert found["active"][0]["s3_key"] == "k/b.png"
