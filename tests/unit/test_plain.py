"""The short way of loading a report and marshmallow's own agree on everything that the short way takes."""

from __future__ import annotations

import os
import pickle
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from marshmallow import ValidationError
from msgspec import UNSET
from msgspec.structs import replace

from schemas import wire
from schemas.event import EventSchema
from schemas.plain import Doubt, Plain, spell
from schemas.report import PLAIN, SCHEMA, Invalid, as_sent, load, parse

ROOT = Path(__file__).parents[2]
NOW_MS = 2**50
ROUNDS = 200_000 if os.environ.get("CI") else 20_000
SHARE = 0.9  # of the reports that a platform really sends, to be taken the short way
SENT = [orjson.loads(line) for line in (ROOT / "deploy" / "demo" / "ciie-2020.ndjson").read_bytes().splitlines()]
VALID = [orjson.loads(path.read_bytes()) for path in sorted((ROOT / "schemas" / "examples" / "valid").glob("*.json"))]
INVALID = [
    orjson.loads(path.read_bytes()) for path in sorted((ROOT / "schemas" / "examples" / "invalid").glob("*.json"))
]
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.0, 1.5, 2**63, 2**64, -(2.0**63), 1e300, float("inf"), float("nan")),
    *(
        "",
        " ",
        "\n",
        "a\tb",
        "a\r\nb",
        "\x00",
        "\x7f",
        "\u2028",
        "\ud800",
        "０２１１",
        "x" * 65,
        "x" * 2049,
        "0211",
        "0506",
    ),
    *("reported", "Reported", "repair", "none", "urgent", "2020-11-04 08:00:00", "2020-11-04T08:00:00+08:00", "12"),
    *(
        [],
        {},
        [[]],
        [{}],
        {"a": 1},
        {"name": "x"},
        {"a": [1.0, "\x01"]},
        [1] * 21,
        1_604_448_000_000,
        1_604_448_000_000.0,
    ),
    *({"url": "https://a.cn/x"}, {"address": "x"}, {"x": 121.5, "y": 31.25}, {"x": 1, "y": 2, "crs": "WGS84"}),
]
FREE: list[Any] = [  # what `extra` may hold, and not
    {"round": 7, "of": [1.5, -0.0, True, None, 10.0, 2**64 - 1, -(2**63)], "zh": "网格", "a": {"b": {"c": "e1"}}},
    {"platform": "ywtg", "round": 3},
    {"a": [[[[[[[[[]]]]]]]]]},
    {"large": "x" * 5000},
    [{}],
]
PIECES = [  # of bodies
    *(b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"\\x41", b"\\/", b"\\u00e9", b"\\u003a", b"'", b"/**/"),
    *(
        b"\x00",
        b"\x0b",
        b"\x1f",
        b"\n",
        b"\t",
        b" ",
        b"\x7f",
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"1.", b"01", b"-", b"-0", b"1e400", b"1e5", b".5", b"1E+2", b"0e1", b"NaN"),
    *(b"Infinity", b"null", b"true", b",", b":", b"{", b"}", b"[", b"]", b"9" * 20, b"1" * 30, b"1" * 400),
]
PICKLED = [pickle.dumps(report) for report in (*VALID * 4, *SENT[:30])]  # to be copied in a hurry
PICKLED_ODD = [pickle.dumps(value) for value in ODD]


def whole(data: Any) -> dict[str, Any] | None:
    """What marshmallow makes of it; None when it refuses."""
    try:
        return SCHEMA.load(data)  # type: ignore[no-any-return]
    except ValidationError:
        return None


def builtins(taken: Any) -> dict[str, Any]:
    """What was taken the short way as marshmallow would have it."""
    free, taken.extra = taken.extra, UNSET
    loaded: dict[str, Any] = msgspec.to_builtins(taken)
    return loaded if free is UNSET else loaded | {"extra": orjson.loads(bytes(free))}


def mutated(dice: random.Random) -> Any:
    """A report with one to three things changed, anywhere in it."""
    report = pickle.loads(dice.choice(PICKLED))
    for _ in range(dice.randint(1, 3)):
        holders = list(_objects(report))
        holder = dice.choice(holders) if holders else None
        if holder is None:
            return dice.choice(ODD)
        key = dice.choice([*holder, *SCHEMA.fields, "colour", "x", "crs"])
        if dice.random() < 0.2:
            holder.pop(key, None)
        else:
            holder[key] = pickle.loads(dice.choice(PICKLED_ODD))
    return report


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def same(short: Any, long: Any) -> bool:
    """Equal in every type too: 1, 1.0 and True are three things here."""
    return type(short) is type(long) and (
        short.keys() == long.keys() and all(same(short[key], long[key]) for key in short)
        if isinstance(short, dict)
        else len(short) == len(long) and all(map(same, short, long))
        if isinstance(short, list)
        else short == long
    )


def test_what_is_taken_the_short_way_is_what_marshmallow_makes_of_it() -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice, seen = random.Random(seed), Counter[str]()
    for _ in range(ROUNDS):
        data = mutated(dice)
        before = pickle.dumps(data)
        long = whole(data)
        try:
            short = builtins(PLAIN(data))
        except Doubt:
            seen["doubted" if long is None else "doubted though right"] += 1
            continue
        seen["taken"] += 1
        assert long is not None, (seed, data)
        assert same(short, long), (seed, data)
        assert pickle.dumps(data) == before, (seed, data)
    assert seen["taken"] > ROUNDS // 50, seen
    assert seen["doubted"] > ROUNDS // 50, seen


def test_a_body_is_read_by_type_only_where_it_reads_the_same_without() -> None:
    """Bytes that are changed anywhere: what is taken is JSON for the strict parser too, and the same reports."""
    seed = random.SystemRandom().randrange(2**32)
    dice, seen = random.Random(seed), Counter[str]()
    free = [{**report, "extra": extra} for report in VALID[:3] for extra in FREE]
    bodies = [*map(orjson.dumps, (*VALID, *SENT[:60], *free)), orjson.dumps(SENT[60:63])]
    for _ in range(ROUNDS):
        body = dice.choice(bodies)
        for _ in range(dice.choice((0, 1, 1, 1, 2, 3))):
            at = dice.randrange(len(body) + 1)
            body = body[:at] + dice.choice(PIECES) + body[at + dice.choice((0, 0, 1, 1, 2, 4)) :]
        try:
            read = PLAIN.read(body)
        except Doubt:
            seen["doubted"] += 1
            continue
        seen["taken"] += 1
        parsed = wire.parse(body)
        one = not isinstance(parsed, list)
        assert same(as_sent(read) if one else [as_sent(each) for each in read], parsed), (seed, body)
        if one and "extra" in parsed:
            seen["free"] += 1
            assert judged(read) == judged(parsed), (seed, body)
    assert seen["taken"] > ROUNDS // 50, seen
    assert seen["doubted"] > ROUNDS // 50, seen
    assert seen["free"] > ROUNDS // 50, seen


def test_a_repeated_key_is_never_read_by_type() -> None:
    full = orjson.loads((ROOT / "schemas" / "examples" / "valid" / "full.json").read_bytes())
    body = orjson.dumps(full)
    assert isinstance(parse(body), PLAIN.type)
    for holder in (full, full["location"], full["attachments"][0], full["extra"]):
        whole = orjson.dumps(holder)
        for key in holder:
            with pytest.raises(wire.Unreadable):
                parse(body.replace(whole, whole[:-1] + b"," + orjson.dumps({key: holder[key]})[1:]))


def test_a_report_is_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its canonical bytes and its fingerprint, or refused with the same problems."""
    dice = random.Random(7)
    corpus = [*VALID, *INVALID, *SENT, *(mutated(dice) for _ in range(3000))]
    short = [judged(data) for data in corpus]
    monkeypatch.setattr("schemas.report._taken", lambda *_: None)

    assert [judged(data) for data in corpus] == short


def judged(data: Any) -> Any:
    try:
        report = load(data, now_ms=NOW_MS)
    except Invalid as invalid:
        return [(one.pointer, one.reason, dict(one.params)) for one in invalid.problems]
    return replace(report, content=None), wire.encode(report.canonical), spell(report.content), report.fingerprint()


def test_what_platforms_send_takes_the_short_way() -> None:
    taken = 0
    for report in SENT:
        try:
            PLAIN(report)
        except Doubt:
            continue
        taken += 1
    assert taken >= SHARE * len(SENT)


def test_every_kind_of_field_of_the_contract_has_a_short_way() -> None:
    """Of the event too, which nobody loads in a hurry: whoever adds a kind of field learns of it here."""
    event = orjson.loads((ROOT / "schemas" / "examples" / "event.json").read_bytes())

    assert builtins(Plain(EventSchema())(event)) == EventSchema().load(event)
