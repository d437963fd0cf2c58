"""The rules of deploy/prometheus as values: what they name, what they need, and how to change them a little."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.demo.faster import DURATION, TOKEN, scaled

Rule = dict[str, Any]

HOME = Path(__file__).parents[1] / "deploy" / "prometheus"
RULES = sorted((HOME / "rules").glob("*.yml"))
TESTS = sorted((HOME / "tests").glob("*.yml"))


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


# ---- mutants ----


def mutants(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """What was changed, and the rule with it: every number and duration of `expr`, and `for`, up and down.

    Numbers by a factor of 1.3, durations by 2: a threshold that can be so far off unnoticed is not tested.
    """
    expr = rule["expr"]
    for match in TOKEN.finditer(expr):
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
    if DURATION.fullmatch(token):
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
