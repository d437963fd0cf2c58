"""What Kafka carries: canonical bytes, headers, and the published contract of both."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas.event import ATTEMPT, HEADERS, JOURNAL_ID, JOURNAL_SEQ, EventSchema, Names, build, headers, unpacked
from schemas.report import Report, load
from schemas.wire import canonical, parse

NOW_MS = 1_604_448_000_000
MAJOR = Names(zh="道路交通", en="road traffic")


def report(**changes: Any) -> Report:
    minimal = {
        "report_id": "r-1",
        "case_id": "c-1",
        "kind": "incident",
        "category": "0299",
        "stage": "arrived",
        "occurred_at": "2020-11-04 07:59:59",
    }
    return load(minimal | changes, now_ms=NOW_MS)


def value(given: Report, flags: tuple[str, ...] = (), category: Names | None = None) -> bytes:
    return build(given, received_at_ms=NOW_MS, flags=flags, edition="e1", major_name=MAJOR, category_name=category)


def test_the_value_is_the_report_and_what_we_know_about_it() -> None:
    assert parse(value(report(), flags=("unknown_minor", "outside_district", "unknown_minor"))) == {
        "report_id": "r-1",
        "case_id": "c-1",
        "kind": "incident",
        "category": "0299",
        "stage": "arrived",
        "occurred_at": "2020-11-03T23:59:59.000Z",
        "supervision": "none",
        "received_at": "2020-11-04T00:00:00.000Z",
        "flags": ["outside_district", "unknown_minor"],
        "catalogue_edition": "e1",
        "category_name": None,
        "major_name": {"zh": "道路交通", "en": "road traffic"},
    }


def test_the_value_is_canonical_and_leaves_the_report_alone() -> None:
    source = report(extra={"b": 1.0, "a": 0.5}, reporter={"phone": "13812345678"})
    before = canonical(source.canonical)
    built = value(source, category=Names(zh="其他", en="other"))
    assert canonical(parse(built)) == built
    assert canonical(source.canonical) == before
    assert b"13812345678" not in built


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=50))
def test_what_is_built_satisfies_the_published_schema(text: str) -> None:
    built = parse(value(report(description=text, extra={text: text}, reporter={"name": "x"}), flags=("a_flag",)))
    assert EventSchema().load(built) == built


def test_the_largest_report_stays_below_64_kib() -> None:
    text = "\U00020000"  # four bytes in UTF-8
    largest = report(
        report_id="r" * 64,
        case_id="c" * 64,
        description=text * 2000,
        source_name=text * 64,
        location={"address": text * 200, "component_id": "c" * 64},
        campaign={"name": text * 100, "level": text * 32},
        handler={"unit_code": text * 64, "unit_name": text * 100},
        attachments=[{"url": "https://a.cn/" + "a" * 2035, "usage": "dispose", "media": "image"}] * 20,
        extra={"a": "x" * 4088},
    )
    assert 50_000 < len(value(largest)) < 65_536


def test_headers_are_cloudevents() -> None:
    assert unpacked(headers(report(), sender="平台-1")) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"r-1"),
        ("ce_source", "平台-1".encode()),
        ("ce_type", b"gridgov.incident.arrived"),
        ("ce_time", b"2020-11-03T23:59:59.000Z"),
        ("content-type", b"application/json"),
    ]


def test_a_trace_is_carried_when_there_is_one() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert unpacked(headers(report(), sender="s", traceparent=trace))[-1] == ("traceparent", trace.encode())


def test_every_header_is_declared() -> None:
    static = [name for name, _ in unpacked(headers(report(), sender="s", traceparent="t"))]
    assert set(HEADERS) == {*static, JOURNAL_ID, JOURNAL_SEQ, ATTEMPT}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("reporter_given", False),
        ("received_at", "2020-11-04T08:00:00.000+08:00"),
        ("occurred_at", NOW_MS),
        ("flags", ["Not a flag"]),
        ("major_name", None),
        ("catalogue_edition", ""),
    ],
)
def test_the_schema_refuses_what_we_never_write(name: str, wrong: object) -> None:
    with pytest.raises(ValidationError) as refused:
        EventSchema().load(parse(value(report())) | {name: wrong})
    assert list(refused.value.messages) == [name]


def test_consumers_are_told_to_ignore_what_is_new() -> None:
    newer = json.loads(value(report())) | {"from_the_future": 1}
    assert EventSchema().load(newer)["from_the_future"] == 1
