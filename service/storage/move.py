"""`gridgov journal move`: everything that one place keeps, brought to another. Nothing may run at either meanwhile.

The new journal has the same seqs and totals and an id of its own: the old one may be looked at, even used again, and
what the two give out shall never be taken for one another. So the casebook goes on where it was, and consumers begin a
new watermark; only what was handed to Kafka and not acknowledged can reach them twice, under two journal-ids and one
report_id.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from service.cases.changes import COLUMNS
from service.journal.postgresql.tables import WEIGH
from service.journal.store import Db, Store
from service.ports import Entry, JournalError, JournalUnavailable

PAGE = 1000
_KEPT = "seq, topic, case_id, headers, value, received_at, attempt, sender, report_id, fact"
JOURNAL = {
    "messages": f"{_KEPT}, settled",
    "receipts": "seq, sender, report_id, fingerprint, case_id, topic, received_at",
    "settlements": 'seq, partition, "offset", settled_at',
    "parked": f"{_KEPT}, reason, detail, parked_at",
    "topics": "name, handed",
}
CASES = {"cases": ", ".join(COLUMNS), "totals": "name, labels, n", "aside": ", ".join(Entry._fields)}
LEDGER = ("seq", "accepted", "settled", "parked", "folded")


class Place(Protocol):
    """Where a journal and a casebook are. Every method may raise `JournalError`."""

    journal: Store
    cases: Store

    def ledger(self) -> dict[str, int]:
        """The totals by the names of `LEDGER`; `seq` is the last that was given."""

    def begin(self, db: Db, journal_id: str, ledger: dict[str, int]) -> None:
        """Have these totals, and this id."""

    def retire(self) -> str:
        """Let nobody find it any more; where it is now."""


def move(source: Place, target: Place) -> tuple[str, dict[str, int]]:
    """Copy all, in one transaction for each database, and retire the source; where that is now, and rows by table."""
    ledger = target.ledger()
    if any(ledger.values()) or target.cases.read("SELECT 1 FROM cases LIMIT 1"):
        raise JournalError("the target is not empty: it has accepted reports")
    journal_id = uuid.uuid4().hex
    moved: dict[str, int] = {}
    with target.cases.transaction() as db:
        moved |= _copied(source.cases, db, CASES)
        memory = {**dict(source.cases.read("SELECT key, value FROM meta")), "journal_id": journal_id}
        db.execute("DELETE FROM meta")
        db.executemany("INSERT INTO meta VALUES(?, ?)", [(key, target.cases.memo(one)) for key, one in memory.items()])
    with target.journal.transaction() as db:
        moved |= _copied(source.journal, db, JOURNAL)
        target.begin(db, journal_id, source.ledger())
    target.journal.close()
    target.cases.close()
    return source.retire(), moved


def _copied(source: Store, db: Db, tables: dict[str, str]) -> dict[str, int]:
    return {table: _table(source, db, table, columns) for table, columns in tables.items()}


def _table(source: Store, db: Db, table: str, columns: str) -> int:
    marks = ", ".join("?" * len(columns.split(", ")))
    insert = f"INSERT INTO {table}({columns}) VALUES({marks})"
    count = 0
    for page in _pages(source, table, columns):
        db.executemany(insert, [_row(table, row) for row in page])
        count += len(page)
    return count


def _pages(source: Store, table: str, columns: str) -> Iterator[list[Any]]:
    """By the first column where that is a key, else all at once: those tables are small."""
    key = columns.partition(",")[0]
    if key not in ("seq", "case_id"):
        yield source.read(f"SELECT {columns} FROM {table}")
        return
    page = source.read(f"SELECT {columns} FROM {table} ORDER BY {key} LIMIT {PAGE}")
    while page:
        yield page
        page = source.read(f"SELECT {columns} FROM {table} WHERE {key}>? ORDER BY {key} LIMIT {PAGE}", (page[-1][0],))


def _row(table: str, row: Any) -> Any:
    return (*row[:-1], bool(row[-1])) if table == "messages" else row


class FilesPlace:
    """SQLite's files in `directory`."""

    def __init__(self, directory: Path, journal: Store, cases: Store) -> None:
        self._directory, self.journal, self.cases = directory, journal, cases

    def ledger(self) -> dict[str, int]:
        """See `Place.ledger`."""
        kept = dict(self.journal.read("SELECT key, value FROM meta WHERE key!='journal_id'"))
        [(seq,)] = self.journal.read("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name='messages'")
        return {name: {**kept, "seq": seq}[name] for name in LEDGER}

    def begin(self, db: Db, journal_id: str, ledger: dict[str, int]) -> None:
        """See `Place.begin`."""
        for key, value in {**ledger, "journal_id": journal_id}.items():
            db.execute("UPDATE meta SET value=? WHERE key=?", (value, key))
        db.execute("DELETE FROM sqlite_sequence WHERE name='messages'")
        db.execute("INSERT INTO sqlite_sequence(name, seq) VALUES('messages', ?)", (ledger["seq"],))

    def retire(self) -> str:
        """Into a directory beside."""
        self.journal.close()
        self.cases.close()
        aside = self._directory / f"moved-{time.strftime('%Y%m%dT%H%M%S')}"
        aside.mkdir(mode=0o700)
        for path in (*self._directory.glob("journal.sqlite3*"), *self._directory.glob("cases.sqlite3*")):
            path.rename(aside / path.name)
        return str(aside)


class ServedPlace:
    """Our schema at a PostgreSQL."""

    def __init__(self, server: Store, schema: str) -> None:
        self.journal = self.cases = server
        self._schema = schema

    def ledger(self) -> dict[str, int]:
        """See `Place.ledger`."""
        [row] = self.journal.read(f"SELECT {', '.join(LEDGER)} FROM head, tail")
        return dict(zip(LEDGER, row, strict=True))

    def begin(self, db: Db, journal_id: str, ledger: dict[str, int]) -> None:
        """See `Place.begin`."""
        db.execute("UPDATE head SET journal_id=?, seq=?, accepted=?", (journal_id, ledger["seq"], ledger["accepted"]))
        db.execute("UPDATE tail SET settled=?, parked=?, folded=?", [ledger[name] for name in LEDGER[2:]])
        db.execute(WEIGH)

    def retire(self) -> str:
        """Under another name."""
        aside = f"{self._schema}_moved_{time.strftime('%Y%m%d%H%M%S')}"
        with self.journal.transaction() as db:
            db.execute(f"ALTER SCHEMA {self._schema} RENAME TO {aside}")
        self.journal.close()
        return f"schema {aside}"


@contextmanager
def unused(directory: Path) -> Iterator[None]:
    """Be the only one at a data directory. Raises `JournalUnavailable` while web or relay run there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        for name in ("web.lock", "relay.lock"):
            lock = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalUnavailable(f"gridgov runs at {directory}: stop it first, web and relay") from None
        yield
