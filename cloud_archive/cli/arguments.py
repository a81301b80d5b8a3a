"""Parse arguments without importing typer; see start.py."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import CloudArchiveError
from ..redaction import mask_value, secret_values, strip_quotes

DIRECTORY_VARIABLE = "COMFYUI_OUTPUT_DIR"


class WrongUsage(CloudArchiveError):
    """The command line is wrong: exit status 2."""


def given_directory(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return DIR, else COMFYUI_OUTPUT_DIR, as an absolute path; None if neither is given.

    Raises WrongUsage if COMFYUI_OUTPUT_DIR names a home directory that is not known.
    """
    text = strip_quotes(environ.get(DIRECTORY_VARIABLE, ""))
    if given is None and not text:
        return None
    try:
        chosen = given if given is not None else Path(text).expanduser()
    except RuntimeError as error:
        raise WrongUsage(
            f"{DIRECTORY_VARIABLE} is {_shown(environ)!r}: the home directory is not known. Give a whole path."
        ) from error
    return Path(os.path.abspath(chosen))  # noqa: PTH100 - symlinks stay as they are


def watched_directory(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory to archive. Raises WrongUsage if none is named, or it is not a directory."""
    chosen = given_directory(given, environ)
    if chosen is None:
        raise WrongUsage(f"No directory was given: give DIR, or set {DIRECTORY_VARIABLE}.")
    if not chosen.is_dir():
        source = "" if given is not None else f" ({DIRECTORY_VARIABLE})"
        what = (
            "is not a directory. Give a directory; `cloud-archive upload` archives single files."
            if chosen.exists()
            else "does not exist. Correct the path, or create the directory."
        )
        named = str(chosen) if given is not None else _shown(environ)
        raise WrongUsage(f"The directory {named}{source} {what}")
    return chosen


def _shown(environ: Mapping[str, str]) -> str:
    """Return COMFYUI_OUTPUT_DIR without secrets."""
    return mask_value(strip_quotes(environ.get(DIRECTORY_VARIABLE, "")), secret_values(environ), is_path=True)


def host_and_port(text: str) -> tuple[str, int]:
    """Parse the value of `--serve`: `HOST:PORT`, `:PORT` or `PORT`; without a host, this machine only.

    >>> host_and_port("8080"), host_and_port("[::1]:80")
    (('127.0.0.1', 8080), ('::1', 80))

    Raises:
        WrongUsage: it is none of these.
    """
    match = re.fullmatch(r"(?:(?:\[([^][/]+)\]|([^][:/]*)):)?([0-9]{1,5})", text.strip())
    if match is None or int(match[3]) > 65535:
        raise WrongUsage(f"--serve {text!r}: give HOST:PORT, such as 127.0.0.1:8189 or [::1]:8189.")
    return match[1] or match[2] or "127.0.0.1", int(match[3])


def is_loopback_host(host: str) -> bool:
    """Return whether `host` is a loopback address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(path: Path) -> str:
    """Return the token in a file's first line. Raises WrongUsage if there is none, or the file can't be read."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise WrongUsage(
            f"--token-file {path}: {getattr(error, 'strerror', None) or 'is not text'}."
        ) from error
    token = lines[0].strip() if lines else ""
    if not re.fullmatch("[!-~]+", token):
        raise WrongUsage(f"--token-file {path}: its first line must be the token, ASCII without spaces.")
    return token
