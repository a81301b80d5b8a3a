"""The connection check passes when all is well, and else names the step, the cause and the cure."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.maintenance.check import (
    MAY_NOT_LIST,
    MAY_NOT_READ,
    NOT_TRIED,
    STEPS,
    CheckStep,
    has_no_failure,
    run_check,
)
from tests.quirks.profiles import PROFILES, MissingIsForbidden, SilentOverwrite
from tests.quirks.server import Answer, Forward, Profile, QuirkServer, Request, error
from tests.quirks.signatures import WrongClock
from tests.quirks.spoilt_answers import HtmlErrorPage
from tests.servers import S3Server

pytestmark = pytest.mark.store


def check(environ: dict[str, str]) -> dict[str, CheckStep]:
    steps = run_check(lambda: load_settings(environ))
    assert tuple(step.name for step in steps) == STEPS
    shown = json.dumps([step.to_json() for step in steps])
    assert "planted" not in shown
    for step in steps:
        assert step.seconds >= 0
        if step.ok is False:
            assert step.cause.endswith(".")
            assert step.cure.endswith(".") or not step.cure
    assert has_no_failure(steps) is not any(step.ok is False for step in steps)
    return {step.name: step for step in steps}


def failed_step(found: dict[str, CheckStep]) -> CheckStep:
    """Return the one step that failed; all steps after it must be untried."""
    (step,) = [step for step in found.values() if step.ok is False]
    later = STEPS[STEPS.index(step.name) + 1 :]
    assert {found[name].cause for name in later} <= {NOT_TRIED}
    assert {found[name].ok for name in later} <= {None}
    assert all(found[name].cure for name in later), "each step is ok, or has its cause and its cure"
    return step


@pytest.mark.parametrize("server", ["seaweedfs", "moto_s3"])
def test_right_settings_pass_every_step(request: pytest.FixtureRequest, server: str) -> None:
    s3 = request.getfixturevalue(server)
    found = check(s3.environ(S3_PREFIX="pictures/{Y}"))
    assert {name for name, step in found.items() if step.ok} == set(STEPS)
    assert found["TLS"].cause == "Not used (http)."
    assert found["create-only"].cause == ""
    assert s3.keys() == ["pictures/.cloud-archive/check"]
    check(s3.environ(S3_PREFIX="pictures/{Y}"))
    assert s3.keys() == ["pictures/.cloud-archive/check"]


def test_a_store_that_overwrites_is_named(rclone_s3: S3Server) -> None:
    found = check(rclone_s3.environ())
    assert found["create-only"].ok
    assert "check with a HEAD first" in found["create-only"].cause


def test_an_encryption_that_the_store_confirms_passes(moto_s3: S3Server) -> None:
    found = check(moto_s3.environ(S3_SERVER_SIDE_ENCRYPTION="AES256"))
    assert (found["read back"].ok, found["read back"].cause) == (True, "")


def test_wrong_settings_are_the_first_step(seaweedfs: S3Server) -> None:
    step = failed_step(check(seaweedfs.environ(S3_BUCKET="", S3_ADDRESSING_STYLE="sideways")))
    assert step.name == "settings"
    assert "S3_BUCKET" in step.cause
    assert "S3_ADDRESSING_STYLE" in step.cause


@pytest.mark.parametrize("server", ["seaweedfs", "rclone_s3"])
@pytest.mark.parametrize(
    ("wrong", "name", "cure"),
    [
        ({"S3_ACCESS_KEY_ID": "AKIAWRONG"}, "credentials", "S3_ACCESS_KEY_ID"),
        ({"S3_SECRET_ACCESS_KEY": "planted+WRONG"}, "credentials", "S3_SECRET_ACCESS_KEY"),
        ({"S3_BUCKET": "there-is-none"}, "bucket", "S3_BUCKET"),
    ],
)
def test_what_is_wrong_is_named_with_its_cure(
    request: pytest.FixtureRequest, server: str, wrong: dict[str, str], name: str, cure: str
) -> None:
    step = failed_step(check(request.getfixturevalue(server).environ(**wrong)))
    assert step.name == name
    assert cure in step.cure
    assert step.message


def test_a_port_where_nothing_listens_is_a_matter_of_the_connection(seaweedfs: S3Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens, so that no other program can either
        port = taken.getsockname()[1]
        for scheme in ("http", "https"):
            found = check(seaweedfs.environ(S3_ENDPOINT_URL=f"{scheme}://127.0.0.1:{port}"))
            step = failed_step(found)
            assert step.name == "connection"
            assert "refused" in step.cause
            assert found["name resolution"].ok


def test_a_name_that_does_not_exist_is_a_matter_of_names(seaweedfs: S3Server) -> None:
    step = failed_step(check(seaweedfs.environ(S3_ENDPOINT_URL="https://store.invalid")))
    assert step.name == "name resolution"
    assert "S3_ENDPOINT_URL" in step.cure


def test_a_self_signed_endpoint_wants_its_certificate_and_passes_with_it(
    tls_seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = tls_seaweedfs.environ()
    found = check(environ)
    assert found["TLS"].ok
    assert all(step.ok for step in found.values())
    bundle = environ.pop("S3_CA_BUNDLE")
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    assert check(environ)["TLS"].ok
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle + ".missing")
    step = failed_step(check(environ))
    assert (step.name, step.cause) == ("TLS", "The file of certificate authorities can't be read.")
    monkeypatch.delenv("AWS_CA_BUNDLE")
    step = failed_step(check(environ))
    assert step.name == "TLS"
    assert "S3_CA_BUNDLE" in step.cure
    assert "self-signed" in step.message or "self signed" in step.message


def test_plain_http_to_a_tls_port_says_so(tls_seaweedfs: S3Server) -> None:
    plain = tls_seaweedfs.endpoint.replace("https://", "http://")
    step = check(tls_seaweedfs.environ(S3_ENDPOINT_URL=plain))["connection"]
    assert (step.ok, step.cause) == (False, "The endpoint answered, but not as an S3 store does.")
    assert step.cure.startswith("Check S3_ENDPOINT_URL: https:// or http://")


def test_tls_to_a_plain_port_says_so(seaweedfs: S3Server) -> None:
    step = failed_step(
        check(seaweedfs.environ(S3_ENDPOINT_URL=seaweedfs.endpoint.replace("http:", "https:")))
    )
    assert step.name == "TLS"
    assert "http://" in step.cure


def test_a_key_that_may_only_put_passes(seaweedfs: S3Server) -> None:
    found = check(seaweedfs.put_only())
    assert has_no_failure(list(found.values()))
    assert [found[name].ok for name in ("credentials", "bucket", "write", "create-only")] == [True] * 4
    assert found["read back"].ok is None
    assert (found["bucket"].cause, found["read back"].cause) == (MAY_NOT_LIST, MAY_NOT_READ)
    assert "may not list" in found["bucket"].cause


class NoPut(Profile):
    """Refuses every PutObject, as a policy that allows no writes does."""

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation == "PutObject":
            return error(403, "AccessDenied", "Access Denied.")
        return await forward(request)


def test_a_key_that_may_not_put_fails_at_the_write(seaweedfs: S3Server) -> None:
    with QuirkServer(seaweedfs, NoPut()) as quirks:
        found = check(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url))
    step = failed_step(found)
    assert step.name == "write", step
    assert "s3:PutObject" in step.cause + step.cure, step
    assert found["credentials"].ok is not False


@pytest.mark.parametrize(
    ("profile", "name", "text"),
    [
        (WrongClock(3600), "clock", "seconds behind"),
        (WrongClock(-3600), "clock", "seconds ahead of"),
        (PROFILES["html everywhere"](), "connection", "not as an S3 store"),
        (HtmlErrorPage(times=None), "write", "error page (HTTP 502)"),
    ],
    ids=["clock behind", "clock ahead", "html", "html for writes"],
)
def test_a_dialect_that_cannot_work_is_named(
    seaweedfs: S3Server, profile: Profile, name: str, text: str
) -> None:
    with QuirkServer(seaweedfs, profile) as quirks:
        step = failed_step(check(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url)))
    assert step.name == name
    assert text in step.cause


def test_a_clock_that_is_a_little_off_is_a_warning(seaweedfs: S3Server) -> None:
    began = time.monotonic()
    with QuirkServer(seaweedfs, WrongClock(300)) as quirks:
        found = check(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url))
    assert found["clock"].ok
    seconds = re.search(r"clock is (\d+) seconds behind", found["clock"].cause)
    assert seconds is not None
    # Seconds are whole, and the answer took time.
    assert 299 - (time.monotonic() - began) <= int(seconds[1]) <= 300
    assert found["clock"].cure
    assert has_no_failure(list(found.values()))


def test_a_store_that_overwrites_fails_for_a_key_that_may_not_head(seaweedfs: S3Server) -> None:
    class Blind(SilentOverwrite):
        async def handle(self, request: Any, forward: Any) -> Any:
            async def onward(changed: Any) -> Any:
                return await SilentOverwrite().handle(changed, forward)

            return await MissingIsForbidden(can_read=False).handle(request, onward)

    with QuirkServer(seaweedfs, Blind()) as quirks:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=quirks.url)
        step = failed_step(check(environ))
        assert step.name == "create-only"
        assert "s3:GetObject" in step.cure
        assert has_no_failure(list(check(environ | {"S3_ENABLE_CONFLICT_RENAME": "false"}).values()))


def test_plain_http_off_loopback_is_a_warning() -> None:
    environ = {
        "S3_ENDPOINT_URL": "http://store.invalid:9000",
        "S3_BUCKET": "pictures",
        "S3_ACCESS_KEY_ID": "AKIATEST",
        "S3_SECRET_ACCESS_KEY": "planted+SECRET",
    }
    found = check(environ)
    assert found["settings"].ok
    assert "plain http" in found["settings"].cause
    assert "https://" in found["settings"].cure
    assert failed_step(found).name == "name resolution"
