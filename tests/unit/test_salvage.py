"""A corrupt journal is set aside and brought back as far as it can be read; a sound one is never touched."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace

from schemas import event
from service.journal.journal import SqliteJournal
from service.journal.salvage import FILES, Salvaged, opened, salvage
from service.journal.upkeep import set_aside
from service.ports import Conflict, JournalBroken, Message, Receipt
from tests.unit.messages import message

LIMIT = 1 << 24


def reported(number: int, description: str = "x" * 2000) -> Message:
    """A message whose value is one that intake could have built."""
    added = dict.fromkeys(event.BUILT)
    value = orjson.dumps({"report_id": f"r-{number}", "description": description, **added})
    return message(f"r-{number}", value=value, fingerprint=event.fingerprint(value))


def filled(directory: Path, count: int) -> str:
    """A journal with `count` pending messages, folded into its file; its id."""
    journal = SqliteJournal(directory, limit=LIMIT)
    journal.append([[reported(n) for n in range(count)]])
    journal.tidy()
    journal.close()
    return journal.journal_id


def damage(directory: Path) -> None:
    """Overwrite a few pages in the middle of the file."""
    path = directory / "journal.sqlite3"
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2 // 4096 * 4096
    raw[middle : middle + 3 * 4096] = b"\xff" * (3 * 4096)
    path.write_bytes(raw)


def test_of_several_that_find_it_corrupt_one_sets_it_aside(tmp_path: Path) -> None:
    before = filled(tmp_path, 300)
    damage(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        ids = {journal.journal_id for journal in pool.map(lambda _: opened(tmp_path, limit=LIMIT), range(4))}

    assert len(ids - {before}) == len(ids) == 1
    assert len(list(tmp_path.glob("corrupt-*"))) == 1


def test_a_sound_journal_is_opened_as_it_is(tmp_path: Path) -> None:
    before = filled(tmp_path, 3)
    assert opened(tmp_path, limit=LIMIT).journal_id == before
    assert set_aside(tmp_path) == []


def test_a_corrupt_journal_is_set_aside_and_brought_back(tmp_path: Path) -> None:
    before = filled(tmp_path, 200)
    damage(tmp_path)
    journal = opened(tmp_path, limit=LIMIT)
    assert journal.journal_id != before
    [aside] = set_aside(tmp_path)
    assert journal.fill().set_aside == 1
    done = salvage(aside, journal)
    assert done.known == done.damaged == 0
    assert 150 < done.brought < 200  # the damaged pages held some of them
    assert journal.totals().pending == done.brought
    assert salvage(aside, journal) == Salvaged(known=done.brought)  # safe to repeat
    assert set_aside(tmp_path) == []


def test_whose_cases_a_salvaged_reports_sender_speaks_of_is_not_forgotten(tmp_path: Path) -> None:
    facts = [b'[1,"repair","0211","note","none",null,true]', b"\xff", None]
    journal = SqliteJournal(tmp_path, limit=LIMIT)
    journal.append([[replace(reported(n), fact=one) for n, one in enumerate(facts)]])
    journal.close()
    (tmp_path / "aside").mkdir()
    (tmp_path / FILES[0]).rename(tmp_path / "aside" / FILES[0])
    journal = SqliteJournal(tmp_path, limit=LIMIT)

    assert salvage(tmp_path / "aside", journal).brought == 3

    assert [one.fact for one in journal.after(0, 9)] == [facts[0], None, None]


def test_who_repeats_a_salvaged_report_is_known_and_other_content_is_not(tmp_path: Path) -> None:
    filled(tmp_path, 200)
    damage(tmp_path)
    journal = opened(tmp_path, limit=LIMIT)
    salvage(set_aside(tmp_path)[0], journal)

    [[same], [other]] = journal.append([[reported(0)], [reported(0, "another")]])  # type: ignore[misc]

    assert isinstance(same, Receipt)
    assert same.duplicate
    assert isinstance(other, Conflict)


def test_a_row_that_can_be_read_and_is_no_report_any_more_is_left_there(tmp_path: Path) -> None:
    filled(tmp_path, 200)
    with sqlite3.connect(tmp_path / "journal.sqlite3") as db:
        db.execute("UPDATE messages SET value=x'00ff' WHERE report_id='r-3'")
    db.close()
    damage(tmp_path)
    journal = opened(tmp_path, limit=LIMIT)

    assert salvage(set_aside(tmp_path)[0], journal).damaged == 1
    assert journal.receipt("platform", "r-3") is None


def test_a_journal_of_a_newer_gridgov_is_no_corrupt_one(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    with sqlite3.connect(tmp_path / "journal.sqlite3") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(JournalBroken, match="99"):
        opened(tmp_path, limit=LIMIT)
    assert set_aside(tmp_path) == []
