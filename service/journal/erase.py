"""Taking out of the journal what a report says beside its ids, kind, stage and times, wherever it stands.

The message stays and is published, and the case with it: what was promised and counted holds, only nothing in it is
about a person any more. The receipt stays as it is, so that a repeat of the same report does not bring its text back.
"""

from typing import Any, NamedTuple

from schemas import event
from service.journal.file import JournalFile
from service.journal.store import Db, Store
from service.ports import State

_FOUND = """
SELECT r.seq, r.sender, r.report_id, r.case_id, r.topic, s.partition, s."offset", s.settled_at, r.seq<=t.handed,
  EXISTS (SELECT 1 FROM parked p WHERE p.seq=r.seq)
FROM receipts r LEFT JOIN settlements s USING(seq) LEFT JOIN topics t ON t.name=r.topic
"""
_WHOSE = {"case": "WHERE case_id=?", "report": "WHERE sender=? AND report_id=?"}


class Erased(NamedTuple):
    """A report of which nothing but the fact is left here, and where else it is."""

    seq: int
    sender: str
    report_id: str
    case_id: str
    topic: str
    partition: int | None  # where Kafka has it
    offset: int | None
    settled_at: int | None
    handed: bool | None  # whether it was handed to Kafka, which may have it unacknowledged
    parked: bool

    @property
    def state(self) -> State:
        """Where it is."""
        kept = State.PARKED if self.parked else State.PENDING
        return kept if self.settled_at is None else State.SETTLED


class Eraser(JournalFile):
    """Kept for the operators."""

    def erase(self, what: str, *name: str) -> list[Erased]:
        """Erase a `report` (of a sender, of an id) or all of a `case`; what is known of each. Safe to repeat.

        Nothing of the text is in the file afterwards: what was freed is overwritten or given back to the disk.
        """
        self._store.overwrite_freed()
        return erase(self._store, what, name)


def erase(store: Store, what: str, name: tuple[str, ...]) -> list[Erased]:
    """Take the text out of these messages, wherever the journal is; what is known of each."""
    with store.transaction() as db:
        found = [Erased._make(row) for row in db.execute(f"{_FOUND} {_WHOSE[what]}", name).fetchall()]
        for table in ("messages", "parked"):
            _rewrite(db, table, what, name)
    store.scrub()
    return found


def _rewrite(db: Db, table: str, what: str, name: tuple[str, ...]) -> None:
    rows: list[tuple[Any, ...]] = db.execute(f"SELECT seq, value FROM {table} {_WHOSE[what]}", name).fetchall()
    for seq, value in rows:
        db.execute(f"UPDATE {table} SET value=? WHERE seq=?", (event.erased(value), seq))
