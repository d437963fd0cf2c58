"""One report at a time: what is taken, what is refused and why, and that sending again is always safe."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.broker import Kafka
from tests.gridgov import Gridgov, report, running
from tests.system.refusals import ask, refusal

ADDRESS = {"address": "杨树浦路 × 秦皇岛路"}
POINT = {**ADDRESS, "x": 121.5, "y": 31.25, "crs": "WGS84"}


def located(**fields: Any) -> dict[str, Any]:
    return {"location": {**ADDRESS, **fields}}


def from_now(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat(timespec="milliseconds")


# ---- what is taken ----


def test_the_receipt(shared: Gridgov) -> None:
    before = time.time()
    status, receipt, headers = shared.post(report("receipt"))
    received_at = receipt.pop("received_at")
    assert (status, receipt) == (
        202,
        {
            "report_id": "r-receipt",
            "case_id": "20201104receipt",
            "topic": "gridgov.repair.road-traffic",
            "duplicate": False,
            "state": "pending",
        },
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", received_at)
    assert before - 0.001 <= datetime.fromisoformat(received_at).timestamp() <= time.time()
    assert headers["Content-Type"] == "application/json"
    assert headers["Location"] == "/v1/reports/r-receipt"
    status, shown = shared.get(headers["Location"])
    assert (status, shown["received_at"], shown["duplicate"]) == (200, received_at, False)


ACCEPTED = {
    "a local code of the extension class": report("ok1", category="2107"),
    "minor class 99": report("ok2", kind="incident", category="0199"),
    "a component of its category": report("ok3", **located(component_id="3101090211000007")),
    "a component of another numbering": report("ok4", **located(component_id="HK-RAIL-7")),
    "outside the district": report("ok5", **located(x=116.39, y=39.9, crs="CGCS2000")),
    "plane coordinates": report("ok6", **located(x=1200.5, y=-300, crs="SHLOCAL")),
    "a note without a place": report("ok7", stage="note", location=None),
    "the longest description": report("ok8", description="述" * 2000),
    "the longest id": report("ok9", report_id="i" * 64, case_id="c" * 64),
    "every sign an id may have": report("ok10", report_id="0Aa._:-"),
    "a case nobody reported": report("ok11", stage="approved", location=None),
    "beyond the BMP": report("ok12", description="𠮷野家门口 🚧\n\t第二行"),
}


@pytest.mark.parametrize("given", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_taken(shared: Gridgov, given: dict[str, Any]) -> None:
    status, receipt, headers = shared.post(given)
    assert (status, receipt["report_id"], receipt["duplicate"]) == (202, given["report_id"], False)
    assert shared.get(headers["Location"])[0] == 200


def test_a_clock_a_little_ahead_is_no_reason_to_refuse(shared: Gridgov) -> None:
    assert shared.post(report("ahead", occurred_at=from_now(minutes=4)))[0] == 202


# ---- what is refused ----

INVALID: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "every field missing": (
        {},
        [(f"/{name}", "required") for name in ("case_id", "category", "kind", "occurred_at", "report_id", "stage")],
    ),
    "several wrong": (
        report("bad", case_id=7, kind="bridge", stage="REPORTED", colour="red", location={"x": 121.5}),
        [
            ("/case_id", "wrong_type"),
            ("/colour", "unknown_field"),
            ("/kind", "not_allowed"),
            ("/location/address", "required"),
            ("/location/crs", "crs_required"),
            ("/location/y", "coordinates_required"),
            ("/stage", "not_allowed"),
        ],
    ),
    "unknown field": (report("bad", colour="red"), [("/colour", "unknown_field")]),
    "unknown field inside": (report("bad", **located(floor=3)), [("/location/floor", "unknown_field")]),
    "our own field": (report("bad", reporter_given=True), [("/reporter_given", "unknown_field")]),
    "null for what is required": (report("bad") | {"category": None}, [("/category", "required")]),
    "null in a list": (report("bad", attachments=[None]), [("/attachments/0", "null")]),
    "reported without a place": (report("bad", location=None), [("/location", "location_required")]),
    "unknown major class": (report("bad", category="0901"), [("/category", "unknown_category")]),
    "unknown minor class": (report("bad", category="0277"), [("/category", "unknown_category")]),
    "unknown minor class of three digits": (report("bad", category="02110"), [("/category", "unknown_category")]),
    "a repair's category": (report("bad", kind="incident"), [("/category", "category_of_other_kind")]),
    "an incident's category": (report("bad", category="0513"), [("/category", "category_of_other_kind")]),
    "full-width digits": (report("bad", category="０２１１"), [("/category", "bad_format")]),
    "component of another category": (
        report("bad", **located(component_id="3101090404000007")),
        [("/location/component_id", "component_contradicts_category")],
    ),
    "coordinates without a system": (report("bad", **located(x=121.5, y=31.2)), [("/location/crs", "crs_required")]),
    "a system without coordinates": (
        report("bad", **located(crs="WGS84")),
        [("/location/x", "coordinates_required"), ("/location/y", "coordinates_required")],
    ),
    "axes swapped": (report("bad", **located(x=31.25, y=121.5, crs="GCJ02")), [("/location", "swapped_axes")]),
    "off the globe": (report("bad", **located(x=181, y=31.2, crs="WGS84")), [("/location/x", "out_of_range")]),
    "a number as text": (report("bad", **located(x="121.5", y=31.2, crs="WGS84")), [("/location/x", "wrong_type")]),
    "no seconds": (report("bad", occurred_at="2020-11-04T08:00+08:00"), [("/occurred_at", "bad_time")]),
    "no such day": (report("bad", occurred_at="2020-02-30 08:00:00"), [("/occurred_at", "bad_time")]),
    "epoch seconds": (report("bad", occurred_at=1604448000), [("/occurred_at", "out_of_range")]),
    "epoch as text": (report("bad", occurred_at="1604448000000"), [("/occurred_at", "bad_time")]),
    "id with a newline": (report("bad", report_id="r-1\n"), [("/report_id", "bad_format")]),
    "id too long": (report("bad", report_id="r" * 65), [("/report_id", "bad_format")]),
    "id in Chinese": (report("bad", case_id="任务1"), [("/case_id", "bad_format")]),
    "NUL": (report("bad", description="a\0b"), [("/description", "control_character")]),
    "description too long": (report("bad", description="述" * 2001), [("/description", "too_long")]),
    "blank address": (report("bad", location={"address": " \t"}), [("/location/address", "too_short")]),
    "http picture": (
        report("bad", attachments=[{"url": "https://a.cn/1"}, {"url": "http://a.cn/2"}]),
        [("/attachments/1/url", "bad_url")],
    ),
    "too many pictures": (
        report("bad", attachments=[{"url": "https://a.cn/1"}] * 21),
        [("/attachments", "too_many_items")],
    ),
    "extra too deep": (report("bad", extra={"a": {"b": {"c": {"d": {}}}}}), [("/extra", "too_deep")]),
    "extra too large": (report("bad", extra={"a": "x" * 4096}), [("/extra", "too_large")]),
}


@pytest.mark.parametrize(("given", "errors"), INVALID.values(), ids=INVALID)
def test_what_is_refused(shared: Gridgov, given: Any, errors: list[tuple[str, str]]) -> None:
    assert refusal(shared, given) == (422, "invalid_report", errors)
    assert shared.get("/v1/reports/r-bad")[0] == 404


def test_the_future_is_refused(shared: Gridgov) -> None:
    given = report("future", occurred_at=from_now(minutes=6))
    assert refusal(shared, given) == (422, "invalid_report", [("/occurred_at", "future_time")])


def test_a_refused_id_is_free_for_the_corrected_report(shared: Gridgov) -> None:
    assert shared.post(report("mended", category="0277"))[0] == 422
    status, receipt, _ = shared.post(report("mended"))
    assert (status, receipt["duplicate"]) == (202, False)


def test_a_body_of_nonsense_is_not_answered_with_a_longer_one(shared: Gridgov) -> None:
    status, code, errors = refusal(shared, {f"n{number}": 1 for number in range(5000)})
    assert (status, code, len(errors), errors[-1]) == (422, "invalid_report", 101, ("", "too_many_problems"))


@pytest.fixture(scope="module")
def lenient(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A gridgov that takes minor classes it does not know."""
    environment = {"GRIDGOV_UNKNOWN_MINOR": "accept_and_flag"}
    with running(Gridgov(tmp_path_factory.mktemp("lenient") / "var", kafka.bootstrap, environment)) as started:
        yield started


def test_an_unknown_minor_class_is_taken_and_flagged_where_so_configured(lenient: Gridgov) -> None:
    assert [lenient.post(report(f"minor{code}", category=code))[0] for code in ("0277", "0211", "02777")] == [202] * 3
    assert refusal(lenient, report("m", category="0901")) == (
        422,
        "invalid_report",
        [("/category", "unknown_category")],
    )
    other = report("m", kind="incident", category="0211")
    assert refusal(lenient, other) == (422, "invalid_report", [("/category", "category_of_other_kind")])
    assert lenient.metrics()['gridgov_report_flags_total{flag="unknown_minor"}'] == 2
    journal = lenient.settled()["journal_id"]
    records = [one for one in lenient.consumed() if one["headers"]["journal-id"] == journal]
    assert {one["value"]["category"]: one["value"]["flags"] for one in records} == {
        "0277": ["unknown_minor"],
        "0211": [],
        "02777": ["unknown_minor"],
    }
    assert {one["topic"] for one in records} == {"gridgov.repair.road-traffic"}


# ---- the same again ----

FIRST = report("same", location=POINT, extra={"n": 10, "f": 0.5, "t": [1, {"a": 1, "b": 2}]}, description="栏杆")
FIRST_TEXT = orjson.dumps(FIRST).decode()


def respelt(old: str, new: str) -> bytes:
    assert FIRST_TEXT.count(old) == 1, f"{old} should be there once"
    return FIRST_TEXT.replace(old, new).encode()


TIME = '"2020-11-04T08:00:00+08:00"'
SPELLINGS = {
    "letter for letter": FIRST_TEXT.encode(),
    "other order of keys": orjson.dumps(dict(reversed(FIRST.items()))),
    "other order inside": respelt('{"a":1,"b":2}', '{"b":2,"a":1}'),
    "white space": orjson.dumps(FIRST, option=orjson.OPT_INDENT_2),
    "escapes": respelt('"栏杆"', r'"\u680f\u6746"'),
    "10 as 10.0": respelt('"n":10', '"n":10.0'),
    "10 as 1e1": respelt('"n":10', '"n":1e1'),
    "0.5 as 5E-1": respelt('"f":0.5', '"f":5E-1'),
    "121.5 as 121.500": respelt("121.5", "121.500"),
    "time in UTC": respelt(TIME, '"2020-11-04T00:00:00Z"'),
    "time with a fraction": respelt(TIME, '"2020-11-04t08:00:00.000+08:00"'),
    "time without a zone": respelt(TIME, '"2020-11-04 08:00:00"'),
    "time in milliseconds": respelt(TIME, "1604448000000"),
    "time in milliseconds as a float": respelt(TIME, "1.604448e12"),
    "time as Java writes it": respelt(TIME, '"2020-11-04T08:00:00.000+0800"'),
    "time with hours of offset only": respelt(TIME, '"2020-11-04T00:00:00+00"'),
    "time with T but without a zone": respelt(TIME, '"2020-11-04T08:00:00.000000000"'),
    "nothing as null": respelt('"stage":', '"handler":null,"source":null,"campaign":{"name":null},"stage":'),
    "nothing as an empty text": respelt('"address":', '"street_code":"","component_id":"","address":'),
    "a default spelt out": respelt('"stage":', '"supervision":"none","stage":'),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_the_same_content_in_another_spelling(shared: Gridgov, spelling: bytes) -> None:
    _, first, _ = shared.post(FIRST)
    status, again, headers = shared.post(spelling)
    assert (status, again["duplicate"], again["received_at"]) == (202, True, first["received_at"])
    assert {name: again[name] for name in ("report_id", "case_id", "topic")} == {
        name: first[name] for name in ("report_id", "case_id", "topic")
    }
    assert headers["Location"] == "/v1/reports/r-same"


OTHERS = {
    "a field more": FIRST | {"source": "inspector"},
    "a field less": {name: value for name, value in FIRST.items() if name != "description"},
    "another stage": FIRST | {"stage": "arrived"},
    "another case": FIRST | {"case_id": "other"},
    "a millisecond later": FIRST | {"occurred_at": 1604448000001},
    "a metre away": FIRST | {"location": POINT | {"x": 121.50001}},
    "other order of a list": FIRST | {"extra": {"n": 10, "f": 0.5, "t": [{"a": 1, "b": 2}, 1]}},
    "a number as text": FIRST | {"extra": {"n": "10", "f": 0.5, "t": [1, {"a": 1, "b": 2}]}},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_content_under_the_same_id(shared: Gridgov, other: dict[str, Any]) -> None:
    _, first, _ = shared.post(FIRST)
    assert refusal(shared, other) == (409, "conflict", [])
    _, again, _ = shared.post(FIRST)
    assert (again["duplicate"], again["received_at"]) == (True, first["received_at"])  # the first one stands


def test_time_zones_other_than_ours_mean_the_same_moment(shared: Gridgov) -> None:
    moment = datetime(2020, 11, 4, 8, tzinfo=timezone(timedelta(hours=8)))
    shared.post(report("zones"))
    for hours in (-12, -3.5, 0, 5.75, 14):
        spelt = moment.astimezone(timezone(timedelta(hours=hours))).isoformat()
        assert shared.post(report("zones", occurred_at=spelt))[1]["duplicate"] is True


def accepted_and_duplicates(gridgov: Gridgov) -> tuple[float, float]:
    samples = gridgov.metrics()
    accepted, duplicates = (
        samples[f'gridgov_reports_total{{kind="repair",major="02",result="{result}",stage="reported"}}']
        for result in ("accepted", "duplicate")
    )
    return accepted, duplicates


def post_at_once(gridgov: Gridgov, count: int, given: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    together = threading.Barrier(count)

    def post(_: int) -> tuple[int, dict[str, Any]]:
        together.wait()
        answer = ask(gridgov, "POST", "/v1/reports", given)
        return answer.status, answer.json

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(post, range(count)))


def test_two_hundred_at_once_are_one_row_before_and_after_a_restart(kafka: Kafka, tmp_path: Path) -> None:
    own = Gridgov(tmp_path / "var", kafka.bootstrap)
    given = report("at-once")
    with running(own):
        answers = post_at_once(own, 200, given)
        assert {status for status, _ in answers} == {202}
        assert len({receipt["received_at"] for _, receipt in answers}) == 1
        assert sorted(receipt["duplicate"] for _, receipt in answers) == [False] + [True] * 199
        assert own.status()["accepted"] == 1
        assert accepted_and_duplicates(own) == (1, 199)
        [first] = {receipt["received_at"] for _, receipt in answers}
    with running(own):
        answers = post_at_once(own, 200, given)
        assert {(status, receipt["received_at"], receipt["duplicate"]) for status, receipt in answers} == {
            (202, first, True)
        }
        status = own.settled()
        assert (status["accepted"], status["settled"], status["mismatch"]) == (1, 1, 0)
        assert refusal(own, report("at-once", description="another")) == (409, "conflict", [])
        journal = status["journal_id"]
        assert [one["key"] for one in own.consumed() if one["headers"]["journal-id"] == journal] == ["20201104at-once"]
