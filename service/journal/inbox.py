"""The web process's side of the journal: what is accepted is appended here, and only then answered."""

from collections.abc import Sequence
from typing import Any

import orjson

from service.journal.file import JournalFile, count
from service.journal.receipts import Answers, accepted, receipt_of, repeat
from service.journal.sqlite import Db
from service.ports import Conflict, JournalFull, Message, Receipt

# A whole group in two statements. SQLite is entered once for each, not once for each row: at every return Python's lock
# would go to one of the many threads that wait for it, and be long in coming back. The texts come as one JSON array,
# the blobs one behind the other (`_packed`); ?1 is the array, ?2 the blobs.
_NEXT = "(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name='messages') + 1 + key"
_RECEIVE = f"""
INSERT OR IGNORE INTO receipts SELECT {_NEXT}, value->>0, value->>1, substr(?2, value->>5, 16), value->>2, value->>3,
  value->>4 FROM jsonb_each(?1)
"""
_KEEP = f"""
INSERT INTO messages(seq, topic, case_id, headers, value, received_at, attempt, sender, report_id, fact)
SELECT {_NEXT}, value->>3, value->>2, substr(?2, (value->>5) + 16, value->>6),
  substr(?2, (value->>5) + 16 + (value->>6), value->>7), value->>4, 1, value->>0, value->>1,
  CASE WHEN value->>8 THEN substr(?2, (value->>5) + 16 + (value->>6) + (value->>7), value->>8) END FROM jsonb_each(?1)
"""
_RECEIPT = """
SELECT r.fingerprint, r.report_id, r.case_id, r.topic, r.received_at, s.partition, s.offset, s.settled_at, p.reason
FROM receipts r LEFT JOIN settlements s USING(seq) LEFT JOIN parked p USING(seq) WHERE r.sender=? AND r.report_id=?
"""


class _Repeats(Exception):
    """Something of the group was accepted before: it must be looked at one by one."""


class Inbox(JournalFile):
    """Kept for `ports.Inbox`."""

    def append(self, submissions: Sequence[Sequence[Message]]) -> list[Answers | JournalFull]:
        """See `ports.Inbox.append`."""
        try:
            try:
                return self._append_new(submissions)
            except _Repeats:
                return self._append_one_by_one(submissions)
        except JournalFull as full:  # the disk itself: whoever repeats is answered all the same
            return [self._repeated(submission) or full for submission in submissions]

    def probe(self) -> None:
        """Write a page and flush it, changing nothing: raises what an append would raise."""
        with self._store.transaction() as db:
            db.execute("UPDATE meta SET value=value+0 WHERE key='accepted'")
            full = self.room.look(db)
            self.still_here()
        if full:
            raise self.room.full

    def receipt(self, sender: str, report_id: str) -> Receipt | None:
        """See `ports.Inbox.receipt`."""
        rows = self._store.read(_RECEIPT, (sender, report_id))
        return receipt_of(rows[0]) if rows else None

    def _append_new(self, submissions: Sequence[Sequence[Message]]) -> list[Answers | JournalFull]:
        """The ordinary case, all of it new, in a handful of statements. Raises `_Repeats` when it is not so."""
        messages = [message for submission in submissions for message in submission]
        packed = _packed(messages)
        with self._store.transaction() as db:  # leaving it is the flush that a 202 stands for
            if self.room.look(db):
                raise _Repeats
            before = db.total_changes()
            db.execute(_RECEIVE, packed)
            if db.total_changes() - before != len(messages):
                raise _Repeats
            db.execute(_KEEP, packed)
            count(db, accepted=len(messages))
            self.still_here()
        return [[accepted(message) for message in submission] for submission in submissions]

    def _append_one_by_one(self, submissions: Sequence[Sequence[Message]]) -> list[Answers | JournalFull]:
        answers: list[Answers | JournalFull] = []
        with self._store.transaction() as db:  # leaving it is the flush that a 202 stands for
            full = self.room.look(db)
            new = 0
            for submission in submissions:
                if full and any(known(db, message) is None for message in submission):
                    answers.append(self.room.full)
                    continue
                rows = [append(db, message) for message in submission]
                new += sum(isinstance(row, Receipt) and not row.duplicate for row in rows)
                answers.append(rows)
            count(db, accepted=new)
            self.still_here()
        return answers

    def _repeated(self, submission: Sequence[Message]) -> Answers | None:
        """The answers to a submission that holds nothing new; None when it does."""
        found = [(m, self._store.read(_RECEIPT, (m.sender, m.report_id))) for m in submission]
        return [repeat(m, rows[0]) for m, rows in found] if all(rows for _, rows in found) else None


def _packed(messages: Sequence[Message]) -> tuple[str, bytes]:
    """What `_RECEIVE` and `_KEEP` take: texts and numbers, and where in the blobs each of theirs begins, from 1."""
    rows: list[tuple[object, ...]] = []
    blobs: list[bytes] = []
    at = 1
    for one in messages:
        headers, value, fact = one.headers, one.value, one.fact or b""
        blobs += (one.fingerprint, headers, value, fact)
        sizes = (len(headers), len(value), len(fact))
        rows.append((one.sender, one.report_id, one.case_id, one.topic, one.received_at, at, *sizes))
        at += 16 + sum(sizes)
    return orjson.dumps(rows).decode(), b"".join(blobs)


def known(db: Db, message: Message) -> tuple[Any, ...] | None:
    """What the receipt book has under a message's id."""
    return db.execute(_RECEIPT, (message.sender, message.report_id)).fetchone()


def append(db: Db, m: Message) -> Receipt | Conflict:
    """Append one message, unless its id is known."""
    row = known(db, m)
    if row is not None:
        return repeat(m, row)
    db.execute(
        "INSERT INTO messages(topic, case_id, headers, value, received_at, attempt, sender, report_id, fact)"
        " VALUES(?, ?, ?, ?, ?, 1, ?, ?, ?)",
        (m.topic, m.case_id, m.headers, m.value, m.received_at, m.sender, m.report_id, m.fact),
    )
    seq = db.last_insert_rowid()
    db.execute(
        "INSERT INTO receipts VALUES(?, ?, ?, ?, ?, ?, ?)",
        (seq, m.sender, m.report_id, m.fingerprint, m.case_id, m.topic, m.received_at),
    )
    return accepted(m)
