"""Erasing: nothing of the text is left in any file, and everything that was promised and counted holds."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from schemas import event
from schemas.report import load
from service.cases.casebook import Casebook
from service.cli.main import main
from service.domain.fact import pack
from service.journal.journal import SqliteJournal
from service.ports import Delivery, Entry, Message, ParkReason, Receipt, State
from tests.gridgov import report
from tests.unit.case_stories import RULES

TEXT = "金丝雀在这里"
NOW_MS = 1_604_450_000_000
NAMES = event.Names(zh="名", en="name")


def message(number: int, case: str = "c", sender: str = "platform") -> Message:
    given = report(number, case_id=case, description=f"{TEXT}{number}" * 20, extra={"who": TEXT}, source_name=TEXT)
    given["location"] = {"address": TEXT, "grid_code": "31010901800101", "x": 121.5, "y": 31.2, "crs": "CGCS2000"}
    loaded = load(given, now_ms=NOW_MS)
    value = event.build(loaded, received_at_ms=NOW_MS, flags=["x"], edition="e", major_name=NAMES, category_name=NAMES)
    return Message(
        sender=sender,
        report_id=loaded.report_id,
        fingerprint=loaded.fingerprint(),
        case_id=case,
        topic="t",
        headers=event.headers(loaded, sender=sender),
        value=value,
        received_at=NOW_MS,
        fact=pack(loaded),
    )


def files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.glob("*.sqlite3*"))


@pytest.fixture
def journal(tmp_path: Path) -> SqliteJournal:
    return SqliteJournal(tmp_path, limit=1 << 24)


def test_nothing_of_the_text_is_left_in_the_file(journal: SqliteJournal, tmp_path: Path) -> None:
    """Wherever it is: pending, parked, settled and waiting for the cases, settled and gone."""
    journal.append([[message(number) for number in range(40)]])
    journal.park(1, ParkReason.RECORD_REFUSED, "", 0)
    journal.hand_over({"t": 20}, [Delivery(seq, 0, seq, NOW_MS) for seq in range(2, 20)], folded=10)
    assert TEXT.encode() in files(tmp_path)
    found = journal.erase("case", "c")

    assert TEXT.encode() not in files(tmp_path)
    assert b"r-39" in files(tmp_path)
    states = [one.state for one in sorted(found)]
    assert states == [State.PARKED, *[State.SETTLED] * 18, *[State.PENDING] * 21]
    assert [(one.partition, one.offset) for one in sorted(found)][1] == (0, 2)
    assert [one.handed for one in sorted(found)][18:21] == [True, True, False]
    assert journal.totals().mismatch == 0
    assert (journal.totals().pending, len(journal.after(0, 100))) == (21, 31)


def test_what_is_left_is_the_fact_as_the_contract_has_it(journal: SqliteJournal) -> None:
    journal.append([[message(1)]])
    [before] = journal.pending("t", 0, 10)
    journal.erase("report", "platform", "r-1")
    [after] = journal.pending("t", 0, 10)
    was, is_ = orjson.loads(before.value), orjson.loads(after.value)

    assert after._replace(value=before.value) == before
    assert is_ == {name: was[name] for name in is_} | {
        "flags": ["erased", "x"],
        "location": {"address": "*", "grid_code": "31010901800101"},
    }
    assert {"report_id", "case_id", "kind", "category", "stage", "occurred_at", "received_at"} <= is_.keys()
    event.EventSchema().load(is_)


def test_only_what_is_named_is_erased_and_a_repeat_does_not_bring_it_back(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    journal.append([[message(1), message(2), message(1, sender="another"), message(3, case="d")]])
    assert [(one.sender, one.report_id) for one in journal.erase("report", "platform", "r-1")] == [("platform", "r-1")]
    told = {(one.sender, one.report_id): TEXT.encode() in one.value for one in journal.pending("t", 0, 10)}
    assert told == {
        ("platform", "r-1"): False,
        ("platform", "r-2"): True,
        ("another", "r-1"): True,
        ("platform", "r-3"): True,
    }
    [[again]] = journal.append([[message(1)]])  # type: ignore[misc]
    assert isinstance(again, Receipt)
    assert again.duplicate
    assert len(journal.erase("report", "platform", "r-1")) == 1
    assert journal.erase("report", "platform", "r-9") == []


def test_the_command_tells_where_else_it_is_and_the_audit_log_that_it_was_done(
    journal: SqliteJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDGOV_DATA_DIR", str(tmp_path))
    journal.append([[message(1), message(2)]])
    journal.hand_over({"t": 2}, [Delivery(1, 2, 33, NOW_MS)])

    def run(*given: str) -> Result:
        return CliRunner().invoke(main, ["erase", *given])

    assert run().exit_code == 2
    assert run("--case", "unknown").exit_code == 1
    done = run("--case", "c")

    assert done.exit_code == 0, done.output
    assert "in Kafka since 2020-11-04T00:33:20.000Z: t, partition 2, offset 33" in done.output
    assert "partition 2, key c, null" in done.output
    assert "just being handed to t" in done.output
    last = orjson.loads((tmp_path / "audit" / "audit.jsonl").read_bytes().splitlines()[-1])
    assert (last["what"], last["result"]) == ("erase", "done")
    assert {"case": "c", "reports": 2, "in_kafka": 2}.items() <= last["about"].items()


def test_what_the_casebook_set_aside_is_erased_too(tmp_path: Path) -> None:
    casebook = Casebook.in_files(tmp_path, RULES)
    with casebook.changing() as changes:
        changes.set_aside(Entry(1, "c", 1, "platform", "r-1", None, message(1).value))
    assert TEXT.encode() in files(tmp_path)

    assert casebook.erase("report", "platform", "r-1") == 1
    assert TEXT.encode() not in files(tmp_path)
