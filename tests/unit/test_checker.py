"""The outage tests' judge must find what it is there to find: each of these breaks one promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.checker import Ledger, Record, Verdict, check
from tests.system.clients import case_of

RECEIVED = "2020-11-04T00:10:00.000Z"
Records = list[Record]


def record(report: dict[str, object], seq: int) -> Record:
    return Record(
        topic="gridgov.repair.road-traffic",
        partition=1,
        offset=100 + seq,
        key=str(report["case_id"]),
        headers={
            "ce_specversion": "1.0",
            "ce_id": str(report["report_id"]),
            "ce_type": f"gridgov.{report['kind']}.{report['stage']}",
            "content-type": "application/json",
            "journal-id": "j",
            "journal-seq": str(seq),
            "attempt": "1",
        },
        value={**report, "received_at": RECEIVED, "flags": []},
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two cases, all promised but the last report of the second: that one was never answered."""
    ledger = Ledger(tmp_path / "ledger")
    for report in [*case_of("a", "repair", "0211"), *case_of("b", "repair", "0211")]:
        ledger.sent(report)
        if report["report_id"] != "b-4":
            receipt = {"topic": "gridgov.repair.road-traffic", "received_at": RECEIVED, "case_id": report["case_id"]}
            ledger.accepted({"report_id": report["report_id"], **receipt})
    return ledger


@pytest.fixture
def records(ledger: Ledger) -> Records:
    return [record(report, seq) for seq, report in enumerate(ledger.read()[0].values(), 1)]


def again(records: Records, index: int, **headers: str) -> Records:
    """One record once more, at the end of its partition."""
    copy = records[index]
    return [*records, replace(copy, offset=200, headers={**copy.headers, **headers})]


def swapped(records: Records, *, with_seqs: bool) -> Records:
    """The second and third of a case have changed places; their numbers moved along with them, or did not."""
    one, two = records[1], records[2]
    one, two = replace(one, offset=two.offset), replace(two, offset=one.offset)
    if not with_seqs:
        seqs = one.headers["journal-seq"], two.headers["journal-seq"]
        one = replace(one, headers={**one.headers, "journal-seq": seqs[1]})
        two = replace(two, headers={**two.headers, "journal-seq": seqs[0]})
    return [records[0], one, two, *records[3:]]


def altered(records: Records, index: int, **changes: object) -> Records:
    return [
        replace(one, value={**one.value, **changes}) if number == index else one for number, one in enumerate(records)
    ]


def test_kept_promises_pass(ledger: Ledger, records: Records) -> None:
    assert check(ledger, records) == Verdict(distinct=10)


def test_a_report_without_an_answer_may_be_absent(ledger: Ledger, records: Records) -> None:
    assert check(ledger, records[:-1]) == Verdict(distinct=9)


def test_what_is_excused_may_be_absent(ledger: Ledger, records: Records) -> None:
    assert check(ledger, records[1:], excused={"a-0"}).problems == []
    assert check(ledger, records[2:], excused={"a-0"}).problems == ["a-1: promised and missing"]


def test_copies_under_a_later_attempt_are_counted_and_allowed(ledger: Ledger, records: Records) -> None:
    verdict = check(ledger, again(records, 3, attempt="2"))
    assert (verdict.problems, verdict.duplicates) == ([], {"gridgov.repair.road-traffic": 1})


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (lambda all_: all_[:3] + all_[4:], "a-3: promised and missing"),
        (lambda all_: swapped(all_, with_seqs=False), "case case-a of gridgov.repair.road-traffic: out of order"),
        (lambda all_: swapped(all_, with_seqs=True), "a-1: dropped as a duplicate, and is none"),
        (lambda all_: altered(all_, 2, description="something else"), "a-2: not as it was sent: description"),
        (lambda all_: altered(all_, 2, occurred_at="2020-11-04T08:02:01+08:00"), "a-2: not as it was sent: occurred"),
        (lambda all_: altered(all_, 2, reporter={"name": "x"}), "a-2: not as it was sent: reporter"),
        (lambda all_: altered(all_, 2, received_at="2020-11-04T00:10:00.001Z"), "a-2: its receipt tells"),
        (lambda all_: [*all_[:9], replace(all_[9], key="case-a")], "b-4: not as it was sent: key"),
        (
            lambda all_: [*all_[:9], replace(all_[9], partition=2)],
            "case case-b of gridgov.repair.road-traffic: in more",
        ),
        (lambda all_: [replace(one, topic="elsewhere") for one in all_], "a-0: its receipt tells"),
        (lambda all_: again(all_, 3), "a-3: a second copy under the same attempt"),
        (lambda all_: again(all_, 3, **{"journal-seq": "11"}), "a-3: 2 times after the watermark"),
        (lambda all_: [*all_, again(altered(all_, 3, flags=["x"]), 3)[-1]], "a-3: dropped as a duplicate, and is none"),
        (lambda all_: [*all_, record(next(case_of("c", "repair", "0211")), 11)], "c-0: never sent"),
    ],
)
def test_a_broken_promise_is_found(
    ledger: Ledger, records: Records, broken: Callable[[Records], Records], what: str
) -> None:
    problems = check(ledger, broken(records)).problems
    assert any(one.startswith(what) for one in problems), problems


def test_a_repeat_with_another_receipt_is_found(ledger: Ledger, records: Records) -> None:
    ledger.accepted({"report_id": "a-0", "received_at": "2020-11-04T00:10:05.000Z"})
    assert [one for one in check(ledger, records).problems if one.startswith("a-0: its receipt tells")]


def test_a_receipt_that_points_to_another_place_is_found(ledger: Ledger, records: Records) -> None:
    ledger.accepted({"report_id": "a-0", "topic": "gridgov.repair.road-traffic", "partition": 1, "offset": 102})
    assert [one for one in check(ledger, records).problems if one.startswith("a-0: its receipt points")]
