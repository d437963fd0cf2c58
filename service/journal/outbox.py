"""The relay's side of the journal: what is pending, and what has become of it. The cases read along."""

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any, TypeVar

import orjson

from service.journal.file import JournalFile, count
from service.journal.sqlite import Db
from service.journal.tables import WAITING
from service.ports import EVERYTHING, Delivery, Entry, ParkReason, Pending

_PENDING = "seq, topic, case_id, headers, value, received_at, attempt, sender, report_id"
_OF_TOPIC = f"SELECT {_PENDING} FROM messages WHERE settled=0 AND topic=?3 AND seq>?1 ORDER BY seq LIMIT ?2"
_OF_ANY = f"SELECT {_PENDING} FROM messages WHERE +settled=0 AND seq>?1 AND ?3 IS NULL ORDER BY seq LIMIT ?2"
_ENTRY = "seq, case_id, received_at, sender, report_id, fact, CASE WHEN fact IS NULL THEN value END"
# One statement for all, not one for each: intake waits meanwhile, and Python's lock is not taken between two rows.
_SETTLE = """
INSERT OR IGNORE INTO settlements SELECT seq, one.value->>1, one.value->>2, one.value->>3
FROM jsonb_each(?) one CROSS JOIN messages ON seq=one.value->>0 AND settled=0
"""
_HANDED = """
INSERT INTO topics SELECT value->>0, value->>1 FROM json_each(?) WHERE true
ON CONFLICT(name) DO UPDATE SET handed=max(handed, excluded.handed)
"""
T = TypeVar("T", Pending, Entry)
_LEAVE = "WHERE settled=0 AND seq IN (SELECT value->>0 FROM jsonb_each(?))"


class Outbox(JournalFile):
    """Kept for `ports.Outbox` and `ports.Feed`."""

    def pending(self, topic: str | None, after: int, limit: int) -> list[Pending]:
        """See `ports.Outbox.pending`."""
        return _each(Pending, self._store.read(_OF_ANY if topic is None else _OF_TOPIC, (after, limit, topic)))

    def last(self) -> int:
        """See `ports.Outbox.last`."""
        [(last,)] = self._store.read("SELECT coalesce(max(seq), 0) FROM messages")
        return int(last)

    def topics(self) -> list[str]:
        """See `ports.Outbox.topics`."""
        return [topic for (topic,) in self._store.read(f"SELECT topic FROM {WAITING}")]

    def hand_over(self, upto: Mapping[str, int], settled: Iterable[Delivery] = (), folded: int = EVERYTHING) -> None:
        """See `ports.Outbox.hand_over`."""
        with self._store.transaction() as db:
            count(db, settled=_settle(db, settled, folded))
            db.execute("DELETE FROM messages WHERE settled=1 AND seq<=?", (folded,))
            db.execute("UPDATE meta SET value=max(value, ?) WHERE key='folded'", (folded,))
            db.execute(_HANDED, (orjson.dumps(list(upto.items())).decode(),))

    def reattempt(self) -> None:
        """See `ports.Outbox.reattempt`."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE messages SET attempt=attempt+1 FROM topics WHERE settled=0 AND name=topic AND seq<=handed"
            )

    def park(self, seq: int, reason: ParkReason, detail: str, at: int) -> None:
        """See `ports.Outbox.park`."""
        with self._store.transaction() as db:
            db.execute(
                f"INSERT INTO parked SELECT {_PENDING}, fact, ?, ?, ? FROM messages WHERE settled=0 AND seq=?",
                (reason.value, detail, at, seq),
            )
            count(db, parked=db.changes())
            db.execute("DELETE FROM messages WHERE settled=0 AND seq=?", (seq,))

    def version(self) -> int:
        """See `ports.Outbox.version`."""
        [(version,)] = self._store.read("PRAGMA data_version")
        return int(version)

    # ---- the cases follow ----

    def after(self, seq: int, limit: int) -> list[Entry]:
        """See `ports.Feed.after`."""
        sql = (
            f"SELECT {_ENTRY} FROM messages WHERE seq>?1 UNION ALL SELECT {_ENTRY} FROM parked WHERE seq>?1"
            " ORDER BY seq LIMIT ?2"
        )
        return _each(Entry, self._store.read(sql, (seq, limit)))

    def marks(self) -> tuple[int, int]:
        """See `ports.Feed.marks`."""
        [(last, folded)] = self._store.read(
            "SELECT (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name='messages'),"
            " (SELECT value FROM meta WHERE key='folded')"
        )
        return last, folded


def _each(kind: type[T], rows: Iterable[tuple[Any, ...]]) -> list[T]:
    """`kind._make` of each row; that is Python's, and costs four times as much."""
    return list(map(tuple.__new__, repeat(kind), rows))


def _settle(db: Db, deliveries: Iterable[Delivery], folded: int) -> int:
    """How many were there: what is gone behind our back is not counted, so that the ledger shows it."""
    rows = [tuple(one) for one in deliveries]
    done = orjson.dumps(rows).decode()
    db.execute(_SETTLE, (done,))
    db.execute(f"DELETE FROM messages {_LEAVE} AND seq<=?", (done, folded))
    if (gone := db.changes()) == len(rows):
        return gone
    db.execute(f"UPDATE messages SET settled=1 {_LEAVE}", (done,))
    return gone + db.changes()
