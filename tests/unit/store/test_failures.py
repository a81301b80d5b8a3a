"""The table of store errors: complete, readable, and never a traceback."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.errors import (
    Failure,
    FailureScope,
    StoreError,
)
from cloud_archive.store import failures
from cloud_archive.store.failure_table import SYNONYMS, TABLE
from cloud_archive.store.failures import explain, is_denied

FAILURES = list(TABLE.values())


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.code)
def test_every_cause_and_cure_is_a_sentence(failure: Failure) -> None:
    assert re.fullmatch(r"[A-Z].+[^ ]\.", failure.cause)
    assert failure.cure == "" or re.fullmatch(r"[A-Z].+[^ ]\.", failure.cure)
    assert failure.sentence == f"{failure.cause} {failure.cure}".strip()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.code)
def test_a_failure_that_concerns_the_store_and_stays_names_what_to_do(failure: Failure) -> None:
    if failure.scope is FailureScope.STORE and not failure.transient:
        assert failure.cure


def test_only_passing_failures_ask_for_fewer_requests() -> None:
    assert all(failure.transient for failure in FAILURES if failure.throttled)


def test_every_synonym_leads_into_the_table_and_is_no_entry_itself() -> None:
    for spelling, code in SYNONYMS.items():
        assert code in TABLE, spelling
        assert spelling not in TABLE


@pytest.mark.parametrize("spelling", sorted(SYNONYMS))
def test_a_synonym_concerns_as_many_requests_as_the_code_that_it_means(spelling: str) -> None:
    def concerns_every_request(code: str) -> bool:
        return failures.concerns_every_request(StoreError("PutObject", "a", explain(code), status=400))

    assert concerns_every_request(spelling) is concerns_every_request(SYNONYMS[spelling])


def test_a_synonym_keeps_the_stores_own_code() -> None:
    assert explain("Forbidden").code == "Forbidden"
    assert explain("Forbidden").cause == explain("AccessDenied").cause


@pytest.mark.parametrize(
    "variable", sorted(set(re.findall(r"\bS3_[A-Z_]+", " ".join(f.cure for f in FAILURES))))
)
def test_a_cure_names_only_variables_that_exist(variable: str) -> None:
    from cloud_archive.config import settings

    source = settings.__file__
    with open(source, encoding="utf-8") as text:
        assert f'"{variable}"' in text.read()


@pytest.mark.parametrize(
    ("status", "transient", "scope"),
    [
        (None, True, FailureScope.STORE),
        (500, True, FailureScope.STORE),
        (503, True, FailureScope.STORE),
        (401, False, FailureScope.STORE),
        (403, False, FailureScope.STORE),
        (400, False, FailureScope.FILE),
        (409, False, FailureScope.FILE),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(
    status: int | None, transient: bool, scope: FailureScope
) -> None:
    failure = explain("Wonderful", status, "It went wrong")
    assert (failure.transient, failure.scope) == (transient, scope)
    assert "Wonderful: It went wrong" in failure.cause


def test_an_unknown_429_is_a_throttle() -> None:
    assert explain("CalmDown", 429).throttled


@given(st.text(max_size=40), st.none() | st.integers(100, 599), st.text(max_size=80))
def test_any_code_and_message_gives_a_sentence(code: str, status: int | None, said: str) -> None:
    failure = explain(code, status, said)
    assert failure.cause.endswith(".")
    assert failure.sentence


def test_codes_hold_only_letters_digits_and_dots() -> None:
    allowed = set(string.ascii_letters + string.digits + ".")
    assert all(set(code) <= allowed for code in TABLE)


@pytest.mark.parametrize(
    ("code", "status", "denied"),
    [
        ("AccessDenied", 403, True),
        ("Forbidden", 403, True),
        ("AccessDenied", None, True),  # of one key, in an answer about several
        ("Unheard", 403, True),
        ("Unauthorized", 401, True),
        ("SignatureDoesNotMatch", 403, False),
        ("ProxyRefused", 403, False),
        ("SlowDown", 403, False),
        ("NoSuchKey", 404, False),
        ("ConnectTimeout", None, False),
    ],
)
def test_denied_is_what_valid_credentials_may_not_do(code: str, status: int | None, denied: bool) -> None:
    assert is_denied(StoreError("DeleteObject", "k", explain(code, status), status=status)) is denied
