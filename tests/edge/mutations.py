"""Bodies that were reports once: changed as bytes, as text and as values, each change drawn from a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

import orjson

from tests.bench.reports import numbered, templates
from tests.gridgov import report

REPORTS, BATCH = "/v1/reports", "/v1/reports/batch"
JSON, NDJSON = "application/json", "application/x-ndjson"
TOKENS = [
    b"null",
    b"true",
    b"NaN",
    b"{}",
    b"[]",
    b'""',
    b"-",
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xef\xbb\xbf",
]
TOKENS += [b"\x00", b"\r\n", b'"', b"\\", b"{", b"[", b"}", b"]", b",", b":", b"9" * 30, b"[" * 200, b'{"a":' * 50]
ODD: list[Any] = [None, True, 0, -1, 2**63, 1.5, -0.0, 1e308, "", " ", "\n", "x" * 3000, "字" * 3000, "😀"]
ODD += [
    [],
    {},
    [[]],
    [None],
    {"": None},
    "0211",
    "2020-11-04T08:00:00+08:00",
    "2020-13-45",
    1604448000000,
    "13812345678",
]
ODD += [{"a": {"b": {"c": {"d": {}}}}}, [1] * 500, "../../etc", "%00", "'; DROP TABLE messages; --", "<script>", "NaN"]


class Body(NamedTuple):
    """What is posted where."""

    path: str
    content_type: str
    data: bytes


def mutated(seed: int, count: int) -> Iterator[Body]:
    """`count` bodies: singles mostly, some batches of both kinds; each with one to four changes, some with none."""
    dice = Random(seed)
    seeds = [numbered(one, number) for number, one in enumerate(templates("mutated"))]
    seeds.append(
        orjson.dumps(report("rich", attachments=[{"url": "https://a.example/1.jpg"}], reporter={"name": "某"}))
    )
    for _ in range(count):
        kind = dice.random()
        items = [_value(dice, seed) for seed in dice.sample(seeds, 1 if kind < 0.8 else 3)]
        if kind < 0.8:
            yield Body(REPORTS, JSON, _bytes(dice, items[0]))
        elif kind < 0.9:
            yield Body(BATCH, JSON, _bytes(dice, b"[" + b",".join(items) + b"]"))
        else:
            yield Body(BATCH, NDJSON, _bytes(dice, b"\n".join(items)))


def _value(dice: Random, data: bytes) -> bytes:
    """Two of three times: another value, a key less, more, or of another name, at any depth."""
    if dice.random() < 1 / 3:
        return data
    value = orjson.loads(data)
    for _ in range(dice.randint(1, 3)):
        place = dice.choice(list(_objects(value)))
        name = dice.choice([*place, "new", "kind"])
        dice.choice(_CHANGES)(dice, place, name)
    return orjson.dumps(value)


def _objects(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield value
    for inner in value.values():
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict):
                yield from _objects(one)


def _set(dice: Random, place: dict[str, Any], name: str) -> None:
    place[name] = copy.deepcopy(dice.choice(ODD))


def _drop(dice: Random, place: dict[str, Any], name: str) -> None:
    place.pop(name, None)


def _rename(dice: Random, place: dict[str, Any], name: str) -> None:
    place[dice.choice([name.upper(), f"{name} ", f"{name}\u200b", "类别", ""])] = place.pop(name, None)


def _swap(dice: Random, place: dict[str, Any], name: str) -> None:
    other = dice.choice(list(place) or ["kind"])
    place[name], place[other] = copy.deepcopy(place.get(other)), copy.deepcopy(place.get(name))


def _wrap(dice: Random, place: dict[str, Any], name: str) -> None:
    place[name] = dice.choice([[place.get(name)], {"value": place.get(name)}, str(place.get(name))])


_CHANGES: list[Callable[[Random, dict[str, Any], str], None]] = [_set, _set, _set, _drop, _rename, _swap, _wrap]


def _bytes(dice: Random, data: bytes) -> bytes:
    """Half of the time: bytes flipped, cut out, doubled, moved, or put in."""
    if dice.random() < 1 / 2:
        return data
    for _ in range(dice.randint(1, 4)):
        at, to = sorted((dice.randint(0, len(data)), dice.randint(0, len(data))))
        to = min(to, at + 40)
        data = dice.choice(
            [
                data[:at] + dice.randbytes(1) + data[at + 1 :],
                data[:at] + dice.choice(TOKENS) + data[at:],
                data[:at] + dice.choice(TOKENS) + data[to:],
                data[:at] + data[to:],
                data[:to] + data[at:],
                data[:at] if dice.random() < 0.3 else data[at:to] + data,
            ]
        )
    return data
