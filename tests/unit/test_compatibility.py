"""v1 as released (schemas/released/v1) still stands; each forbidden change is noticed, each allowed one is not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import generate
from schemas.compatibility import __main__ as contract

RELEASED = {name: contract.read((contract.RELEASED / name).read_bytes(), name) for name in contract.COMPARED}
REPORT, EVENT, API, KAFKA = "report.schema.json", "event.schema.json", "openapi.json", "asyncapi.yaml"
TOPIC = "gridgov.repair.road-traffic"
Change = Callable[[Any], object]


def breaks(name: str, change: Change) -> list[str]:
    """What is said of the released artefact once `change` was done to a copy of it."""
    later = copy.deepcopy(RELEASED[name])
    change(later)
    assert later != RELEASED[name], "nothing was changed"
    return list(contract.COMPARED[name](RELEASED[name], later))


def test_v1_is_kept() -> None:
    assert contract.broken() == [], "a promise to consumers or senders; see schemas/README.md"


def at(document: Any, path: str) -> Any:
    for name in path.split("/"):
        document = document[int(name) if isinstance(document, list) else name.replace("~", "/")]
    return document


def put(path: str, value: Any) -> Change:
    """Set a member; a list gets one more."""
    where, _, name = path.rpartition("/")

    def change(document: Any) -> None:
        inside = at(document, where) if where else document
        if name == "+":
            inside.append(value)
        else:
            inside[name.replace("~", "/")] = value

    return change


def take(path: str, word: Any = None) -> Change:
    """Remove a member, or a word of a list."""
    where, _, name = path.rpartition("/")

    def change(document: Any) -> None:
        if word is not None:
            at(document, path).remove(word)
        else:
            del at(document, where)[name.replace("~", "/")]

    return change


POST, RECEIPT, HEADERS = "paths/~v1~reports/post", "components/schemas/Receipt", "components/schemas/headers"
TEXT = {"type": "string"}


def rename_topic(document: Any) -> None:
    channel = document["channels"][TOPIC]
    channel["address"] += ".v2"


FORBIDDEN: dict[str, tuple[str, Change, str]] = {  # what → artefact, change, a word of what is said
    "a field is not taken any more": (REPORT, take("properties/extra"), "report.extra: the field is gone"),
    "a new field must be given": (REPORT, put("required/+", "description"), "description: is required now"),
    "a required field comes": (
        REPORT,
        lambda r: (put("properties/unit", TEXT)(r), put("required/+", "unit")(r)),
        "unit: is required now",
    ),
    "another type is wanted": (REPORT, put("properties/case_id/type", "integer"), "type was string, is integer"),
    "null is refused": (REPORT, put("properties/description/type", "string"), "type was null or string, is string"),
    "a word is refused": (REPORT, take("properties/stage/enum", "note"), 'the word "note" is gone'),
    "less text is taken": (REPORT, put("properties/description/maxLength", 500), "maxLength was 2000, is 500"),
    "another pattern": (REPORT, put("properties/category/pattern", "^[0-9]{4}$"), "category: pattern was"),
    "a new condition": (REPORT, put("dependentRequired", {"extra": ["handler"]}), "dependentRequired was None"),
    "a field vanishes": (EVENT, take("properties/received_at"), "event.received_at: the field is gone"),
    "a deep field vanishes": (EVENT, take("properties/location/properties/address"), "location.address: the field"),
    "a type changes": (EVENT, put("properties/occurred_at/type", "integer"), "type was string, is integer"),
    "null may come": (EVENT, put("properties/major_name/type", ["object", "null"]), "is null or object"),
    "a word vanishes": (EVENT, take("properties/kind/enum", "repair"), 'the word "repair" is gone'),
    "a word of a closed list comes": (EVENT, put("properties/stage/enum/+", "merged"), 'the new word "merged"'),
    "a field may be missing": (EVENT, take("required", "flags"), "event.flags: was always there"),
    "more text may come": (EVENT, put("properties/description/maxLength", 9000), "maxLength was 2000, is 9000"),
    "a limit vanishes": (EVENT, take("properties/description/maxLength"), "maxLength was 2000, is None"),
    "a header vanishes": (KAFKA, take(f"{HEADERS}/properties/journal-seq"), "header .journal-seq: the field is gone"),
    "a header may be missing": (KAFKA, take(f"{HEADERS}/required", "ce_id"), "ce_id: was always there"),
    "a topic is renamed": (KAFKA, rename_topic, f"topic {TOPIC} is gone"),
    "a topic vanishes": (KAFKA, take(f"channels/{TOPIC}"), f"topic {TOPIC} is gone"),
    "another key": (
        KAFKA,
        put("components/messages/report/bindings/kafka/key", {"type": "integer"}),
        "key: type was string, is integer",
    ),
    "another media type": (KAFKA, put("components/messages/report/contentType", "avro/binary"), "contentType was"),
    "a path vanishes": (API, take("paths/~v1~cases"), "GET /v1/cases is gone"),
    "an answer vanishes": (API, take(f"{POST}/responses/202"), "never answers 202"),
    "a new success": (API, put(f"{POST}/responses/200", {"description": ""}), "answers 200"),
    "a header of an answer vanishes": (API, take(f"{POST}/responses/503/headers/Retry-After"), "header Retry-After"),
    "a media type is refused": (
        API,
        take("paths/~v1~reports~batch/post/requestBody/content/application~x-ndjson"),
        "application/x-ndjson is gone",
    ),
    "a parameter vanishes": (API, lambda d: at(d, "paths/~v1~cases/get/parameters").pop(0), "parameter"),
    "a parameter must be given": (
        API,
        put(f"{POST}/parameters/+", {"in": "query", "name": "area", "required": True, "schema": TEXT}),
        "parameter query area is required now",
    ),
    "a receipt lacks a field": (API, take(f"{RECEIPT}/properties/state"), "state: the field is gone"),
    "a field of a receipt may be missing": (API, take(f"{RECEIPT}/required", "topic"), "topic: was always there"),
    "a code is renamed": (API, take("components/schemas/Code/enum", "conflict"), 'the word "conflict" is gone'),
    "a code means something else": (
        API,
        lambda d: [example.update(retryable=True) for example in problems(d) if example["code"] == "conflict"],
        "code conflict: (status, retryable) was (409, False), is (409, True)",
    ),
    "a key is needed": (API, put("paths/~livez/get/security", [{"key": []}]), "needs a key now"),
    "a client's method is renamed": (API, put(f"{POST}/operationId", "sendReport"), "operationId was postReport"),
}

ALLOWED: dict[str, tuple[str, Change]] = {
    "one more optional field is taken": (REPORT, put("properties/unit", TEXT)),
    "one more word is taken": (REPORT, put("properties/stage/enum/+", "merged")),
    "more text is taken": (REPORT, put("properties/description/maxLength", 9000)),
    "a required field need not be given": (REPORT, take("required", "kind")),
    "one more field comes": (EVENT, lambda e: (put("properties/unit", TEXT)(e), put("required/+", "unit")(e))),
    "an optional field always comes": (EVENT, put("required/+", "description")),
    "less text comes": (EVENT, put("properties/description/maxLength", 500)),
    "other words about a field": (EVENT, put("properties/stage/description", "环节 / the stage")),
    "one more header": (KAFKA, put(f"{HEADERS}/properties/ce_subject", TEXT)),
    "one more topic": (KAFKA, lambda d: d["channels"].update(new=d["channels"][TOPIC] | {"address": "new"})),
    "one more path": (API, lambda d: d["paths"].update({"/v1/streets": d["paths"]["/v1/catalogue"]})),
    "one more code": (API, put("components/schemas/Code/enum/+", "too_early")),
    "one more refusal": (API, put(f"{POST}/responses/402", {"description": ""})),
    "one more optional parameter": (API, put(f"{POST}/parameters/+", {"in": "query", "name": "area", "schema": TEXT})),
    "a receipt says more": (API, put(f"{RECEIPT}/properties/street", TEXT)),
}


def problems(part: Any) -> Iterator[dict[str, Any]]:
    below = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict) and str(part.get("type")).startswith("urn:gridgov:problem:"):
        yield part
    for inner in below:
        yield from problems(inner)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_forbidden_change_is_noticed(what: str) -> None:
    name, change, told = FORBIDDEN[what]
    assert any(told in line for line in breaks(name, change)), breaks(name, change)


@pytest.mark.parametrize("what", ALLOWED)
def test_an_allowed_change_passes(what: str) -> None:
    assert breaks(*ALLOWED[what]) == []


@pytest.mark.parametrize("name", contract.COMPARED)
def test_whatever_is_taken_away_anywhere_is_noticed(name: str) -> None:
    """Every field, and every word of every list that is used, one at a time."""
    tried = unnoticed = 0
    for path, word in removable(RELEASED[name], ""):
        tried += 1
        unnoticed += not breaks(name, take(path, word))
    assert tried > 50
    assert unnoticed == 0


def removable(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Members of `properties` and words of `enum` of the schemas below; what stands in examples is none."""
    if isinstance(part, dict):
        for name, inner in part.items():
            here = f"{path}/{name.replace('/', '~')}".lstrip("/")
            if name == "properties":
                yield from ((f"{here}/{member}", None) for member in inner)
            if name == "enum":
                yield from ((here, word) for word in inner if word is not None)
            if name not in ("examples", "example", "if", "then", "not"):
                yield from removable(inner, here)
    elif isinstance(part, list):
        for number, inner in enumerate(part):
            yield from removable(inner, f"{path}/{number}")


def test_v1_is_frozen_anew_only_when_it_is_kept(tmp_path: Path) -> None:
    for name in contract.COMPARED:
        (tmp_path / name).write_bytes((contract.RELEASED / name).read_bytes())
    later = (tmp_path / EVENT).read_bytes().replace(b'"received_at"', b'"given_at"')
    (tmp_path / EVENT).write_bytes(later)
    assert contract.main(["--release"], tmp_path) == 1
    assert (tmp_path / EVENT).read_bytes() == later
    (tmp_path / EVENT).write_bytes(later.replace(b'"given_at"', b'"received_at"').replace(b'"kind",', b"", 1))
    assert contract.main(["--release"], tmp_path) == 0
    assert contract.read((tmp_path / EVENT).read_bytes(), EVENT) == contract.read(generate.ARTEFACTS[EVENT](), EVENT)
