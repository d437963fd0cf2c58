"""The sink's tables say of every case what gridgov's own casebook says, in whatever order the topics are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import orjson
import pytest

from schemas.catalogue import Catalogue
from schemas.times import format_time, parse_time
from schemas.words import Stage, Supervision
from service.consumer import Database, Report
from service.domain.case import Campaign, Fact
from service.domain.view import view
from service.sink.rows import names
from service.sink.sink import Sink
from tests.histories import histories, mixed
from tests.sunk import as_shown, cases, differences
from tests.unit.case_desk import Desk
from tests.unit.case_stories import RULES, T0

CATALOGUE = Catalogue.load()
STARTED = datetime.fromtimestamp(T0 / 1000, UTC)
HOURS = 3_600_000
OWN_ONLY = {"contractor"}


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sink.db'}"


def sink_at(url: str, rules: Any = RULES, rules_id: str = "one") -> tuple[Database, Sink]:
    database = Database.at(url)
    made = Sink(database, rules, rules_id, names(CATALOGUE), OWN_ONLY)
    made.open()
    return database, made


def received(told: list[dict[str, Any]], dice: Random) -> list[tuple[dict[str, Any], int]]:
    """Each with the moment it came to gridgov: over two days, often in the same millisecond as another."""
    at = T0
    return [(one, at := at + dice.choice((0, 0, 1, 5_000, 60_000, 400_000))) for one in told]


def sender(value: dict[str, Any]) -> str:
    """One in nine reports is of somebody who speaks of its own cases only; now and then the first of a case."""
    return "contractor" if crc32(value["report_id"].encode()) % 9 == 0 else "platform"


def fact(value: dict[str, Any], seq: int, at: int) -> Fact:
    campaign = value.get("campaign")
    return Fact(
        *(value["case_id"], parse_time(value["occurred_at"]), at, seq, sender(value), value["report_id"]),
        *(value["kind"], value["category"], Stage(value["stage"])),
        Supervision(value.get("supervision", "none")),
        Campaign(campaign["name"], campaign.get("phase"), campaign.get("level")) if campaign else None,
        sender(value) in OWN_ONLY,
    )


def message(value: dict[str, Any], seq: int, at: int) -> Report:
    whole = {
        **value,
        "occurred_at": format_time(parse_time(value["occurred_at"])),
        "received_at": format_time(at),
        "supervision": value.get("supervision", "none"),
        "major_name": {"zh": "大类", "en": "major"},
        "category_name": None,
        "flags": [],
    }
    report_id, case_id, kind, category, stage = (
        value[name] for name in ("report_id", "case_id", "kind", "category", "stage")
    )
    return Report("t", 0, seq, "j", seq, sender(value), report_id, case_id, kind, category, stage, whole)


def sink(url: str, messages: list[Report], dice: Random, now: int | None = None) -> None:
    database, made = sink_at(url)
    while messages:
        some, messages = messages[: (many := dice.randint(1, 40))], messages[many:]
        with database.transaction() as cursor:
            made.handle(cursor, some)
        if now is not None and dice.random() < 0.2:
            made.sweep(now)
    while now is not None and made.sweep(now):
        pass
    database.close()


def swept(desk: Desk) -> None:
    """A turn that sweeps, although no second has passed."""
    desk.fold._sweep_at = 0.0
    desk.turn()


@pytest.mark.parametrize("order", ["as they came", "by topic", "in no order"])
@pytest.mark.parametrize("seed", range(4))
def test_every_case_is_what_the_casebook_says(desk: Desk, url: str, seed: int, order: str) -> None:
    dice = Random(f"{seed} {order}")
    told = received(mixed(dice, list(histories(dice, 100, "c", STARTED + timedelta(hours=30)))), dice)
    messages = [message(value, seq, at) for seq, (value, at) in enumerate(told, 1)]
    for seq, (value, at) in enumerate(told, 1):
        desk.now = max(desk.now, at)
        desk.accept(fact(value, seq, at))
        if dice.random() < 0.3:
            swept(desk)
    desk.now = told[-1][1] + dice.choice((0, 2, 30)) * HOURS
    swept(desk)
    if order == "by topic":
        messages.sort(key=lambda one: (one.kind, one.category))
    elif order == "in no order":
        dice.shuffle(messages)

    sink(url, messages, dice, desk.now)

    as_of = format_time(desk.now)
    ours = {
        one["case_id"]: as_shown(orjson.loads(orjson.dumps(view(desk.case(one["case_id"]), desk.now, RULES))))
        for value, _ in told
        for one in [value]
    }
    assert differences(cases(url, as_of), ours) == []
    outcomes = {one["outcome"] for shown in ours.values() for one in shown["standards"]}
    assert {"met", "breached"} <= outcomes
    assert any("foreign_sender" in shown["flags"] for shown in ours.values())


def test_other_rules_judge_what_is_undecided_anew(desk: Desk, url: str) -> None:
    dice = Random(16)
    told = received(mixed(dice, list(histories(dice, 60, "c", STARTED + timedelta(hours=30)))), dice)
    for seq, (value, at) in enumerate(told, 1):
        desk.now = max(desk.now, at)
        desk.accept(fact(value, seq, at))
        swept(desk)
    sink(url, [message(value, seq, at) for seq, (value, at) in enumerate(told, 1)], dice, desk.now)
    before = cases(url, format_time(desk.now))

    stricter = replace(RULES, limit=lambda *_: 60, grace_ms=0)
    desk.restart(stricter, "two")
    swept(desk)
    database, made = sink_at(url, stricter, "two")
    while made.sweep(desk.now):
        pass
    database.close()

    def shown(name: str) -> dict[str, Any]:
        return as_shown(orjson.loads(orjson.dumps(view(desk.case(name), desk.now, stricter))))

    after = cases(url, format_time(desk.now))
    assert differences(after, {name: shown(name) for name in before}) == []
    assert after != before
