"""No setting, file name or answer of a store leads to a traceback, or to a secret in what is shown or stored.

Secrets are planted in the settings, repeated by the store in its answers, and then searched for, also quoted as in a
URL, in JSON and in XML: in log records, the status, answers, events, reprs and every byte below the state directory.
"""

from __future__ import annotations

import json
import logging
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from cloud_archive.archive.engine import Engine
from cloud_archive.config.settings import VARIABLES, load_settings
from cloud_archive.errors import CloudArchiveError, KeyRejected, SettingsError, StoreError
from cloud_archive.keys import PrefixTemplate, object_key
from cloud_archive.maintenance.check import run_check
from cloud_archive.redaction import ACCESS_KEY_VARIABLES, SECRET_VARIABLES
from cloud_archive.store.s3 import S3Store
from cloud_archive.store.translate import translate
from tests.quirks.server import Answer, Forward, Profile, QuirkServer, Request
from tests.servers import S3Server, wait_until

SECRET = "planted+SECRET/with=signs&0123456789"
TOKEN = "planted+TOKEN/with=signs&9876543210"
KEY_ID = "AKIAPLANTEDPLANTED00"
BASE = {
    "S3_ACCESS_KEY_ID": KEY_ID,
    "S3_SECRET_ACCESS_KEY": SECRET,
    "S3_SESSION_TOKEN": TOKEN,
    "S3_BUCKET": "pictures",
    "S3_ENDPOINT_URL": "http://127.0.0.1:9",
}
NAMES = [name for variable in VARIABLES.values() for name in variable.names]


def forms(secret: str) -> set[str]:
    """Return a secret as it is, and as a URL, JSON, XML or a header quotes it."""
    return {
        secret,
        urllib.parse.quote(secret),
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
        secret.replace("&", "&amp;"),
        json.dumps(secret)[1:-1],
    }


FORBIDDEN = forms(SECRET) | forms(TOKEN)


def assert_no_secret(text: str) -> None:
    assert [form for form in FORBIDDEN if form in text] == []


HIDDEN = frozenset((*SECRET_VARIABLES, *ACCESS_KEY_VARIABLES)) & frozenset(NAMES)


@contextmanager
def allowing(kind: type[Exception]) -> Iterator[list[Exception]]:
    """Collect an exception of this kind, which is a valid answer; any other is a traceback, and fails the test."""
    caught: list[Exception] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)


def text_of(error: BaseException) -> str:
    """Return all that a careless log line could show of an exception, its causes included."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


# --- settings and prefixes

TEXT = st.text(max_size=60) | st.sampled_from(
    [
        SECRET,
        f"https://{KEY_ID}:{SECRET}@store.example",
        f"https://store.example/?X-Amz-Signature={TOKEN}",
        f"s3://{SECRET}/x",
        f"{{{SECRET}}}",
        f"[{SECRET}",
        "\ud800",
        "{session_id}/{Y}",
        "{",
        "0",
        "-1",
        "true",
        "9" * 400,
    ]
)


@given(st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=8))
@settings(deadline=None, max_examples=300)
def test_no_settings_make_a_traceback_or_show_a_secret(found: dict[str, str]) -> None:
    environ = BASE | found
    planted = {
        secret for secret in (SECRET, TOKEN) for name in HIDDEN & set(environ) if environ[name] == secret
    }
    with allowing(SettingsError) as refused:
        loaded = load_settings(environ)
        shown = repr(loaded) + str(loaded) + repr(S3Store(loaded))
        assert [secret for secret in planted if secret in shown] == []
    for error in refused:
        assert [secret for secret in planted if secret in text_of(error)] == []
        assert isinstance(error, SettingsError)
        assert error.problems
        assert all(problem.accepted for problem in error.problems)


@given(TEXT | st.text(alphabet="{}YmdHsesion_/a .", max_size=40))
@settings(deadline=None, max_examples=200)
def test_no_prefix_makes_a_traceback(prefix: str) -> None:
    with allowing(ValueError) as refused:
        template = PrefixTemplate.parse(prefix)
        with allowing(KeyRejected) as too_long:
            key = object_key(template.render(datetime(2026, 4, 1), "session"), "a/b.png")
            assert key.endswith("a/b.png")
            assert len(key.encode()) <= 1024
        assert all("1,024" in str(error) for error in too_long)
    assert all(str(error) for error in refused)


# --- what stores and the SDK say


class BotoLikeError(Exception):
    """An exception like botocore's, with or without a response."""

    def __init__(self, text: str, response: Any = None) -> None:
        super().__init__(text)
        if response is not None:
            self.response = response


SAYING = st.text(max_size=80) | st.builds(
    "{}{}{}".format,
    st.text(max_size=20),
    st.sampled_from(
        [*sorted(FORBIDDEN), f"Signature={SECRET}", f"https://x/?X-Amz-Security-Token={TOKEN}&y"]
    ),
    st.text(max_size=20),
)
RESPONSE = st.fixed_dictionaries(
    {
        "Error": st.fixed_dictionaries(
            {},
            optional={"Code": SAYING | st.integers(), "Message": SAYING, "Header": SAYING, "Region": SAYING},
        ),
        "ResponseMetadata": st.fixed_dictionaries(
            {"HTTPStatusCode": st.integers(100, 599)},
            optional={
                "HTTPHeaders": st.dictionaries(
                    st.sampled_from(
                        ["date", "retry-after", "content-type", "location", "x-amz-bucket-region", "server"]
                    ),
                    SAYING,
                    max_size=4,
                )
            },
        ),
    }
)


@given(st.builds(BotoLikeError, SAYING, st.none() | RESPONSE), st.booleans())
@settings(deadline=None, max_examples=400)
def test_no_answer_makes_a_traceback_or_shows_a_secret(error: BotoLikeError, conditional: bool) -> None:
    told = translate(error, "PutObject", "a key", secrets=(SECRET, TOKEN), conditional=conditional)
    assert isinstance(told, StoreError)
    assert told.failure.cause
    assert_no_secret(str(told) + told.store_message + repr(told) + repr(told.failure))


# --- an engine, against a store that repeats secrets


class Parrot(Profile):
    """Repeats the secrets in every part of its answers, in another form each time."""

    def __init__(self) -> None:
        self.answers = 0

    async def handle(self, request: Request, forward: Forward) -> Answer:
        self.answers += 1
        everything = " ".join(sorted(FORBIDDEN)).replace("&", "&amp;")
        document = (
            f"<Error><Code>{{}}</Code><Message>{everything}</Message><Region>{everything}</Region></Error>"
        )
        shapes = [
            (403, "application/xml", document.format("SignatureDoesNotMatch")),
            (400, "application/xml", document.format("Nonsense")),
            (400, "application/xml", document.format(SECRET.replace("&", "&amp;"))),
            (501, "application/xml", document.format("NotImplemented")),
            (502, "text/html", f"<html>{everything}</html>"),
            (200, "text/html", f"<html>{everything}</html>"),
            (500, "application/xml", f"<Error>{everything}"),
            (301, "text/html", f"<html>{everything}</html>"),
            (400, "application/json", json.dumps({"error": everything})),
        ]
        status, kind, body = shapes[self.answers % len(shapes)]
        headers = {
            "Content-Type": kind,
            "Location": f"https://{urllib.parse.quote(SECRET, safe='')}:x@store.example/{TOKEN}",
            "Retry-After": SECRET,
            "x-amz-bucket-region": TOKEN,
            "x-amz-request-id": SECRET,
        }
        return Answer(status, CIMultiDict(headers), body.encode())


def retry_and_check(engine: Engine, parrot: Parrot, wanted: int) -> bool:
    engine.retry()  # instead of waiting for its pauses
    return parrot.answers >= wanted


@contextmanager
def capture_log(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    with caplog.at_level(logging.DEBUG, logger="cloud_archive"):
        formatter = logging.Formatter("%(message)s")
        yield lambda: "\n".join(
            formatter.format(record) for record in caplog.records if record.name.startswith("cloud_archive")
        )


@pytest.mark.store
def test_a_store_that_repeats_the_secrets_brings_them_nowhere(
    tmp_path: Path, seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "output"
    root.mkdir()
    events: list[dict[str, Any]] = []
    parrot = Parrot()
    with QuirkServer(seaweedfs, parrot) as server, capture_log(caplog) as logged:
        environ = BASE | {
            "S3_ENDPOINT_URL": server.url,
            "S3_BUCKET": seaweedfs.bucket,
            "CLOUD_ARCHIVE_SETTLE_SECONDS": "0.2",
        }
        engine = Engine(
            root,
            state_base=tmp_path / "state",
            environ=environ,
            make_store=partial(S3Store, connect_seconds=60, read_seconds=60),
        )
        engine.subscribe(events.append)
        engine.start(autostart=True)
        shown: list[str] = []
        try:
            for number in range(12):
                (root / f"{number}.png").write_bytes(b"%d" % number)
            (root / "large.mp4").write_bytes(bytes(9 * 1024 * 1024))
            for wanted in range(9, 37, 9):
                wait_until(partial(retry_and_check, engine, parrot, wanted), f"{wanted} answers")
                shown.append(json.dumps(engine.status().to_json()))
            answer = engine.upload("0.png", 2.0)
            shown.append(answer.message + json.dumps(answer.file))
            shown.append(json.dumps(engine.files(None, "", 100, None)[0]))
            shown += [repr(engine.check().result(60)) for _ in range(3)]
            shown.append(repr(engine.archiver()) + repr(engine) + repr(engine.status()))
            # Pushes come a few times a second at most.
            wait_until(lambda: any(event.get("errors") for event in events), "a push has the errors")
            shown.append(json.dumps(events))
        finally:
            engine.close(5)
        shown.append(logged())
    assert_no_secret("\n".join(shown))
    assert KEY_ID not in "\n".join(shown)
    assert "Traceback" not in "\n".join(shown)
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert any(path.suffix in (".db", ".sqlite", ".sqlite3") or "ledger" in path.name for path in kept)
    for path in kept:
        content = path.read_bytes()
        assert [form for form in FORBIDDEN | {KEY_ID} if form.encode() in content] == [], path.name


@pytest.mark.store
@pytest.mark.skipif("os.name == 'nt'", reason="these names exist on POSIX only")
@given(
    names=st.sets(
        st.text(
            # SeaweedFS takes a backslash for a slash, which makes a folder of a name that ends in one.
            alphabet=st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]),
            min_size=1,
            max_size=40,
        ).filter(lambda name: len(name.encode()) < 200 and name not in (".", "..")),
        min_size=8,
        max_size=8,
    )
)
@settings(
    deadline=None,
    max_examples=5,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_file_name_makes_a_traceback(
    names: set[str], tmp_path_factory: pytest.TempPathFactory, seaweedfs_session: S3Server
) -> None:
    server = seaweedfs_session.with_fresh_bucket()
    root = tmp_path_factory.mktemp("names")
    engine = Engine(
        root,
        state_base=tmp_path_factory.mktemp("state"),
        environ=server.environ(S3_PREFIX="out", CLOUD_ARCHIVE_SETTLE_SECONDS="0.1"),
    )
    engine.start(autostart=True)
    try:
        for name in names:
            (root / name).write_bytes(name.encode())
        assert engine.flush(60), engine.status().to_json()
        assert engine.status().errors == ()
        json.dumps(engine.status().to_json()).encode()
        for row in engine.files(None, "", 100, None)[0]:
            json.dumps(row).encode()
    finally:
        engine.close(5)
    objects = server.objects()
    assert set(objects.values()) <= {name.encode() for name in names}
    assert len(objects) == count_archivable(names)


def count_archivable(names: set[str]) -> int:
    """Return how many of the names are neither hidden nor temporary."""
    from cloud_archive.intake.selection import Selection

    return sum(Selection((), ()).wants(name) for name in names)


def test_an_unknown_failure_of_ours_is_reported_without_its_text() -> None:
    """An exception inside the SDK may quote its arguments."""
    loaded = load_settings(BASE)
    store = S3Store(loaded)

    def burst() -> Any:
        raise RuntimeError(f"signing with {SECRET} failed")

    store._requests.client = burst  # type: ignore[method-assign]
    with pytest.raises(CloudArchiveError) as caught:
        store.head("a")
    assert_no_secret(text_of(caught.value))
    assert run_check(lambda: load_settings(BASE), make_store=lambda _: store)
