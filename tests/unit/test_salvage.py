"""A corrupt journal is set aside and brought back as far as it can be read; a sound one is never touched."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from service.journal import SqliteJournal, set_aside
from service.ports import JournalBroken, Receipt
from service.salvage import opened, salvage
from tests.unit.messages import message

LIMIT = 1 << 24


def filled(directory: Path, count: int) -> str:
    """A journal with `count` pending messages, folded into its file; its id."""
    journal = SqliteJournal(directory, limit=LIMIT)
    journal.append([[message(f"r-{n}", value=b"x" * 2000) for n in range(count)]])
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
    brought, known = salvage(aside, journal)
    assert known == 0
    assert 150 < brought < 200  # the damaged pages held some of them
    assert journal.totals().pending == brought
    assert salvage(aside, journal) == (0, brought)  # safe to repeat
    assert set_aside(tmp_path) == []
    [answers] = journal.append([[message("r-0", value=b"x" * 2000)]])  # its sender repeats it: no conflict
    assert isinstance(answers, list)
    assert isinstance(answers[0], Receipt)
    assert answers[0].duplicate


def test_a_journal_of_a_newer_gridgov_is_no_corrupt_one(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    with sqlite3.connect(tmp_path / "journal.sqlite3") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(JournalBroken, match="99"):
        opened(tmp_path, limit=LIMIT)
    assert set_aside(tmp_path) == []
