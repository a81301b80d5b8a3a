"""The tree of exceptions, and what each says."""

from __future__ import annotations

import re

from cloud_archive import errors
from cloud_archive.errors import (
    CloudArchiveError,
    ConditionsRejected,
    KeyRejected,
    ObjectExists,
    SettingProblem,
    SettingsError,
    StoreError,
)
from cloud_archive.store.failures import explain


def test_every_exception_is_drawn_in_the_docstring() -> None:
    def below(kind: type[CloudArchiveError]) -> set[str]:
        return {kind.__name__}.union(*(below(one) for one in kind.__subclasses__()))

    drawn = set(re.findall(r"─ ([A-Z][A-Za-z]+) ", errors.__doc__ or "")) | {"CloudArchiveError"}
    assert {name for name in below(CloudArchiveError) if hasattr(errors, name)} == drawn


def test_a_store_error_reads_as_cause_and_cure_and_carries_its_facts() -> None:
    error = ObjectExists(
        "PutObject", "a/b.png", explain("PreconditionFailed"), status=412, store_message="no"
    )
    assert str(error) == "The key is taken."
    assert (error.operation, error.key, error.status, error.store_message) == (
        "PutObject",
        "a/b.png",
        412,
        "no",
    )
    assert isinstance(error, StoreError)
    assert issubclass(ConditionsRejected, StoreError)
    assert not issubclass(ConditionsRejected, ObjectExists)


def test_a_settings_error_names_every_variable() -> None:
    error = SettingsError(
        [SettingProblem("S3_BUCKET", None, "the bucket's name"), SettingProblem("S3_REGION", "?", "a region")]
    )
    assert str(error) == "S3_BUCKET is not set: the bucket's name; S3_REGION is '?': a region"


def test_a_rejected_key_says_why() -> None:
    error = KeyRejected("a" * 2000, "the key is too long")
    assert str(error) == "the key is too long"
    assert len(error.key) == 2000
