"""The AsyncAPI document says what Kafka carries: every topic, header and field, in words that its tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from schemas import asyncapi, generate
from schemas.catalogue import Catalogue
from schemas.event import ATTEMPT, HEADERS, JOURNAL_ID, JOURNAL_SEQ, headers, unpacked
from schemas.rejected import TOPIC
from schemas.report import load

CATALOGUE = Catalogue.load()
DOCUMENT: dict[str, Any] = yaml.safe_load(generate.ARTEFACTS["asyncapi.yaml"]())
SHAPES = DOCUMENT["components"]["schemas"]
VALID = sorted((Path(generate.__file__).parent / "examples" / "valid").glob("*.json"))
NOW_MS = 1_767_225_600_000


def test_it_is_asyncapi_3() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT.keys() >= {"info", "channels", "operations", "components"}
    assert all(DOCUMENT["info"][name] for name in ("title", "version", "description"))


def test_every_topic_is_a_channel_that_is_published_to() -> None:
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} == {*CATALOGUE.topics, TOPIC}
    published = [
        operation["channel"]["$ref"].removeprefix("#/channels/") for operation in DOCUMENT["operations"].values()
    ]
    assert sorted(published) == sorted(DOCUMENT["channels"])
    assert {operation["action"] for operation in DOCUMENT["operations"].values()} == {"send"}


@pytest.mark.parametrize("major", CATALOGUE.majors.values(), ids=lambda major: major.topic)
def test_a_channel_names_its_class_in_both_languages(major: Any) -> None:
    title = DOCUMENT["channels"][major.topic]["title"]
    assert all(word in title for word in (major.kind, major.major, major.zh, major.en))


def test_every_reference_leads_somewhere() -> None:
    found = list(references(DOCUMENT))
    assert len(found) > 2 * len(CATALOGUE.topics)
    for reference in found:
        part = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def references(part: Any) -> list[str]:
    below = list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []
    own = [part["$ref"]] if isinstance(part, dict) and "$ref" in part else []
    return own + [reference for item in below for reference in references(item)]


def test_the_rules_name_what_they_are_about() -> None:
    about = DOCUMENT["info"]["description"]
    for word in (JOURNAL_ID, JOURNAL_SEQ, "ce_source", "ce_id", "case_id", "catalogue_edition", "occurred_at", "flags"):
        assert about.count(f"`{word}`") + about.count(f"({word}, ") >= 2  # once in each language


def test_the_headers_are_those_that_are_sent() -> None:
    assert SHAPES["headers"]["properties"].keys() == HEADERS.keys()
    assert set(HEADERS) - set(SHAPES["headers"]["required"]) == {"traceparent"}


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.name)
def test_headers_of_every_valid_report_are_valid(path: Path) -> None:
    report = load(orjson.loads(path.read_bytes()), now_ms=NOW_MS)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = {name: value.decode() for name, value in unpacked(headers(report, sender="s", traceparent=trace))}
    by_relay = {JOURNAL_ID: "j", JOURNAL_SEQ: "1", ATTEMPT: "1"}
    Draft7Validator(SHAPES["headers"]).validate(sent | by_relay)
    assert not Draft7Validator(SHAPES["headers"]).is_valid(sent)


def test_the_example_is_valid() -> None:
    [example] = DOCUMENT["components"]["messages"]["report"]["examples"]
    Draft7Validator(SHAPES["headers"]).validate(example["headers"])
    Draft7Validator(SHAPES["event"]).validate(example["payload"])
    assert example["headers"]["ce_id"] == example["payload"]["report_id"]


def test_the_event_means_the_same_to_draft_07() -> None:
    """Every change of one value in the example: both drafts give the same verdict, and some are refused."""
    Draft7Validator.check_schema(SHAPES["event"])
    old, new = Draft7Validator(SHAPES["event"]), Draft202012Validator(generate.event_schema())
    refused = set()
    for name, changed in changes(asyncapi.example()["payload"]):
        assert old.is_valid(changed) == new.is_valid(changed), name
        if not old.is_valid(changed):
            refused.add(name)
    assert {"report_id", "location/crs", "location/x", "flags"} <= refused


def changes(value: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    """The object without each of its members in turn, and with a wrong value in its place."""
    made = []
    for name, member in value.items():
        rest = {other: kept for other, kept in value.items() if other != name}
        made += [(prefix + name, rest), (prefix + name, rest | {name: 1}), (prefix + name, rest | {name: "x"})]
        if isinstance(member, dict):
            made += [(path, rest | {name: inner}) for path, inner in changes(member, f"{prefix}{name}/")]
    return made


def test_yaml_keeps_every_text_a_text() -> None:
    """Codes with leading zeros and versions are text, whichever YAML reads them."""
    plain = orjson.loads(
        orjson.dumps(asyncapi.document(generate.event_schema(), generate.rejected_schema(), CATALOGUE))
    )
    assert plain == DOCUMENT
