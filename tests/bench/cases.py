"""`python -m tests.bench.cases`: what cases cost with a hundred thousand open, without and with a million closed ones.

Cost must not grow with what is closed. Both casebooks are built from whole cases (`domain.cases`, judged and measured)
through `Casebook.changing`, as the fold saves them; only their totals are left out. The closed ones have lower ids, as
older cases have, so that whoever walks the ids meets them first. Medians of several runs, on the two in turn.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice, product
from pathlib import Path
from unittest import mock

import orjson

from schemas.catalogue import Catalogue
from schemas.times import format_time
from schemas.words import Stage, Supervision
from service.cases.casebook import Casebook
from service.cases.fold import CaseFold
from service.cases.metrics import CaseCollector
from service.cases.search import Search
from service.domain.case import Case, Fact, apply
from service.domain.standards import Assessment, Rules
from service.journal.journal import SqliteJournal
from service.ports import Message
from tests.unit.assess import judge, measure

NOW = 1_604_448_000_000
CATALOGUE = Catalogue.load()
RULES = Rules(CATALOGUE.limit)
DUE = 1000  # cases in a sweep
TOGETHER = 5000  # cases in one transaction of the build
PLACES = (("repair", "0211"), ("repair", "0404"), ("incident", "0501"), ("incident", "0104"))
DONE = (
    (Stage.REPORTED, 0),
    (Stage.DISPATCHED, 60),
    (Stage.ARRIVED, 400),
    (Stage.FINISHED, 900),
    (Stage.APPROVED, 1200),
)
WAITS = DONE[:1]
WORKED = DONE[:3]
FINISHED = DONE[:4]


def story(case_id: str, place: tuple[str, str], stages: tuple[tuple[Stage, int], ...], reported_at: int) -> Case:
    """A case after these stages, judged as of NOW."""
    case: Case | None = None
    for n, (stage, seconds) in enumerate(stages):
        at = reported_at + 1000 * seconds
        fact = Fact(case_id, at, at, 0, "platform", f"{case_id}-{n}", *place, stage, Supervision.NONE)
        case = apply(case, fact)
    assert case is not None
    case, _ = judge(case, NOW, RULES)
    return measure(case, RULES)[0]


def open_cases(count: int) -> Iterator[Case]:
    """A quarter each: incidents that wait and run out one every millisecond from NOW on, incidents to be approved,
    repairs at work, repairs that nobody has come to in time."""
    for n in range(count):
        case_id, quarter = f"20201104{n:07}", n % 4
        if quarter == 0:
            yield story(case_id, PLACES[2], WAITS, NOW - 1_620_000 + n // 4 + 1)
        elif quarter == 1:
            yield story(case_id, PLACES[3], FINISHED, NOW - 3_600_000 - n)
        elif quarter == 2:
            yield story(case_id, PLACES[0], WORKED, NOW - 7_200_000 - n)
        else:
            yield story(case_id, PLACES[1], WAITS, NOW - 7_200_000 - n)


def closed_cases(count: int) -> Iterator[Case]:
    """Approved in the two years before, all in time."""
    for n in range(count):
        case_id, place = f"2019{n:011}", PLACES[n % 4]
        yield story(case_id, place, DONE, NOW - 90_000_000 - 60_000 * n)


def fill(directory: Path, cases: Iterator[Case]) -> float:
    """Save them; the seconds it took."""
    started, book = time.perf_counter(), Casebook.in_files(directory, RULES)
    while some := list(islice(cases, TOGETHER)):
        with book.changing() as page:
            for case in some:
                page.put(Assessment(case, RULES))
    book.close()
    return time.perf_counter() - started


class Desk:
    """A fold on a casebook in `directory`, at a time of our own."""

    def __init__(self, directory: Path, middle: str = "") -> None:
        self.now, self.middle = NOW, middle
        self.journal = SqliteJournal(directory, limit=1 << 32)
        self.fold = CaseFold(
            self.journal,
            lambda: Casebook.in_files(directory, RULES),
            RULES,
            "bench",
            clock=lambda: self.now,
            strip_after_ms=10**15,
        )
        with mock.patch.object(CaseFold, "_reschedule"):  # the rules are those it was built by
            self.fold.open()
        assert self.fold.casebook is not None
        self.book = self.fold.casebook
        self.collector = CaseCollector(self.fold, CATALOGUE)
        self.sent = 0

    def scrape(self) -> None:
        assert sum(len(family.samples) for family in self.collector.collect()) > 500

    def look(self) -> None:
        """A turn that finds no report and nothing due, but looks for both."""
        self.fold._sweep_at = 0.0
        self.fold.turn()

    def sweep(self) -> None:
        self.now += DUE
        self.fold._sweep_at = 0.0
        self.fold.turn()

    def fold_one(self) -> None:
        """The next report of a repair at work: an arrival already known, told once more."""
        self.sent += 1
        case_id = f"20201104{4 * self.sent + 2:07}"
        self.journal.append([[message(case_id, f"more-{self.sent}", PLACES[0], Stage.ARRIVED, NOW)]])
        self.fold._sweep_at = time.monotonic() + 60
        started = time.perf_counter()
        self.fold.turn()
        self.took = time.perf_counter() - started

    def overdue(self) -> None:
        assert len(self.book.search(Search(overdue=True), now_ms=NOW, after="", limit=101)) == 101

    def overdue_late_page(self) -> None:
        found = self.book.search(Search(overdue=True), now_ms=NOW, after=self.middle, limit=101)
        assert len(found) == 101

    def overdue_of_sender(self) -> None:
        found = self.book.search(Search(overdue=True, owner="platform"), now_ms=NOW, after="", limit=101)
        assert len(found) == 101

    def to_approve(self) -> None:
        found = self.book.search(Search(phase="awaiting_approval", kind="incident"), now_ms=NOW, after="", limit=101)
        assert len(found) == 101

    def urgent(self) -> None:
        assert not self.book.search(Search(supervision="urgent"), now_ms=NOW, after="", limit=101)


def message(case_id: str, report_id: str, place: tuple[str, str], stage: Stage, at: int) -> Message:
    """As intake would make it."""
    said = {"kind": place[0], "category": place[1], "stage": stage, "supervision": "none"}
    value = orjson.dumps({"occurred_at": format_time(at), "case_id": case_id, "report_id": report_id, **said})
    fact = orjson.dumps((at, *said.values(), None))
    return Message(
        "platform", report_id, blake2b(value, digest_size=16).digest(), case_id, "topic", b"{}", value, at, fact
    )


MEASURED: dict[str, tuple[Callable[[Desk], None], int]] = {
    "a scrape of all case metrics": (Desk.scrape, 11),
    "a turn with nothing to fold or sweep": (Desk.look, 101),
    f"a sweep of {DUE} that are due": (Desk.sweep, 7),
    "one more report folded": (Desk.fold_one, 51),
    "a page of overdue cases": (Desk.overdue, 21),
    "a page from the middle of them": (Desk.overdue_late_page, 21),
    "a page of a sender's overdue cases": (Desk.overdue_of_sender, 21),
    "a page by phase and kind": (Desk.to_approve, 21),
    "a page by supervision, none found": (Desk.urgent, 11),
}


def medians(run: Callable[[Desk], None], desks: Sequence[Desk], times: int) -> list[float]:
    """Milliseconds of each, measured in turn (A B A B …), so that a busy machine is busy for all of them."""
    taken: list[list[float]] = [[] for _ in desks]
    for _, (desk, several) in product(range(times), zip(desks, taken, strict=True)):
        desk.took = 0.0
        started = time.perf_counter()
        run(desk)
        several.append(desk.took or time.perf_counter() - started)
    return [statistics.median(several) * 1000 for several in taken]


def plans(desk: Desk) -> Iterator[str]:
    """How SQLite goes about every query that was measured."""
    asked: dict[str, tuple[object, ...]] = {}
    read = desk.book._store.read

    def noted(sql: str, bindings: tuple[object, ...] = ()) -> list[object]:
        asked[sql] = bindings
        return read(sql, bindings)

    with mock.patch.object(desk.book._store, "read", noted):
        for run, _ in MEASURED.values():
            run(desk)
    for sql, bindings in asked.items():
        yield sql
        yield from (f"    {detail}" for *_, detail in read(f"EXPLAIN QUERY PLAN {sql}", bindings))


def rate(directory: Path, cases: int) -> float:
    """Reports per second that the fold takes in, of new cases of five reports each, told stage by stage."""
    desk = Desk(directory)
    for at in range(0, cases, 100):
        for stage, seconds in DONE:
            block = [f"r{n:07}" for n in range(at, at + 100)]
            reports = [message(n, f"{n}-{stage}", PLACES[0], stage, NOW + 1000 * seconds) for n in block]
            desk.journal.append([reports])
    desk.now = NOW + 10**7
    started = time.perf_counter()
    while desk.fold.turn():
        pass
    taken = time.perf_counter() - started
    assert desk.fold.folded == cases * len(DONE)
    assert "failures" not in desk.book.totals()
    return cases * len(DONE) / taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", type=int, default=100_000)
    parser.add_argument("--closed", type=int, default=1_000_000)
    parser.add_argument("--reports", type=int, default=20_000)
    parser.add_argument("--plans", action="store_true", help="print the query plans too")
    parser.add_argument("--scratch", type=Path, help="where to build; 2 GB")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        few, many = Path(scratch) / "few", Path(scratch) / "many"
        print(f"{chosen.open} open cases built in {fill(few, open_cases(chosen.open)):.0f} s")
        shutil.copytree(few, many)
        print(f"{chosen.closed} closed ones added in {fill(many, closed_cases(chosen.closed)):.0f} s")
        sizes = [sum(file.stat().st_size for file in place.iterdir()) / 1e6 for place in (few, many)]
        print(f"casebooks of {sizes[0]:.0f} MB and {sizes[1]:.0f} MB")
        desks = [Desk(place, f"20201104{chosen.open // 2:07}") for place in (few, many)]
        print(f"{'median, ms':40}{'none closed':>14}{'with closed':>14}{'ratio':>8}")
        for name, (run, times) in MEASURED.items():
            without, with_closed = medians(run, desks, times)
            print(f"{name:40}{without:14.2f}{with_closed:14.2f}{with_closed / without:8.2f}")
        if chosen.plans:
            print("\n".join(plans(desks[1])))
        print(f"the fold alone: {rate(Path(scratch) / 'rate', chosen.reports // 5):.0f} reports/s")


if __name__ == "__main__":
    main()
