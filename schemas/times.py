"""Times as platforms send them, and as we keep them: an int of milliseconds since 1970-01-01T00:00:00Z."""

import re
from datetime import datetime, timedelta
from functools import lru_cache

EARLIEST_MS = 946_684_800_000  # 2000-01-01T00:00:00Z: before it, the sender's clock or unit (seconds?) is wrong

_DAY = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"  # no 24:00 and no leap second: a POSIX time has neither
_OFFSET = "(?:[Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"  # RFC 3339 has +08:00; Java also writes +0800 and +08
TIME = rf"({_DAY})[Tt ]({_CLOCK})(?:\.([0-9]{{1,9}}))?({_OFFSET})?"  # RFC 3339 allows lower case, and a space for T
CANONICAL = rf"{_DAY}T{_CLOCK}\.[0-9]{{3}}Z"

_TIME = re.compile(TIME)
_SECONDS = {f"{second:02}": second for second in range(60)}
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, and `Z` says so
_SHANGHAI = "+08:00"  # no daylight saving since 1991, so no time zone database


def parse_time(text: str) -> int:
    """Milliseconds of an RFC 3339 time; without an offset it is of the clocks in Shanghai. Digits after ms are cut.

    Raises ValueError for any other text and for days that no calendar has.
    """
    seconds = _SECONDS.get(text[17:19])
    return _parsed(text) if seconds is None else _parsed(f"{text[:17]}00{text[19:]}") + seconds * 1000


@lru_cache(maxsize=1024)  # by the minute: what is sent together happened within a few, in most cases
def _parsed(text: str) -> int:
    spelt = _TIME.fullmatch(text)
    if not spelt:
        raise ValueError("not a time")
    day, clock, fraction, offset = spelt.groups()
    midnight = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
    seconds = midnight + int(clock[:2]) * 3600 + int(clock[3:5]) * 60 + int(clock[6:])
    ms = int((fraction + "00")[:3]) if fraction else 0
    return (seconds - _offset_seconds(offset or _SHANGHAI)) * 1000 + ms


@lru_cache(maxsize=64)  # all reports of a batch were received at once, and many happened in the same second
def format_time(ms: int) -> str:
    """RFC 3339 in UTC with exactly three decimals, as in `2020-11-04T00:00:00.000Z`."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds") + "Z"


def _offset_seconds(offset: str) -> int:
    if offset in "Zz":
        return 0
    seconds = int(offset[1:3]) * 3600 + int(offset[3:].removeprefix(":") or 0) * 60
    return -seconds if offset[0] == "-" else seconds
