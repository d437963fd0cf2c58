"""Files of the first version (schema 1, `made_by_0_1`) go on: nothing pending, remembered, parked or counted is lost.

They hold the first twelve reports of the demonstration: 1 and 2 settled and folded, 4 parked, 5 settled and not folded,
the others pending, of which those up to 6 in the first topic were handed to a producer.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from schemas.catalogue import Catalogue
from schemas.event import unpacked
from schemas.report import load
from service import config
from service.cases.casebook import Casebook
from service.cases.fold import CaseFold, fact_of
from service.cases.rules import fingerprint, rules_of
from service.cases.search import Search
from service.domain.fact import pack, unpack
from service.domain.standards import Assessment
from service.domain.view import view
from service.journal.journal import SqliteJournal
from service.ports import Conflict, Delivery, Message, Receipt, State, Totals
from tests.unit.case_stories import RULES, fact
from tests.unit.case_stories import fold as fold_facts

HERE = Path(__file__).parent
SENT = (HERE.parents[1] / "deploy" / "demo" / "ciie-2020.ndjson").read_bytes().splitlines()[:12]
REPORTS = [load(orjson.loads(line), now_ms=1 << 50) for line in SENT]
NOW = 1_764_249_600_000
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / "made_by_0_1", tmp_path / "var"))


@pytest.fixture
def journal(directory: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(directory, limit=1 << 24)
    yield made
    made.close()


def fold(journal: SqliteJournal, directory: Path) -> list[object]:
    """Every case as it is once all is folded."""
    catalogue = Catalogue.load(None)
    rules = rules_of(config.load({"GRIDGOV_DATA_DIR": str(directory)}), catalogue)
    made = CaseFold(
        journal,
        lambda: Casebook.in_files(directory, rules),
        rules,
        fingerprint(catalogue, rules),
        clock=lambda: NOW + 1,
        strip_after_ms=1 << 50,
    )
    made.open()
    made.turn()
    assert made.folded == 12
    assert made.casebook is not None
    cases = [made.casebook.case(case_id) for case_id in sorted({report.case_id for report in REPORTS})]
    made.casebook.close()
    return [view(case, NOW, rules) for case in cases if case]


def test_what_is_pending_is_pending_still_as_it_would_have_been_published(journal: SqliteJournal) -> None:
    pending = sorted(one for topic in journal.topics() for one in journal.pending(topic, 0, 100))

    assert journal.totals() == Totals(accepted=12, settled=3, pending=8, parked=1, mismatch=0)
    assert [one._replace(topic="", value=b"", headers=b"")[0] for one in pending] == [3, 6, 7, 8, 9, 10, 11, 12]
    for one in pending:
        report, headers = REPORTS[one.seq - 1], dict(unpacked(one.headers))
        assert (one.report_id, one.case_id, one.sender) == (report.report_id, report.case_id, "platform")
        assert orjson.loads(one.value)["occurred_at"] == report.canonical["occurred_at"]
        assert headers["ce_type"] == f"gridgov.{report.kind}.{report.stage}".encode()
        assert (headers["ce_id"], headers["content-type"]) == (report.report_id.encode(), b"application/json")
        assert headers.get("traceparent") == (TRACE if one.seq > 4 else None)


def test_what_was_remembered_is_remembered(journal: SqliteJournal) -> None:
    known = [journal.receipt("platform", report.report_id) for report in REPORTS]

    assert [one and one.state for one in known] == [
        *[State.SETTLED, State.SETTLED, State.PENDING, State.PARKED, State.SETTLED],
        *[State.PENDING] * 7,
    ]
    assert known[1] is not None
    assert (known[1].partition, known[1].offset, known[1].settled_at) == (0, 11, NOW + 6)
    for report in REPORTS:
        [[again]] = journal.append([[message(report.report_id, report.fingerprint())]])  # type: ignore[misc]
        assert isinstance(again, Receipt)
        assert again.duplicate
    assert journal.append([[message(REPORTS[0].report_id, b"other content...")]]) == [[Conflict(REPORTS[0].report_id)]]


def message(report_id: str, fingerprint: bytes) -> Message:
    return Message("platform", report_id, fingerprint, "case", "topic", b"", b"{}", NOW)


def test_what_came_later_finds_its_place(journal: SqliteJournal) -> None:
    journal.reattempt()
    [topic] = {one.topic for one in journal.parked()}

    assert [(one.seq, one.attempt) for one in journal.pending(topic, 0, 9)] == [(3, 2)]
    assert journal.requeue([4]) == {4: 13}
    journal.hand_over({topic: 13}, [Delivery(seq, 1, seq, NOW) for seq in (3, 13)])
    assert journal.totals() == Totals(accepted=12, settled=5, pending=7, parked=0, mismatch=0)
    assert journal.forget(NOW + 7) == 4
    assert journal.receipt("platform", REPORTS[0].report_id) is None
    assert journal.receipt("platform", REPORTS[4].report_id) is not None


def test_the_cases_go_on(journal: SqliteJournal, directory: Path, tmp_path: Path) -> None:
    assert {one.seq: fact_of(one)[6:] for one in journal.after(4, 100)} == {
        seq: tuple(unpack(pack(REPORTS[seq - 1])))[1:] for seq in range(5, 13)
    }

    assert fold(journal, directory) == fold(anew(tmp_path / "anew"), tmp_path / "anew")


def anew(directory: Path) -> SqliteJournal:
    """The same reports in a journal of this version."""
    made = SqliteJournal(directory, limit=1 << 24)
    made.append(
        [
            [
                Message("platform", one.report_id, one.fingerprint(), one.case_id, "topic", b"", b"{}", NOW, pack(one))
                for one in REPORTS
            ]
        ]
    )
    return made


OLDER = """
DROP INDEX by_owner; ALTER TABLE cases DROP COLUMN owner;
CREATE TABLE senders(sender TEXT, case_id TEXT, PRIMARY KEY(sender, case_id)) WITHOUT ROWID;
UPDATE cases SET state=CAST(json_remove(CAST(state AS TEXT), '$.owner') AS BLOB);
PRAGMA user_version=2;
"""


def test_cases_of_the_time_when_they_were_nobodys_are_those_of_who_reported_them_first(tmp_path: Path) -> None:
    """By what is looked for in the casebook, and by what each case says of itself."""
    told = {
        "noted-first": [("hotline", "note@0/5"), ("platform", "reported@9/9"), ("other", "reported@1/20")],
        "never-reported": [("other", "finished@50/60"), ("hotline", "arrived@30/40")],
        "one": [("platform", "reported@0"), ("platform", "arrived@60")],
    }
    book = Casebook.in_files(tmp_path, RULES)
    with book.changing() as changes:
        for case_id, words in told.items():
            facts = [fact(word, n, "repair")._replace(case_id=case_id) for n, (_, word) in enumerate(words)]
            case = fold_facts([one._replace(sender=who) for one, (who, _) in zip(facts, words, strict=True)])
            changes.put(Assessment(case, RULES))
    book.close()
    with closing(sqlite3.connect(tmp_path / "cases.sqlite3")) as db:
        db.executescript(OLDER)

    book = Casebook.in_files(tmp_path, RULES)

    owners = {"noted-first": "platform", "never-reported": "hotline", "one": "platform"}
    for case_id, owner in owners.items():
        found = book.case(case_id, owner)
        assert found is not None
        assert found.owner == owner
    assert [one.case_id for one in book.search(Search(owner="platform"), now_ms=0, after="", limit=9)] == [
        "noted-first",
        "one",
    ]
    book.close()
