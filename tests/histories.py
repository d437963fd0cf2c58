"""Histories of cases as districts have them: late and lost reports, rework, cases that change kind, holds, cancels."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

CATEGORIES = {"repair": ("0211", "0404", "0101"), "incident": ("0205", "0501", "0301")}
WORK = ("dispatched", "arrived", "finished", "approved")
ODD = ("returned", "suspended", "resumed", "cancelled", "pressed", "supervised", "note", "finished", "approved")
STREETS = ("310109018000", "310109011000", "310109018")


def histories(dice: Random, cases: int, prefix: str, now: datetime | None = None) -> Iterator[list[dict[str, Any]]]:
    """The reports of each case, in the order they are sent."""
    now = now or datetime.now(UTC)
    for number in range(cases):
        yield [
            one | {"report_id": f"{prefix}-{number}-{n}", "case_id": f"{prefix}.{number}"}
            for n, one in enumerate(_history(dice, now))
        ]


def mixed(dice: Random, told: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All of them in one order that keeps each case's own."""
    left = [list(reversed(one)) for one in told]
    order = [n for n, one in enumerate(told) for _ in one]
    dice.shuffle(order)
    return [left[n].pop() for n in order]


def _history(dice: Random, now: datetime) -> list[dict[str, Any]]:
    kind = dice.choice(tuple(CATEGORIES))
    category = dice.choice(CATEGORIES[kind])
    at = now - timedelta(minutes=dice.choice((4, 14.97, 24.97, 40, 300, 1439.9, 3000)))
    stages = ["reported", *WORK[: dice.randrange(5)]]
    for _ in range(dice.choice((0, 0, 1, 2, 4))):
        stages.insert(dice.randrange(len(stages) + 1), dice.choice(ODD))
    if dice.random() < 0.05:
        stages.remove("reported")
    told = []
    for stage in stages or ["note"]:
        if dice.random() < 0.03:
            kind = dice.choice(tuple(CATEGORIES))
            category = dice.choice(CATEGORIES[kind])
        told.append(_report(dice, kind, category, stage, min(at, now)))
        at += timedelta(seconds=dice.choice((0, 1, 60, 240, 900, 1500, 7200)))
    if dice.random() < 0.2:
        dice.shuffle(told)
    return told


def _report(dice: Random, kind: str, category: str, stage: str, at: datetime) -> dict[str, Any]:
    made: dict[str, Any] = {
        "kind": kind,
        "category": category,
        "stage": stage,
        "occurred_at": at.isoformat(timespec="milliseconds"),
    }
    if stage == "reported" or dice.random() < 0.1:
        made["location"] = {"address": "杨树浦路 × 秦皇岛路", "street_code": dice.choice(STREETS)}
    if dice.random() < 0.2:
        made["supervision"] = dice.choice(("none", "pressed", "supervised", "urgent"))
    if dice.random() < 0.1:
        made["campaign"] = dice.choice(({"name": "第三届进博会", "phase": "formal", "level": "一级"}, {"name": "防汛"}))
    return made
