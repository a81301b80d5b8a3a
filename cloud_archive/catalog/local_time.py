"""Convert between seconds since 1970 and local time, also before 1970, for which Windows knows no local time."""

from __future__ import annotations

from datetime import datetime, timedelta

# Python asks for the local time of the day before too.
_FIRST_SECONDS = 2 * 86_400


def to_local(seconds: float) -> datetime:
    """Return the local time, without a time zone. Raises ValueError, OverflowError or OSError if it is too far away."""
    if seconds >= _FIRST_SECONDS:
        return datetime.fromtimestamp(seconds)
    return datetime.fromtimestamp(_FIRST_SECONDS) + timedelta(seconds=seconds - _FIRST_SECONDS)


def from_local(moment: datetime) -> float:
    """Return seconds since 1970 of a local time without a time zone. Raises as `to_local` does."""
    first = datetime.fromtimestamp(_FIRST_SECONDS)
    if moment >= first + timedelta(days=1):
        return moment.timestamp()
    return _FIRST_SECONDS + (moment - first).total_seconds()
