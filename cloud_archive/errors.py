"""The exceptions that packages share.

    CloudArchiveError
    ├── SettingsError          a variable is missing or invalid; names it, never a secret
    ├── KeyRejected            no object key is possible: too long, or every name is taken
    ├── KeyBeingPruned         `prune` is deleting the object with this key
    ├── RootReplaced           the watched directory is missing, or another one is in its place
    ├── FileProblem            one local file
    │   ├── FileVanished       it is missing, or not a regular file
    │   ├── FileChanged        it changed while it was read or uploaded
    │   ├── FileUnreadable     the system refuses to open or read it
    │   └── StripRefused       no copy without metadata is possible
    ├── StoreError             the store refused or did not answer; carries a `Failure`
    │   ├── ObjectExists       a create-only write found the key taken
    │   └── ConditionsRejected the store supports no create-only writes
    ├── LedgerError            the ledger can't be used
    │   ├── LedgerTooNew       it was written by a newer version of Cloud Archive
    │   └── LedgerDamaged      SQLite found it damaged
    ├── CatalogError           the catalog can't be used
    │   └── CatalogDamaged     it is damaged, or of another version
    ├── JobsError              the list of jobs can't be used
    ├── EngineUnavailable      the engine does not answer
    ├── EmbeddedStoreFailed    the store of the demo and the tests does not run
    └── RequestRefused         an HTTP call gets an error status

Every exception has its facts as attributes and a sentence as its text. None contains a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class CloudArchiveError(Exception):
    """The base class of this package's errors."""


class SettingProblem(NamedTuple):
    """A wrong variable, its value (masked; None if unset), and what is accepted."""

    variable: str
    value: str | None
    accepted: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.variable} is not set: {self.accepted}"
        return f"{self.variable} is {self.value!r}: {self.accepted}"


class SettingsError(CloudArchiveError):
    """One or more variables are wrong.

    Attributes:
        sentences: one about each problem, and one about each setting that looks misspelt.
    """

    def __init__(self, problems: Sequence[SettingProblem], misspelt: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        self.sentences = (*map(str, self.problems), *misspelt)
        text = "; ".join(map(str, self.problems))
        super().__init__(f"{text}. {' '.join(misspelt)}" if misspelt else text)


class KeyRejected(CloudArchiveError):
    """No key is possible for this file; a retry can't help until it or the prefix is renamed, or a name is free."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(reason)


class KeyBeingPruned(CloudArchiveError):
    """`prune` is deleting the object with this key, so no file can count as archived there; a retry helps."""

    def __init__(self, key: str) -> None:
        super().__init__(f"`prune` is deleting the object {key}. The file is archived again after that.")


class RootReplaced(CloudArchiveError):
    """The watched directory is missing, or is not the one whose files the ledger knows."""


class FileProblem(CloudArchiveError):
    """A problem of one local file; `path` names it."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


class FileVanished(FileProblem):
    def __init__(self, path: str) -> None:
        super().__init__(path, f"{path} is gone")


class FileChanged(FileProblem):
    def __init__(self, path: str) -> None:
        super().__init__(path, f"{path} changed while it was being archived")


class FileUnreadable(FileProblem):
    """`reason` is the system's message."""

    def __init__(self, path: str, reason: str) -> None:
        self.reason = reason
        super().__init__(path, f"{path} can't be read: {reason}")


class StripRefused(FileProblem):
    """`reason` says why, without a full stop."""

    def __init__(self, path: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            path,
            f"The metadata of {path} can't be removed: {reason}. Share it with its metadata, or convert it first.",
        )


class FailureScope(Enum):
    """What a failure concerns."""

    FILE = "file"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Failure:
    """The explanation of a store error.

    Attributes:
        code: the store's code (`NoSuchBucket`), or ours (`NameNotResolved`).
        cause: what happened, for users.
        cure: what to do; empty if waiting is enough or no cure is known.
        transient: a retry may succeed without any change.
        scope: STORE if every other file would fail in the same way.
        throttled: fewer parallel requests may help.
    """

    code: str
    cause: str
    cure: str
    transient: bool
    scope: FailureScope
    throttled: bool = False

    @property
    def sentence(self) -> str:
        return f"{self.cause} {self.cure}".strip()


class StoreError(CloudArchiveError):
    """The store refused an operation, or did not answer.

    Attributes:
        operation: the S3 operation, such as `PutObject`.
        status: the HTTP status; None without an answer.
        store_message: the store's own message, shortened and without secrets.
        retry_after_seconds: how long the store asked us to wait.
    """

    def __init__(
        self,
        operation: str,
        key: str | None,
        failure: Failure,
        *,
        status: int | None = None,
        store_message: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        self.operation = operation
        self.key = key
        self.failure = failure
        self.status = status
        self.store_message = store_message
        self.retry_after_seconds = retry_after_seconds
        super().__init__(failure.sentence)

    def with_failure(self, failure: Failure) -> StoreError:
        """Return an error about the same answer, explained by another failure."""
        return StoreError(
            self.operation,
            self.key,
            failure,
            status=self.status,
            store_message=self.store_message,
            retry_after_seconds=self.retry_after_seconds,
        )


class ObjectExists(StoreError):
    """A create-only write failed because the key is taken (412 PreconditionFailed)."""


class ConditionsRejected(StoreError):
    """The store supports no create-only writes (501). Check the key with a HEAD first, then write."""


class LedgerError(CloudArchiveError):
    """The ledger can't be used; the message says why."""


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer version of Cloud Archive."""


class LedgerDamaged(LedgerError):
    """SQLite found the ledger's file damaged."""


class CatalogError(CloudArchiveError):
    """The catalog can't be used."""


class CatalogDamaged(CatalogError):
    """The catalog's file is damaged, or of another version."""


class JobsError(CloudArchiveError):
    """The list of jobs can't be used."""


class EngineUnavailable(CloudArchiveError):
    """The engine process does not answer; the message says why."""


class EmbeddedStoreFailed(CloudArchiveError):
    """The embedded store is not installed or does not run; the message says why."""


class RequestRefused(CloudArchiveError):
    """An HTTP call is answered with `status` (4xx or 5xx) and this message."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)
