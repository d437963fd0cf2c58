"""Prometheus, its rules and dashboards for time that runs faster: every duration shorter, every number as it is."""

from __future__ import annotations

import re
from typing import Any

TOKEN = re.compile(r'"[^"]*"|[A-Za-z_][\w:]*|\d+(?:\.\d+)?(?:ms|[smhdwy])?')
DURATION = re.compile(r"(\d+)(ms|[smhdw])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(duration: str) -> float:
    """A Prometheus duration of one number and one unit, such as `15m`. Raises ValueError for any other."""
    match = DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{duration!r} is not one number and one unit")
    return int(match[1]) * _SECONDS[match[2]]


def scaled(duration: str, factor: float) -> str:
    """A Prometheus duration times a factor, e.g. `2m` times 1/30 is `4s`; to the millisecond."""
    milliseconds = round(seconds(duration) * factor * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def with_durations(expr: str, factor: float) -> str:
    """An expression with its ranges and offsets times a factor; its numbers, strings and names as they are."""

    def change(match: re.Match[str]) -> str:
        return scaled(match[0], factor) if DURATION.fullmatch(match[0]) else match[0]

    return TOKEN.sub(change, expr)


def shortened(value: Any, faster: float) -> Any:
    """A configuration or rule file, as YAML has it, with all its durations divided by `faster`."""
    if isinstance(value, list):
        return [shortened(one, faster) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: _short(key, one, faster) for key, one in value.items()}


def _short(key: str, value: Any, faster: float) -> Any:
    if key == "expr":
        return with_durations(value, 1 / faster)
    if key == "for" or key.endswith(("interval", "_wait")):
        return scaled(value, 1 / faster)
    return shortened(value, faster)
