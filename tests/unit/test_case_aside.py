"""A case that cannot be read, judged, swept, stripped or saved is set aside: the others go on, nothing is forgotten."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import apsw
import orjson
import pytest
from msgspec import structs

from service.cases.changes import Changes
from service.cases.fold import CaseFold
from service.cases.search import Search
from service.domain.case import Case, Fact, essence
from service.domain.standards import Rules
from service.journal.sqlite import Store
from service.ports import JournalBroken, JournalFull
from tests.unit.case_desk import KEEP_MS, Desk, hurried, steps
from tests.unit.case_stories import RULES, STALL, T0, live, ms, told
from tests.unit.messages import message
from tests.unit.test_standards import EXAMPLES, INCIDENTS, REPAIRS

DONE = "reported@0 arrived@60 finished@120 approved@180"
ODD = "0699"  # a category that some rules cannot judge


def stumbles(kind: str, standard: str, category: str) -> int | None:
    """As the catalogue, but for one category."""
    if category == ODD:
        raise ZeroDivisionError
    return RULES.limit(kind, standard, category)


STUMBLES = replace(RULES, limit=stumbles)


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    with hurried():
        yield


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def story(case_id: str, words: str = DONE, category: str = STALL) -> list[Fact]:
    """An incident of this name."""
    return [
        each._replace(case_id=case_id, report_id=f"{case_id}-{n}", category=category)
        for n, each in enumerate(told("incident", words))
    ]


def interleaved(*stories: list[Fact]) -> list[Fact]:
    return [each for stage in zip(*stories, strict=True) for each in stage]


def failures(desk: Desk) -> float:
    return desk.total("failures")


def spoil(desk: Desk, case_id: str, state: bytes = b"{") -> bytes:
    """Overwrite what the casebook has of a case; what it was."""
    db = apsw.Connection(str(desk.directory / "cases.sqlite3"))
    [(kept,)] = db.execute("SELECT state FROM cases WHERE case_id=?", (case_id,)).fetchall()
    db.execute("UPDATE cases SET state=? WHERE case_id=?", (state, case_id))
    db.close()
    return bytes(kept)  # type: ignore[arg-type]  # a blob


def without_failures(desk: Desk) -> dict[str, Any]:
    return {name: counts for name, counts in desk.totals().items() if name != "failures"}


# ---- a report ----


def test_a_case_that_cannot_be_judged_keeps_no_other_waiting(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.restart(STUMBLES, "one")
    desk.now = ms(200)
    desk.accept(*interleaved(story("bad", category=ODD), story("good")))
    with caplog.at_level(logging.ERROR):
        desk.turn()
    assert desk.book.case("bad") is None
    assert desk.case("good").approval
    assert (failures(desk), desk.total("reported"), desk.fold.folded, desk.fold.lag) == (4, 1, 8, 0)
    told_of = [(record.message, vars(record)["case_id"], vars(record)["seq"]) for record in caplog.records]
    assert told_of == [("set aside", "bad", seq) for seq in (1, 3, 5, 7)]
    assert {vars(record)["at"].partition(":")[0] for record in caplog.records} == {"test_case_aside.py"}


@pytest.mark.parametrize(("kind", "words", "until", "expected"), EXAMPLES, ids=[*INCIDENTS, *REPAIRS])
def test_what_was_set_aside_is_counted_by_a_version_that_can_as_if_nothing_had_happened(
    desk: Desk, kind: str, words: str, until: float, expected: str
) -> None:
    def cannot(*_: object) -> int | None:
        raise ZeroDivisionError

    desk.restart(Rules(cannot), "one")
    desk.now = ms(until)
    desk.accept(*told(kind, words))
    desk.turn()
    reports = len(words.split())
    assert failures(desk) == reports
    desk.settle(*range(1, reports + 1))
    assert desk.journal.after(0, 99) == [], "the journal has forgotten them"
    desk.restart(Rules(cannot), "no better")
    desk.restart(RULES, "as they should be")
    desk.turn()
    assert desk.told() == steps(live(kind, words, until)[1])
    assert len(desk.case().facts) == reports
    assert failures(desk) == reports, "each is counted once, however often it is tried"
    assert desk.book.aside(0, 9) == (0, [])


UNSAVEABLE: dict[str, tuple[object, ...]] = {
    "a number SQLite has not": (2**63 + 5, "incident", STALL, "reported", "none", None),
    "no kind": (ms(0), None, STALL, "reported", "none", None),
    "no category": (ms(0), "incident", None, "reported", "none", None),
    "a kind in a list": (ms(0), ["incident"], STALL, "reported", "none", None),
    "a time in words": ("soon", "incident", STALL, "reported", "none", None),
    "a campaign in an object": (ms(0), "incident", STALL, "reported", "none", [{}, None, None]),
}


@pytest.mark.parametrize("packed", UNSAVEABLE.values(), ids=UNSAVEABLE)
def test_a_case_that_cannot_be_saved_keeps_no_other_waiting(desk: Desk, packed: tuple[object, ...]) -> None:
    desk.now = ms(200)
    desk.accept(*story("good")[:2])
    desk.journal.append([[structs.replace(message("r", case_id="bad"), fact=orjson.dumps(packed))]])
    desk.accept(*story("good")[2:])
    desk.turn()
    assert desk.book.case("bad") is None
    assert (failures(desk), desk.total("reported"), desk.total("approved"), desk.fold.folded) == (1, 1, 1, 5)
    assert len(desk.case("good").facts) == 4
    kept = desk.book.aside(0, 9)[1]
    assert [(one.case_id, one.fact) for one in kept if not isinstance(one, str)] == [("bad", orjson.dumps(packed))]


@pytest.mark.parametrize("what", ["get", "count", "put"])
@pytest.mark.parametrize("calls", range(4))
def test_a_report_whose_digestion_breaks_off_leaves_nothing_behind(desk: Desk, what: str, calls: int) -> None:
    """However far it had come: not a count, not a changed case. What came before of that case stays."""
    desk.accept(*story("bad", "reported@0"))
    desk.turn()
    before = (desk.case("bad"), without_failures(desk))
    desk.now = ms(2000)
    with pytest.MonkeyPatch.context() as patch:
        real, digest = getattr(Changes, what), CaseFold._digest
        left = [calls]
        digesting: list[str] = []

        def breaks(self: Changes, *args: Any, **more: Any) -> Any:
            if digesting == ["bad"]:
                left[0] -= 1
                if left[0] < 0:
                    raise AttributeError
            return real(self, *args, **more)

        def one(self: CaseFold, changes: Changes, entry: Any, now_ms: int) -> None:
            digesting[:] = [entry.case_id]
            left[0] = calls
            digest(self, changes, entry, now_ms)
            if entry.case_id == "bad":
                raise AttributeError  # at the very end, where it came so far
            digesting.clear()

        patch.setattr(Changes, what, breaks)
        patch.setattr(CaseFold, "_digest", one)
        patch.setattr(CaseFold, "_sweep", lambda *_: None)
        late = story("bad", "reported@0 finished@1700/1800")[1:]
        desk.accept(*late, *story("good", "note@1800"))
        desk.turn()
    assert (desk.case("bad"), without_failures(desk) | {"flags": {}}) == (before[0], before[1] | {"flags": {}})
    assert desk.case("good")
    assert failures(desk) == 1
    desk.restart(RULES, "one")
    desk.turn()
    assert len(desk.case("bad").facts) == 2
    assert desk.told() == steps(live("incident", "reported@0 finished@1700/1800", 2000)[1])


# ---- a case ----


@pytest.mark.parametrize("state", [b"{", b"[]", b"\xff", orjson.dumps({"case_id": "good"})], ids=repr)
def test_a_case_that_cannot_be_read_is_swept_once(desk: Desk, state: bytes) -> None:
    desk.accept(*interleaved(story("bad", "reported@0"), story("good", "reported@0")))
    desk.turn()
    was = spoil(desk, "bad", state)
    desk.now = ms(9000)
    for _ in range(2):
        desk.turn()
        assert (failures(desk), desk.total("standard")) == (1, 1)
    assert desk.case("good").counted
    assert desk.book.due(desk.now, 9) == []
    desk.accept(*story("bad", "reported@0 note@9000")[1:])
    desk.turn()
    assert failures(desk) == 2, "the report is kept for when the case can be read"
    spoil(desk, "bad", was)
    desk.restart(RULES, "one")
    desk.turn()
    assert [len(desk.case("bad").facts), desk.total("standard"), failures(desk)] == [2, 2, 2]
    assert desk.book.aside(0, 9) == (0, [])


def test_a_state_that_is_of_another_case_is_not_due_for_ever(desk: Desk) -> None:
    desk.accept(*interleaved(story("bad", "reported@0"), story("good", "reported@0")))
    desk.turn()
    desk.now = ms(9000)
    spoil(desk, "bad", spoil(desk, "good"))
    spoil(desk, "good", b"{")
    desk.turn()
    assert (failures(desk), desk.book.due(desk.now, 9), desk.total("standard")) == (2, [], 0)


def test_what_is_due_still_after_it_was_judged_is_set_aside(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.accept(*interleaved(story("bad", "reported@0"), story("good", "reported@0")))
    desk.turn()
    tell = CaseFold._tell
    monkeypatch.setattr(
        CaseFold, "_tell", lambda fold, *args: None if args[1].case.case_id == "bad" else tell(fold, *args)
    )
    desk.now = ms(9000)
    desk.turn()
    assert (failures(desk), desk.total("standard"), desk.book.due(desk.now, 9)) == (1, 1, [])


def test_other_rules_are_followed_by_every_case_but_one_that_cannot_be_read(desk: Desk) -> None:
    desk.accept(*interleaved(*(story(name, "reported@0") for name in ("bad", "good", "well"))))
    desk.turn()
    spoil(desk, "bad")
    desk.restart(Rules(lambda *_: 60, grace_ms=0), "a minute")
    late = desk.book.search(Search(overdue=True), now_ms=ms(61), after="", limit=9)
    assert [found.case_id for found in late] == ["good", "well"]
    assert failures(desk) == 1


def test_retention_passes_a_case_it_cannot_strip(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.now = ms(200)
    words = "reported@0 note@1 note@2 finished@120 approved@180"
    desk.accept(*interleaved(story("bad", words), story("good", words)))
    desk.turn()
    monkeypatch.setattr("service.cases.fold.essence", refuses)
    desk.now = ms(200) + KEEP_MS + 1
    for _ in range(2):
        desk.turn()
        assert [len(desk.case(name).facts) for name in ("bad", "good")] == [5, 3]
        assert failures(desk) == 1
        assert desk.book.strippable(desk.now, 9) == []
    monkeypatch.setattr("service.cases.fold.essence", essence)
    desk.restart(RULES, "one")
    desk.turn()
    assert [len(desk.case(name).facts) for name in ("bad", "good")] == [3, 3]


def refuses(case: Case) -> Case:
    if case.case_id == "bad":
        raise IndexError
    return essence(case)


# ---- not a case's fault ----


@pytest.mark.parametrize("error", [JournalBroken("I/O"), JournalFull("disk"), MemoryError(), OSError()], ids=repr)
def test_for_what_is_wrong_with_file_or_machine_no_case_is_set_aside(desk: Desk, error: Exception) -> None:
    def fails(*_: object) -> None:
        raise error

    desk.accept(*story("good"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Changes, "put", fails)
        with pytest.raises(type(error)):
            desk.turn()
    assert (failures(desk), desk.fold.folded, desk.book.aside(0, 9)) == (0, 0, (0, []))
    desk.turn()
    assert (desk.total("reported"), desk.fold.folded) == (1, 4)


def test_a_full_disk_met_while_one_is_sought_is_a_full_disk(desk: Desk) -> None:
    desk.journal.append([[message("r", case_id="bad", value=b"{")]])
    desk.accept(*story("good"))
    store = desk.book._store
    assert isinstance(store, Store)
    db = store._db
    db.pragma("max_page_count", db.pragma("page_count"))
    for n in range(400):
        desk.accept(*story(f"more-{n}"))
    with pytest.raises((JournalFull, JournalBroken)):
        desk.turn()
    assert desk.book.aside(0, 9) == (0, [])
    db.pragma("max_page_count", 1 << 30)
    desk.kill()
    desk.turn()
    assert (failures(desk), desk.fold.lag) == (1, 0)
    assert desk.total("reported") == len(desk.book.search(Search(), now_ms=T0, after="", limit=999))
