"""The exceptions of Cloud Archive, and the one table that turns a store's refusal into a cause and a cure.

    CloudArchiveError
    ├── SettingsError          a variable holds what it must not; names it, never a secret
    ├── KeyRejected            no object key can be made: too long, or every name is taken
    ├── RootReplaced           the watched directory is away, or another one stands in its place
    ├── FileProblem            one local file
    │   ├── FileVanished       it is gone, or no regular file any more
    │   ├── FileChanged        it was written to while we read it
    │   └── FileUnreadable     the system refuses to open or read it (tried again)
    ├── StoreError             the store refused or did not answer; carries a `Failure`
    │   ├── ObjectExists       a create-only write found the key taken
    │   └── ConditionsRejected the store takes no create-only writes at all: look first, then write
    ├── LedgerError            the ledger cannot be used
    │   ├── LedgerTooNew       it was written by a newer version of the plugin
    │   └── LedgerDamaged      SQLite says that the file is not sound
    ├── CatalogError           the catalog cannot be used
    │   └── CatalogDamaged     SQLite says that the file is not sound
    ├── EngineUnavailable      a face cannot reach the engine
    ├── EmbeddedStoreFailed    the store of the demonstration and the tests does not run
    └── RequestRefused         an HTTP call that is answered with a 4xx

Every exception carries its facts as attributes and reads as a sentence. None ever holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class CloudArchiveError(Exception):
    """The root of every error that this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One wrong variable: its name, what it held (masked for secrets, None where unset), what is accepted."""

    variable: str
    value: str | None
    accepted: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.variable} is not set: {self.accepted}"
        return f"{self.variable} is {self.value!r}: {self.accepted}"


class SettingsError(CloudArchiveError):
    """The environment does not describe a usable archive."""

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class KeyRejected(CloudArchiveError):
    """No object key can be made for this file. Trying again cannot help until something is renamed."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(reason)


class RootReplaced(CloudArchiveError):
    """The watched directory is missing, or is not the one whose files the ledger knows."""


class FileProblem(CloudArchiveError):
    """Something about one local file; `path` is relative to the watched directory."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


class FileVanished(FileProblem):
    """The file is gone, or is no regular file any more."""

    def __init__(self, path: str) -> None:
        super().__init__(path, f"{path} is gone")


class FileChanged(FileProblem):
    """The file was written to while it was read or sent."""

    def __init__(self, path: str) -> None:
        super().__init__(path, f"{path} changed while it was being archived")


class FileUnreadable(FileProblem):
    """The system refuses to open or read the file; `reason` is the system's own word."""

    def __init__(self, path: str, reason: str) -> None:
        self.reason = reason
        super().__init__(path, f"{path} cannot be read: {reason}")


class FailureScope(Enum):
    """What a failure concerns: this file only, or everything that goes to this store."""

    FILE = "file"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Failure:
    """A store error, explained.

    Attributes:
        code: the store's own code (`NoSuchBucket`), or ours for what never reached it (`NameNotResolved`).
        cause: one sentence in words that a user understands.
        cure: what to do, one sentence; empty where nothing needs doing but waiting.
        passing: True where the same request may succeed later without anybody doing anything.
        scope: STORE where every other file would meet the same answer.
        throttled: True where fewer requests at once may help: the store asks for them, or the link is too slow for
            so many.
    """

    code: str
    cause: str
    cure: str
    passing: bool
    scope: FailureScope
    throttled: bool = False

    @property
    def sentence(self) -> str:
        """Cause and cure, as shown to users."""
        return f"{self.cause} {self.cure}".strip()


class StoreError(CloudArchiveError):
    """The store refused an operation, or could not be reached.

    Attributes:
        operation: the S3 operation, such as `PutObject`.
        key: the object key, or None where the operation has none.
        failure: code, cause, cure, and whether trying again can help.
        status: the HTTP status, or None where no answer came.
        said: what the store itself said, shortened; never a secret.
        retry_after_seconds: how long the store asked us to wait, or None.
    """

    def __init__(
        self,
        operation: str,
        key: str | None,
        failure: Failure,
        *,
        status: int | None = None,
        said: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        self.operation = operation
        self.key = key
        self.failure = failure
        self.status = status
        self.said = said
        self.retry_after_seconds = retry_after_seconds
        super().__init__(failure.sentence)


class ObjectExists(StoreError):
    """A create-only write was refused because the key is taken (412 PreconditionFailed)."""


class ConditionsRejected(StoreError):
    """The store refuses create-only writes as such (501): the write has to go without, after a look at the key."""


class LedgerError(CloudArchiveError):
    """The ledger cannot be used; the message says why and what to do."""


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer version of Cloud Archive."""


class LedgerDamaged(LedgerError):
    """SQLite says that the ledger's file is not sound."""


class CatalogError(CloudArchiveError):
    """The catalog cannot be used. Archiving does not depend on it."""


class CatalogDamaged(CatalogError):
    """The catalog's file is not sound, or another version's: it is moved aside and built again."""


class EngineUnavailable(CloudArchiveError):
    """The engine process does not answer; the message says why."""


class EmbeddedStoreFailed(CloudArchiveError):
    """The embedded store is not installed or does not run; the message says why."""


class RequestRefused(CloudArchiveError):
    """An HTTP call that is answered with `status` (4xx or 5xx) and this message."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)
