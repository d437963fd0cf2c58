"""The journal's one file, which each side of the journal sees its own way."""

import uuid
from pathlib import Path

from service.journal import tables
from service.journal.room import Marks
from service.journal.sqlite import Db, Store
from service.ports import JournalBroken

PAGE_BYTES, WAL_SHARE, MOST_WAL_PAGES = 4096, 16, (64, 16384)  # without a relay the WAL grows to a share of the limit
_ZEROES = [("accepted", 0), ("settled", 0), ("parked", 0), ("folded", 0)]


class JournalFile:
    """The file in `directory`, made there if it is missing (0700, files 0600).

    `limit` is the room in bytes for pages in use. `flush` is False only for the relay: what it writes (settled) may be
    lost in a power loss at no harm, as the message is then published again under its old seq.
    Raises `JournalBroken` when the file cannot be used at all.
    """

    def __init__(self, directory: Path, *, limit: int, flush: bool = True) -> None:
        wal_pages = max(MOST_WAL_PAGES[0], min(limit // WAL_SHARE // PAGE_BYTES, MOST_WAL_PAGES[1]))
        self._store = Store(
            directory,
            "journal",
            schema=tables.SCHEMA,
            version=tables.VERSION,
            upgrades=tables.UPGRADES,
            flush=flush,
            wal_pages=wal_pages,
        )
        with self._store.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO meta VALUES(?, ?)", [("journal_id", uuid.uuid4().hex), *_ZEROES])
            [row] = db.execute("SELECT value FROM meta WHERE key='journal_id'").fetchall()
            self.journal_id = str(row[0])
        self.directory = directory
        self.room = Marks(directory, limit)

    @property
    def store(self) -> Store:
        """The file itself."""
        return self._store

    @property
    def closed_to_new(self) -> bool:
        """Whether new reports are refused for want of room, as of the last write."""
        return self.room.closed

    def replaced(self) -> bool:
        """Whether another file stands in the journal's place: this one was set aside, or moved away."""
        return self._store.replaced()

    def still_here(self) -> None:
        """Raise `JournalBroken` when it was replaced: what is written now nobody will publish."""
        if self.replaced():
            raise JournalBroken("another file stands in the journal's place")

    def check(self) -> None:
        """Raise `JournalCorrupt` unless SQLite finds the file sound. O(size)."""
        self._store.check()

    def close(self) -> None:
        """Close the files; nothing is lost by not doing so."""
        self._store.close()


def count(db: Db, **changes: int) -> None:
    """Change the ledger's totals."""
    for key, change in changes.items():
        if change:
            db.execute("UPDATE meta SET value=value+? WHERE key=?", (change, key))
