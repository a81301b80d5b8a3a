"""Start the child processes that decode what strangers wrote."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from ..redaction import redact

_PRIVATE = ("S3_", "R2_", "AWS_", "CLOUD_ARCHIVE_", "RUNPOD_", "HF_")
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "KEY")


def start_child(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start `command` with pipes for its input and output, and without this process's secrets. OSError: it can't."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment_without_secrets(),
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _environment_without_secrets() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_PRIVATE)
        and not any(word in name.upper() for word in _SECRET_WORDS)
        and redact(value, ()) == value  # leaves out a proxy's URL with a password, for example
    }
