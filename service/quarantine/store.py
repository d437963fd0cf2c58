"""The file of refused reports. It is nobody's promise: not flushed, capped, and the first to give way on a full disk.

The same report refused for the same reasons again is one row with its number.
"""

import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.journal.room import reserve
from service.journal.sqlite import Db, Store, sizes

_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE rejects(
  id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, at INTEGER NOT NULL, last_at INTEGER NOT NULL,
  times INTEGER NOT NULL, sender TEXT NOT NULL, report_id TEXT, case_id TEXT, reason TEXT NOT NULL, codes TEXT NOT NULL,
  faithful INTEGER NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL, published INTEGER NOT NULL DEFAULT 0,
  replayed_at INTEGER);
CREATE INDEX unpublished ON rejects(id) WHERE published=0;
CREATE INDEX by_age ON rejects(last_at);
"""
_KEEP = """
INSERT INTO rejects(digest, at, last_at, times, sender, report_id, case_id, reason, codes, faithful, headers, value)
VALUES(?1, ?2, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT(digest) DO UPDATE SET times=times+1, last_at=?2
"""
_SHOWN = "id, at, last_at, times, sender, report_id, case_id, reason, codes, faithful, replayed_at, headers, value"
_ROOM = 0.9  # of the limit that is left when the oldest have gone
_SOME = 50


class Reject(NamedTuple):
    """A refused report as it is put in."""

    digest: bytes
    at: int
    sender: str
    report_id: str | None
    case_id: str | None
    reason: str
    codes: str  # of the problems, with spaces between
    faithful: bool
    headers: bytes
    value: bytes


class Kept(NamedTuple):
    """A refused report as it is in the file."""

    id: int
    at: int
    last_at: int
    times: int
    sender: str
    report_id: str | None
    case_id: str | None
    reason: str
    codes: str
    faithful: bool
    replayed_at: int | None
    headers: bytes
    value: bytes


class Quarantine:
    """`limit` is in bytes of pages in use. Every method may raise `JournalError`."""

    def __init__(self, directory: Path, *, limit: int) -> None:
        self._store = Store(directory, "rejects", schema=_SCHEMA, version=1, flush=False)
        self._limit, self._directory = limit, directory
        with self._store.transaction() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES('id', ?)", (uuid.uuid4().hex,))
            [(found,)] = db.execute("SELECT value FROM meta WHERE key='id'").fetchall()
        self.id = str(found)

    def scarce(self) -> bool:
        """Whether the disk has better use for its room."""
        return shutil.disk_usage(self._directory).free < 2 * reserve(self._directory)

    def keep(self, rejects: Sequence[Reject]) -> int:
        """Put them in; how many older ones had to go for want of room."""
        with self._store.transaction() as db:
            db.executemany(_KEEP, rejects)
            return self._make_room(db)

    def forget(self, before: int) -> int:
        """Drop what was last refused before `before`; how many went."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM rejects WHERE last_at<?", (before,))
            return db.changes()

    def unpublished(self, limit: int) -> list[Kept]:
        """Some of what Kafka has not, oldest first."""
        sql = f"SELECT {_SHOWN} FROM rejects WHERE published=0 ORDER BY id LIMIT ?"
        return [Kept._make(row) for row in self._store.read(sql, (limit,))]

    def published(self, ids: Iterable[int]) -> None:
        """Kafka has these, or will never take them."""
        with self._store.transaction() as db:
            db.executemany("UPDATE rejects SET published=1 WHERE id=?", [(id_,) for id_ in ids])

    def all(self, *, sender: str | None = None, limit: int = -1) -> list[Kept]:
        """The last ones, oldest first."""
        sql = f"SELECT {_SHOWN} FROM rejects WHERE ?1 IS NULL OR sender=?1 ORDER BY id DESC LIMIT ?2"
        return [Kept._make(row) for row in reversed(self._store.read(sql, (sender, limit)))]

    def get(self, id_: int) -> Kept | None:
        """One of them."""
        rows = self._store.read(f"SELECT {_SHOWN} FROM rejects WHERE id=?", (id_,))
        return Kept._make(rows[0]) if rows else None

    def replayed(self, id_: int, at: int) -> None:
        """It was accepted after all."""
        with self._store.transaction() as db:
            db.execute("UPDATE rejects SET replayed_at=? WHERE id=?", (at, id_))

    def erase(self, what: str, *name: str) -> int:
        """Delete all of a `report` (of a sender, of an id) or a `case`; how many were published."""
        whose = {"case": "case_id=?", "report": "sender=? AND report_id=?"}[what]
        self._store.overwrite_freed()
        with self._store.transaction() as db:
            [(published,)] = db.execute(f"SELECT count(*) FROM rejects WHERE {whose} AND published=1", name).fetchall()
            db.execute(f"DELETE FROM rejects WHERE {whose}", name)
        self._store.scrub()
        return int(published)  # type: ignore[arg-type]  # a number

    def replaced(self) -> bool:
        """Whether another file stands in this one's place, or none."""
        return self._store.replaced()

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def _make_room(self, db: Db) -> int:
        gone = 0
        while sizes(db)[0] > self._limit * (_ROOM if gone else 1):
            db.execute("DELETE FROM rejects WHERE id IN (SELECT id FROM rejects ORDER BY id LIMIT ?)", (_SOME,))
            if not db.changes():
                break
            gone += db.changes()
        return gone


def exists(directory: Path) -> bool:
    """Whether anything was ever put in there."""
    return (directory / "rejects.sqlite3").exists()


def discard(directory: Path) -> None:
    """Delete a file that is damaged: it is nobody's promise, and what is in it is nowhere needed."""
    for name in ("rejects.sqlite3", "rejects.sqlite3-wal", "rejects.sqlite3-shm"):
        (directory / name).unlink(missing_ok=True)


def columns(kept: Kept) -> dict[str, Any]:
    """What is listed of one: nothing of what it says."""
    return {name: value for name, value in kept._asdict().items() if name not in ("headers", "value")}
