"""The rules of deploy/prometheus as values: what they name, what they need, and how to change them a little."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Rule = dict[str, Any]

HOME = Path(__file__).parents[1] / "deploy" / "prometheus"
RULES = sorted((HOME / "rules").glob("*.yml"))
TESTS = sorted((HOME / "tests").glob("*.yml"))

_TOKEN = re.compile(r'"[^"]*"|[A-Za-z_:][\w:]*|\d+(?:\.\d+)?(?:ms|[smhdwy])?')
_DURATION = re.compile(r"(\d+)(ms|[smhdw])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def read(file: Path) -> list[Rule]:
    """All rules of a file."""
    return [rule for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def alerts() -> list[Rule]:
    """All alerts, in the order of their file."""
    return [rule for file in RULES for rule in read(file) if "alert" in rule]


def records() -> list[Rule]:
    """All recording rules."""
    return [rule for file in RULES for rule in read(file) if "record" in rule]


def needed(rule: Rule) -> set[str]:
    """The names of the recording rules that an expression rests on, directly or not."""
    found: set[str] = set()
    wanted = set(re.findall(r"gridgov:[\w:]+", rule["expr"]))
    while wanted - found:
        found |= wanted
        below = " ".join(one["expr"] for one in records() if one["record"] in wanted)
        wanted = set(re.findall(r"gridgov:[\w:]+", below))
    return found


# ---- durations ----


def scaled(duration: str, factor: float) -> str:
    """A Prometheus duration times a factor, e.g. `2m` times 1/30 is `4s`; to the millisecond."""
    number, unit = _matched(duration)
    milliseconds = round(number * _SECONDS[unit] * factor * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def with_durations(expr: str, factor: float) -> str:
    """An expression with its ranges and offsets times a factor; its numbers, strings and names as they are."""

    def change(match: re.Match[str]) -> str:
        return scaled(match[0], factor) if _DURATION.fullmatch(match[0]) else match[0]

    return _TOKEN.sub(change, expr)


def _matched(duration: str) -> tuple[int, str]:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{duration!r} is not one number and one unit")
    return int(match[1]), match[2]


# ---- mutants ----


def mutants(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """What was changed, and the rule with it: every number and duration of `expr`, and `for`, up and down.

    Numbers by a factor of 1.3, durations by 2: a threshold that can be so far off unnoticed is not tested.
    """
    expr = rule["expr"]
    for match in _TOKEN.finditer(expr):
        for other in _others(match[0]):
            changed = f"{expr[: match.start()]}{other}{expr[match.end() :]}"
            yield f"{match[0]} at {match.start()} → {other}", {**rule, "expr": changed}
    for other in _others(rule["for"]):
        yield f"for {rule['for']} → {other}", {**rule, "for": other}


def _others(token: str) -> list[str]:
    if not token[0].isdigit():
        return []
    if token == "0s":
        return ["1m"]
    if _DURATION.fullmatch(token):
        return [scaled(token, 2), scaled(token, 0.5)]
    value = float(token)
    return ["1", "-1"] if value == 0 else [f"{value * 1.3:.6g}", f"{value / 1.3:.6g}"]


def copied(into: Path, test: Path, keep: Callable[[Rule], Rule | None]) -> Path:
    """A copy of one promtool test with its rule files, each rule as `keep` gives it back, or left out; the test."""
    given = yaml.safe_load(test.read_text(encoding="utf-8"))
    for name in given["rule_files"]:
        source = (test.parent / name).resolve()
        groups = copy.deepcopy(yaml.safe_load(source.read_text(encoding="utf-8")))
        for group in groups["groups"]:
            group["rules"] = [kept for rule in group["rules"] if (kept := keep(rule)) is not None]
        target = into / "tests" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump(groups, allow_unicode=True), encoding="utf-8")
    place = into / "tests" / test.name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(test.read_bytes())
    return place


# ---- what an expression names ----


def selectors(expr: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Every series an expression selects: its name, and its matchers as (label, operator, value)."""
    return [
        (name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', matchers))
        for name, matchers in re.findall(r"\b((?:gridgov[_:]|up\b)[\w:]*)(\{[^}]*\})?", expr)
    ]


def grouped(expr: str) -> set[str]:
    """Every label by which an expression aggregates or joins."""
    lists = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", expr)
    return {label.strip() for labels in lists for label in labels.split(",") if label.strip()}
