"""The fold turn by turn, on a real journal and casebook: what is counted, once, whatever happens in between."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.words import Stage, Standard
from service.cases import fold as cases
from service.cases.casebook import Casebook
from service.cases.fold import CaseFold
from service.cases.search import Search
from service.domain.case import Fact
from service.domain.standards import Rules
from service.journal.ballast import Ballast
from service.journal.journal import SqliteJournal
from service.ports import Conflict, JournalBroken, JournalFull, ParkReason, Receipt
from tests.gridgov import until
from tests.unit.case_desk import FOR_EVER, Desk, Interrupted, as_message, hurried, interrupted, steps
from tests.unit.case_stories import COMPLETION, RULES, T0, fact, live, ms, told
from tests.unit.messages import message
from tests.unit.test_journal import append
from tests.unit.test_standards import EXAMPLES, INCIDENTS, REPAIRS

MINUTES_25 = "reported@0 arrived@600 finished@{} approved@2000"
GOOD = orjson.loads(as_message(fact("reported@0", 0, "incident")).value)


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    with hurried():
        yield


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def outcomes(desk: Desk, case_id: str = "case") -> dict[str, str]:
    return {counted.standard.value: counted.outcome.value for counted in desk.case(case_id).counted}


# ---- what is counted ----


@pytest.mark.parametrize(("finished", "outcome"), [(1500, "met"), (1501, "breached"), (1500.001, "breached")])
def test_exactly_1500_seconds_are_met(desk: Desk, finished: float, outcome: str) -> None:
    desk.now = ms(2000)
    desk.accept(*told("incident", MINUTES_25.format(finished)))
    desk.turn()
    assert outcomes(desk) == {"completion": outcome}
    assert desk.totals()["standard"] == {("incident", "06", "completion", outcome): 1}
    assert desk.totals()["completion_seconds"] == {("incident", "06", "1500" if outcome == "met" else "1800"): 1}
    assert desk.totals()["completion_seconds_sum"] == {("incident", "06"): finished}


def test_a_breach_is_counted_when_the_grace_is_over_and_never_again(desk: Desk) -> None:
    desk.accept(*told("incident", "reported@0"))
    for seconds, counted in ((0, 0), (1500, 0), (1619.999, 0), (1620, 1), (1620, 1), (99999, 1), (0, 1), (99999, 1)):
        desk.now = ms(seconds)
        desk.turn()
        assert desk.total("standard") == counted, seconds
    assert outcomes(desk) == {"completion": "breached"}


def test_what_is_overdue_ignores_the_grace(desk: Desk) -> None:
    desk.accept(*told("incident", "reported@0"))
    desk.turn()
    overdue, soon = Search(overdue=True), Search(due_soon=True)
    shown = {
        seconds: [len(desk.book.search(wanted, now_ms=ms(seconds), after="", limit=9)) for wanted in (overdue, soon)]
        for seconds in (1199.999, 1200, 1500, 1500.001)
    }
    assert shown == {1199.999: [0, 0], 1200: [0, 1], 1500: [0, 1], 1500.001: [1, 0]}
    assert desk.book.running("overdue", COMPLETION, ms(1501)) == {("incident", "06"): 1}


OPEN = (Search(overdue=True), Search(due_soon=True), Search(phase="in_progress"))
BESIDE: tuple[dict[str, Any], ...] = ({}, {"owner": "s"}, {"supervision": "urgent", "campaign": "x", "kind": "repair"})


@pytest.mark.parametrize("wanted", [replace(one, **more) for one in OPEN for more in BESIDE], ids=str)
def test_what_is_open_is_found_without_reading_what_is_closed(desk: Desk, wanted: Search) -> None:
    plan = planned(desk, lambda: desk.book.search(wanted, now_ms=0, after="", limit=9))
    assert ("by_phase (phase=? AND case_id>?)" if wanted.phase else "open_in_order (case_id>?)") in plan
    assert "TEMP B-TREE" not in plan, "the page is read in its order, and no further"


def test_the_figures_of_what_is_open_are_read_without_what_is_closed(desk: Desk) -> None:
    book = desk.book
    for ask in (book.open_by_progress, book.open_by_supervision, book.oldest_open):
        assert "COVERING INDEX open_by_" in planned(desk, ask)
    for what, one in product(("overdue", "due_soon"), Standard):
        plan = planned(desk, lambda what=what, one=one: book.running(what, one, 0))  # type: ignore[misc]
        assert f"COVERING INDEX by_{one}_deadline" in plan
    assert "INDEX by_due (due<?)" in planned(desk, lambda: book.due(0, 9))
    assert "INDEX strippable (touched_at<?)" in planned(desk, lambda: book.strippable(0, 9))


def planned(desk: Desk, ask: Callable[[], object]) -> str:
    """How SQLite goes about a query of the casebook."""
    found: list[str] = []
    read = desk.book._store.read

    def explained(sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        found.extend(detail for *_, detail in read(f"EXPLAIN QUERY PLAN {sql}", bindings))
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk.book._store, "read", explained)
        ask()
    return "; ".join(found)


# ---- kills, and what they leave ----


@pytest.mark.parametrize(("kind", "words", "until", "expected"), EXAMPLES, ids=[*INCIDENTS, *REPAIRS])
def test_killed_after_every_turn_each_story_is_counted_as_if_nothing_had_happened(
    desk: Desk, kind: str, words: str, until: float, expected: str
) -> None:
    for each in told(kind, words):
        desk.now = each.received_at
        desk.turn()
        desk.kill()
        desk.accept(each)
        desk.kill()
        desk.turn()
        desk.kill()
    desk.now = ms(until)
    desk.turn()
    desk.kill()
    desk.turn()
    assert desk.told() == steps(live(kind, words, until)[1])


@pytest.mark.parametrize(("kind", "words", "until", "expected"), EXAMPLES, ids=[*INCIDENTS, *REPAIRS])
def test_after_an_outage_each_story_is_counted_as_if_there_had_been_none(
    desk: Desk, kind: str, words: str, until: float, expected: str
) -> None:
    desk.accept(*told(kind, words))
    desk.now = ms(until)
    desk.turn()
    assert desk.told() == steps(live(kind, words, until)[1])


@pytest.mark.parametrize("changes", range(8))
def test_an_exception_inside_leaves_neither_the_cursor_nor_a_total(desk: Desk, changes: int) -> None:
    words = "reported@0 finished@1 approved@2 returned@3 finished@4 approved@5 note@6 returned@7"
    desk.now = ms(10)
    desk.accept(*told("incident", words))
    before = (desk.totals(), desk.book.meta(), None)
    with interrupted(changes), pytest.raises(Interrupted):
        desk.turn()
    assert (desk.totals(), desk.book.meta(), desk.book.case("case")) == before
    desk.kill()
    assert (desk.totals(), desk.book.meta(), desk.book.case("case")) == before
    desk.turn()
    assert len(desk.case().facts) == 8
    assert (desk.total("reported"), desk.total("approved"), desk.total("reopenings")) == (1, 1, 2)
    assert desk.told() == steps(live("incident", words, 10)[1])


def test_however_the_backlog_is_cut_and_whenever_it_is_killed_the_totals_are_the_same() -> None:
    words = "reported@0 finished@{} returned@2000 finished@3000 approved@3001"
    stories = [as_case(n, told("incident", words.format(1400 + 50 * n))) for n in range(4)]
    facts = [each for stage in zip(*stories, strict=True) for each in stage]
    found = []
    for together in (500, 3, 1):
        with hurried(together):
            desk = Desk()
            desk.now = ms(4000)
            desk.accept(*facts)
            while desk.fold.turn():
                desk.kill()
            desk.kill()
            desk.turn()
            found.append(desk.totals())
            desk.close()
    assert found[0] == found[1] == found[2]
    assert found[0]["standard"] == {
        ("incident", "06", "completion", "met"): 3,
        ("incident", "06", "completion", "breached"): 1,
    }
    assert found[0]["corrections"] == {("incident", "06", "completion", "breached"): 3}


def as_case(number: int, facts: list[Fact]) -> list[Fact]:
    """The same story of another case."""
    return [each._replace(case_id=f"case-{number}", report_id=f"{number}-{each.report_id}", seq=0) for each in facts]


# ---- what cannot be digested ----

BROKEN = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"kind": "\xff"}',
    "null": b"null",
    "a list": b"[]",
    "a text": b'"reported"',
    **{f"without {name}": {name: None} for name in ("kind", "category", "stage", "occurred_at", "supervision")},
    **{
        f"{name} a number": {name: 7}
        for name in ("kind", "category", "stage", "occurred_at", "supervision", "campaign")
    },
    **{f"{name} null": {name: ...} for name in ("kind", "category", "stage", "occurred_at", "supervision")},
    "an unknown kind": {"kind": "quake"},
    "an unknown stage": {"stage": "vanished"},
    "an unknown supervision": {"supervision": "divine"},
    "no such day": {"occurred_at": "2020-02-30T00:00:00.000Z"},
    "a campaign without a name": {"campaign": {"phase": "trial"}},
    "a campaign named by a number": {"campaign": {"name": 3}},
    "a campaign named by a list": {"campaign": {"name": ["x"]}},
    "a campaign in a list": {"campaign": ["x"]},
    "a phase that is none": {"campaign": {"name": "x", "phase": {}}},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_digested_is_counted_and_passed(desk: Desk, broken: bytes | dict[str, object]) -> None:
    desk.accept_raw(broken if isinstance(broken, bytes) else orjson.dumps(wrong(broken)))
    desk.accept(*told("incident", "reported@0"))
    desk.turn()
    assert desk.total("failures") == 1
    assert desk.book.case("raw") is None
    assert desk.case().was_reported
    assert (desk.fold.folded, desk.fold.lag) == (2, 0)
    desk.kill()
    desk.turn()
    assert desk.total("failures") == 1


def wrong(changes: dict[str, object]) -> dict[str, object]:
    """A good report with these changes: None removes a field, … makes it null."""
    changed = {name: None if value is ... else value for name, value in (GOOD | changes).items() if value is not None}
    return {"case_id": "raw", **changed}


# ---- the journal ----


def test_the_journal_keeps_settled_rows_until_they_are_folded(desk: Desk) -> None:
    desk.accept(*told("incident", "reported@0 finished@1 approved@2"))
    desk.settle(1, 2)
    assert [each.seq for each in desk.journal.after(0, 9)] == [1, 2, 3]
    desk.kill()
    desk.turn()
    assert [each.seq for each in desk.journal.after(0, 9)] == [1, 2, 3]
    desk.settle(3)
    assert (desk.journal.after(0, 9), desk.journal.marks()) == ([], (3, 3))
    desk.kill()
    desk.turn()
    assert (desk.total("gaps"), outcomes(desk)) == (0, {"completion": "met"})


def test_parked_messages_are_folded_too_and_once(desk: Desk) -> None:
    desk.now = ms(5)
    desk.accept(*told("incident", "reported@0 finished@1 approved@2"))
    for seq in (1, 2):
        desk.journal.park(seq, ParkReason.RECORD_TOO_LARGE, "", ms(3))
    desk.turn()
    assert outcomes(desk) == {"completion": "met"}
    before = desk.totals()
    assert desk.journal.requeue([1, 2]) == {1: 4, 2: 5}
    desk.turn()
    assert (desk.totals(), desk.fold.folded, len(desk.case().facts)) == (before, 5, 3)


def test_a_report_that_comes_again_counts_once_even_when_the_journal_has_forgotten_it(desk: Desk) -> None:
    (reported,) = told("incident", "reported@0")
    desk.accept(reported)
    desk.turn()
    desk.settle(1)
    assert isinstance(desk.accept(reported._replace(occurred_at=ms(7)))[0], Conflict)
    assert desk.journal.forget(FOR_EVER) == 1
    again = desk.accept(reported._replace(occurred_at=ms(-7)))[0]
    assert isinstance(again, Receipt)
    assert not again.duplicate
    before = desk.case()
    desk.turn()
    assert (desk.fold.folded, desk.case(), desk.total("reported")) == (2, before, 1)


def test_another_journal_is_read_from_its_beginning(desk: Desk) -> None:
    story = told("incident", "reported@0 finished@1 approved@2")
    desk.now = ms(5)
    desk.accept(*story[:2])
    desk.turn()
    old = desk.journal.journal_id
    replace_journal(desk)
    assert desk.journal.journal_id != old
    assert desk.fold.folded == 0
    desk.accept(*story)
    desk.turn()
    assert (desk.fold.folded, desk.total("gaps"), len(desk.case().facts)) == (3, 0, 3)
    assert desk.told() == steps(live("incident", "reported@0 finished@1 approved@2", 5)[1])
    assert desk.total("reported") == 1


def replace_journal(desk: Desk) -> None:
    """Stop, put a new journal in the old one's place, start again."""
    desk.let_go()
    for file in desk.directory.glob("journal*"):
        file.unlink()
    desk.open()


@pytest.mark.parametrize("lost", [False, True], ids=["an old copy", "none at all"])
def test_what_a_restored_casebook_misses_is_counted(desk: Desk, lost: bool) -> None:
    desk.now = ms(9000)
    desk.accept(*told("incident", "reported@0"))
    desk.turn()
    desk.settle(1)
    copies = desk.directory / "copy"
    copies.mkdir()
    for file in desk.directory.glob("cases.sqlite3*"):
        shutil.copy(file, copies)
    desk.accept(*told("incident", "reported@0 note@1 note@2 finished@3 approved@4")[1:])
    desk.turn()
    desk.settle(2, 3, 4)
    desk.let_go()
    for file in desk.directory.glob("cases.sqlite3*"):
        file.unlink()
    if not lost:
        for file in copies.iterdir():
            shutil.copy(file, desk.directory)
    desk.open()
    desk.turn()
    assert desk.total("gaps") == (4 if lost else 3)
    assert desk.fold.folded == 5
    assert Stage.APPROVED in desk.case().first, "what the journal still has is folded"
    desk.kill()
    desk.turn()
    assert desk.total("gaps") == (4 if lost else 3)


# ---- other rules ----


def test_other_rules_reschedule_what_is_undecided_and_leave_the_past(desk: Desk) -> None:
    desk.accept(
        *as_case(0, told("incident", "reported@0")),
        *as_case(1, told("incident", "reported@0 finished@100 approved@101")),
        *as_case(2, told("incident", "reported@200")),
    )
    desk.now = ms(250)
    desk.turn()
    assert desk.told() == {(COMPLETION, "met", False): 1}
    minute = Rules(lambda *_: 60, grace_ms=30_000)
    desk.restart(minute, "a minute")
    desk.turn()
    assert [outcomes(desk, f"case-{n}") for n in range(3)] == [
        {"completion": "breached", "arrival": "breached"},
        {"completion": "met"},
        {},
    ]
    overdue = desk.book.search(Search(overdue=True), now_ms=ms(261), after="", limit=9)
    assert [case.case_id for case in overdue] == ["case-0", "case-2"]
    desk.now = ms(290)
    desk.turn()
    assert outcomes(desk, "case-2") == {"completion": "breached", "arrival": "breached"}
    before = desk.told()
    desk.restart(RULES, "as before")
    desk.now = ms(10**6)
    desk.turn()
    assert desk.told() == before, "an edited table does not judge the past anew"


def test_rescheduling_that_is_cut_off_is_done_again(desk: Desk) -> None:
    desk.accept(*(each for n in range(5) for each in as_case(n, told("incident", "reported@0"))))
    desk.turn()
    minute = Rules(lambda *_: 60, grace_ms=0)
    with hurried(2):
        with interrupted(3), pytest.raises(Interrupted):
            desk.restart(minute, "a minute")
        desk.open()
    assert len(desk.book.search(Search(overdue=True), now_ms=ms(61), after="", limit=9)) == 5


def test_a_casebook_that_cannot_be_opened_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "BROKEN_SECONDS", 0.01)
    journal = SqliteJournal(tmp_path, limit=1 << 24, flush=False)
    faults: list[Exception] = [JournalBroken("I/O"), ValueError("whatever")]

    def book() -> Casebook:
        if faults:
            raise faults.pop()
        return Casebook.in_files(tmp_path, RULES)

    fold, stop = CaseFold(journal, book, RULES, "one", clock=lambda: T0, strip_after_ms=1), threading.Event()
    fold.start(stop)
    try:
        append(journal, message("r-1"))
        until(lambda: fold.folded == 1, "the report is folded")
    finally:
        stop.set()
        fold.join()


def test_a_casebook_that_finds_the_disk_full_is_given_the_ballast(tmp_path: Path) -> None:
    """Else the journal would keep what the cases have not read, and be full for good."""
    journal, ballast = SqliteJournal(tmp_path, limit=1 << 24, flush=False), tmp_path / "ballast"
    ballast.write_bytes(b"room")

    def book() -> Casebook:
        if ballast.exists():
            raise JournalFull("disk full")
        return Casebook.in_files(tmp_path, RULES)

    relieve = Ballast(tmp_path).release
    fold = CaseFold(journal, book, RULES, "one", clock=lambda: T0, strip_after_ms=1, relieve=relieve)
    stop = threading.Event()
    append(journal, message("r-1"))
    fold.start(stop)
    try:
        until(lambda: fold.folded == 1, "the report is folded")
    finally:
        stop.set()
        fold.join()


def test_what_somebody_else_has_read_is_folded_when_he_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "WAIT_FOR_NEWS_SECONDS", 600.0)  # nobody would wait for that
    fold, stop = desk.fold, threading.Event()
    fold.start(stop)
    try:
        for number in (1, 2, 3):
            desk.accept(fact("reported@0", number, "repair"))
            fold.look()
            until(lambda: fold.folded == number, "the report is folded")  # noqa: B023  # asked at once
    finally:
        stop.set()
        fold.look()
        fold.join()
