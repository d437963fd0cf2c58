"""The journal: the durable store a report is in before it is answered; a log with two readers.

The web process appends; the relay publishes, and folds reports into cases, each at its own pace: a row goes when both
have passed it. Invariants: a seq is never given twice; a row of `messages` leaves the pending state only by `hand_over`
(settled) or `park`; `accepted = settled + pending + parked` in every committed state.
"""

import shutil
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from service.journal.ballast import reserve
from service.journal.sqlite import Db, Store, free_bytes, used_bytes
from service.ports import (
    EVERYTHING,
    Conflict,
    Delivery,
    Fill,
    JournalFull,
    Message,
    Parked,
    ParkReason,
    Pending,
    Receipt,
    State,
    Totals,
)

SCHEMA_VERSION = 1
HARD_MARK, REOPEN_MARK = 0.90, 0.80  # of the limit: refuse new reports above, accept again below
PAGE_BYTES, WAL_SHARE, MOST_WAL_PAGES = 4096, 16, (64, 16384)  # without a relay the WAL grows to a share of the limit
SETTLED_AT_ONCE, GIVE_WAY_SECONDS = 64, 0.001  # rows of one transaction of the relay, and the pause between two
REOPEN_RESERVE = 1.25  # of the reserve: accept again when so much of the disk is free

# `messages`: pending while `settled` is 0; a settled one stays only until the cases have it too (`meta.folded`).
# `dedupe` is the receipt book: one row per (sender, report_id), written once: its keys are random, each a page.
# Where Kafka has a message stands in `settlements` by seq, so settling a thousand writes a few pages, not a thousand.
# `topics.handed` is the highest seq ever handed to a producer: what is pending at or below it may already be in Kafka,
# hence its next sending is another attempt.
_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE messages(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, settled INTEGER NOT NULL DEFAULT 0, topic TEXT NOT NULL,
  case_id TEXT NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL, received_at INTEGER NOT NULL,
  attempt INTEGER NOT NULL, sender TEXT NOT NULL, report_id TEXT NOT NULL);
CREATE INDEX pending ON messages(topic, seq) WHERE settled=0;
CREATE INDEX unfolded ON messages(seq) WHERE settled=1;
CREATE TABLE dedupe(
  sender TEXT NOT NULL, report_id TEXT NOT NULL, fingerprint BLOB NOT NULL, case_id TEXT NOT NULL,
  topic TEXT NOT NULL, received_at INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY(sender, report_id)) WITHOUT ROWID;
CREATE TABLE settlements(
  seq INTEGER PRIMARY KEY, sender TEXT NOT NULL, report_id TEXT NOT NULL,
  partition INTEGER NOT NULL, offset INTEGER NOT NULL, settled_at INTEGER NOT NULL);
CREATE TABLE parked(
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, case_id TEXT NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL,
  received_at INTEGER NOT NULL, attempt INTEGER NOT NULL, sender TEXT NOT NULL, report_id TEXT NOT NULL,
  reason TEXT NOT NULL, detail TEXT NOT NULL, parked_at INTEGER NOT NULL);
CREATE INDEX settlements_by_age ON settlements(settled_at);
CREATE TABLE topics(name TEXT PRIMARY KEY, handed INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIEW receipts AS SELECT
  dedupe.sender, dedupe.report_id, fingerprint, dedupe.case_id, dedupe.topic, dedupe.received_at,
  CASE WHEN settled_at IS NOT NULL THEN 'settled' WHEN reason IS NOT NULL THEN 'parked' ELSE 'pending' END AS state,
  partition, offset, settled_at, reason
  FROM dedupe LEFT JOIN settlements USING(seq) LEFT JOIN parked USING(seq);
"""
_PENDING = "seq, topic, case_id, headers, value, received_at, attempt, sender, report_id"
_ZEROES = [("accepted", 0), ("settled", 0), ("parked", 0), ("folded", 0)]
_RECEIPT = "report_id, case_id, topic, received_at, state, partition, offset, settled_at, reason"


class SqliteJournal:
    """The journal in `directory`, made there if it is missing (0700, files 0600).

    `limit` is the room in bytes for pages in use; on a disk that others have filled it is less: the last of it is for
    the relay, which can free the rest only by writing. `flush` is False only for the relay: what it writes (settled)
    may be lost in a power loss at no harm, as the message is then published again under its old seq.
    Raises `JournalBroken` when the file cannot be used at all.
    """

    def __init__(self, directory: Path, *, limit: int, flush: bool = True) -> None:
        self.limit = limit
        wal_pages = max(MOST_WAL_PAGES[0], min(limit // WAL_SHARE // PAGE_BYTES, MOST_WAL_PAGES[1]))
        self._store = Store(
            directory, "journal", schema=_SCHEMA, version=SCHEMA_VERSION, flush=flush, wal_pages=wal_pages
        )
        self.check, self.close = self._store.check, self._store.close
        self.tidy, self.checkpoint = self._store.tidy, self._store.checkpoint
        with self._store.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO meta VALUES(?, ?)", [("journal_id", uuid.uuid4().hex), *_ZEROES])
            [row] = db.execute("SELECT value FROM meta WHERE key='journal_id'").fetchall()
            self.journal_id = str(row[0])
        self.closed_to_new = False  # past the hard mark, and not yet below the one to reopen at
        self._file = directory / "journal.sqlite3"
        self._reserve = reserve(directory)
        self._inode = self._file.stat().st_ino

    # ---- the web process appends ----

    def append(self, submissions: Sequence[Sequence[Message]]) -> list[list[Receipt | Conflict] | JournalFull]:
        """See `ports.Journal.append`."""
        try:
            return self._append(submissions)
        except JournalFull as full:  # the disk itself: whoever repeats is answered all the same
            return [self._repeated(submission) or full for submission in submissions]

    def probe(self) -> None:
        """Write a page and flush it, changing nothing: raises what an append would raise."""
        with self._store.transaction() as db:
            db.execute("UPDATE meta SET value=value+0 WHERE key='accepted'")
            full = self._is_full(db)
        if full:
            raise JournalFull(f"past {HARD_MARK:.0%} of {self.limit} bytes")

    def _append(self, submissions: Sequence[Sequence[Message]]) -> list[list[Receipt | Conflict] | JournalFull]:
        answers: list[list[Receipt | Conflict] | JournalFull] = []
        with self._store.transaction() as db:  # leaving it is the flush that a 202 stands for
            full = self._is_full(db)
            accepted = 0
            for submission in submissions:
                if full and any(_known(db, message) is None for message in submission):
                    answers.append(JournalFull(f"past {HARD_MARK:.0%} of {self.limit} bytes"))
                    continue
                rows = [_append(db, message) for message in submission]
                accepted += sum(isinstance(row, Receipt) and not row.duplicate for row in rows)
                answers.append(rows)
            _count(db, accepted=accepted)
        return answers

    def _repeated(self, submission: Sequence[Message]) -> list[Receipt | Conflict] | None:
        """The answers to a submission that holds nothing new; None when it does."""
        sql = f"SELECT fingerprint, {_RECEIPT} FROM receipts WHERE sender=? AND report_id=?"
        known = [(m, self._store.read(sql, (m.sender, m.report_id))) for m in submission]
        return [_repeat(m, rows[0]) for m, rows in known] if all(rows for _, rows in known) else None

    def receipt(self, sender: str, report_id: str) -> Receipt | None:
        """See `ports.Journal.receipt`."""
        rows = self._store.read(f"SELECT {_RECEIPT} FROM receipts WHERE sender=? AND report_id=?", (sender, report_id))
        return _receipt(rows[0]) if rows else None

    # ---- the relay publishes ----

    def pending(self, topic: str, after: int, limit: int) -> list[Pending]:
        """See `ports.Journal.pending`."""
        sql = f"SELECT {_PENDING} FROM messages WHERE settled=0 AND topic=? AND seq>? ORDER BY seq LIMIT ?"
        return [Pending(*row) for row in self._store.read(sql, (topic, after, limit))]

    def hand_over(self, upto: Mapping[str, int], settled: Iterable[Delivery] = (), folded: int = EVERYTHING) -> None:
        """See `ports.Journal.hand_over`. What was settled goes bit by bit: intake waits while the journal is held."""
        left = list(settled)
        while len(left) > SETTLED_AT_ONCE:
            with self._store.transaction() as db:
                _count(db, settled=_settle(db, left[:SETTLED_AT_ONCE], folded))
            del left[:SETTLED_AT_ONCE]
            time.sleep(GIVE_WAY_SECONDS)  # or who waits wakes to find it held again
        with self._store.transaction() as db:
            _count(db, settled=_settle(db, left, folded))
            db.execute("DELETE FROM messages WHERE settled=1 AND seq<=?", (folded,))
            db.execute("UPDATE meta SET value=max(value, ?) WHERE key='folded'", (folded,))
            db.execute(_HANDED, (orjson.dumps(list(upto.items())).decode(),))

    def reattempt(self) -> None:
        """See `ports.Journal.reattempt`."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE messages SET attempt=attempt+1 FROM topics WHERE settled=0 AND name=topic AND seq<=handed"
            )

    def park(self, seq: int, reason: ParkReason, detail: str, at: int) -> None:
        """See `ports.Journal.park`."""
        with self._store.transaction() as db:
            db.execute(
                f"INSERT INTO parked SELECT {_PENDING}, ?, ?, ? FROM messages WHERE settled=0 AND seq=?",
                (reason.value, detail, at, seq),
            )
            _count(db, parked=db.changes())
            db.execute("DELETE FROM messages WHERE settled=0 AND seq=?", (seq,))

    def forget(self, before: int, limit: int = 500) -> int:
        """Drop at most `limit` of the receipts settled before `before`; how many went."""
        oldest = "SELECT seq FROM settlements WHERE settled_at<? ORDER BY settled_at LIMIT ?"
        old = f"FROM settlements WHERE seq IN ({oldest})"
        theirs = f"(sender, report_id) IN (SELECT sender, report_id {old})"
        with self._store.transaction() as db:
            db.execute(f"DELETE FROM dedupe WHERE {theirs}", (before, limit))
            db.execute(f"DELETE {old}", (before, limit))
            return db.changes()

    # ---- the cases follow ----

    def topics(self) -> list[str]:
        """The topics that anything pending is for."""
        return [topic for (topic,) in self._store.read("SELECT DISTINCT topic FROM messages WHERE settled=0")]

    def after(self, seq: int, limit: int) -> list[Pending]:
        """At most `limit` messages beyond `seq` that the cases may not have yet, pending, settled or parked, by seq."""
        sql = (
            f"SELECT {_PENDING} FROM messages WHERE seq>?1 UNION ALL SELECT {_PENDING} FROM parked WHERE seq>?1"
            " ORDER BY seq LIMIT ?2"
        )
        return [Pending(*row) for row in self._store.read(sql, (seq, limit))]

    def marks(self) -> tuple[int, int]:
        """The highest seq ever given, and the highest whose row may be gone because the cases had it."""
        [(last, folded)] = self._store.read(
            "SELECT (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name='messages'),"
            " (SELECT value FROM meta WHERE key='folded')"
        )
        return last, folded

    # ---- anybody asks ----

    def totals(self) -> Totals:
        """The ledger, counted row by row: O(pending + parked)."""
        [(meta, pending, parked)] = self._store.read(
            "SELECT (SELECT json_group_object(key, value) FROM meta WHERE key!='journal_id'),"
            " (SELECT COUNT(*) FROM messages WHERE settled=0), (SELECT COUNT(*) FROM parked)"
        )
        kept: dict[str, int] = orjson.loads(meta)
        missing = kept["accepted"] - kept["settled"] - kept["parked"] - pending
        mismatch = abs(missing) + abs(kept["parked"] - parked)
        return Totals(kept["accepted"], kept["settled"], pending, parked, mismatch)

    def fill(self) -> Fill:
        """How full it is; cheap enough for every scrape (nothing is counted row by row)."""
        [(used, unused, pending, parked, oldest)] = self._store.read(
            "SELECT (pages.page_count - free.freelist_count) * size.page_size, free.freelist_count * size.page_size,"
            " (SELECT SUM(CASE key WHEN 'accepted' THEN value ELSE -value END) FROM meta"
            "   WHERE key IN ('accepted', 'settled', 'parked')),"
            " (SELECT value FROM meta WHERE key='parked'),"
            " (SELECT received_at FROM messages WHERE settled=0 ORDER BY seq LIMIT 1)"
            " FROM pragma_page_count pages, pragma_freelist_count free, pragma_page_size size"
        )
        disk_free = shutil.disk_usage(self._file.parent).free
        scarce = self._is_scarce(disk_free + unused)
        return Fill(used, self.limit, pending, parked, oldest, disk_free, scarce, len(set_aside(self._file.parent)))

    def parked(self) -> list[Parked]:
        """All parked messages, oldest first."""
        sql = (
            "SELECT seq, topic, sender, report_id, case_id, length(value), reason, detail, parked_at"
            " FROM parked ORDER BY seq"
        )
        return [Parked(*row) for row in self._store.read(sql)]

    def requeue(self, seqs: Sequence[int]) -> dict[int, int]:
        """Give parked messages a new place at the end of the line; old seq → new seq of those that were parked.

        The new seq is what lets them pass the consumers' watermark.
        """
        moved: dict[int, Any] = {}
        with self._store.transaction() as db:
            for seq in seqs:
                fields = _PENDING.removeprefix("seq, ")
                rows = db.execute(
                    f"INSERT INTO messages({fields}) SELECT {fields.replace('attempt', 'attempt+1')} FROM parked"
                    " WHERE seq=? RETURNING seq, sender, report_id",
                    (seq,),
                ).fetchall()
                for new, *owner in rows:
                    moved[seq] = new
                    db.execute("DELETE FROM parked WHERE seq=?", (seq,))
                    db.execute("UPDATE dedupe SET seq=? WHERE sender=? AND report_id=?", (new, *owner))
            _count(db, parked=-len(moved))
        return moved

    def replaced(self) -> bool:
        """Whether another file stands in the journal's place: this one was set aside, or moved away."""
        try:
            return self._file.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def version(self) -> int:
        """A number that changes whenever anybody commits; costs microseconds."""
        [(version,)] = self._store.read("PRAGMA data_version")
        return int(version)

    # ---- inside ----

    def _is_full(self, db: Db) -> bool:
        mark = REOPEN_MARK if self.closed_to_new else HARD_MARK
        room = shutil.disk_usage(self._file.parent).free + free_bytes(db)
        self.closed_to_new = used_bytes(db) >= self.limit * mark or self._is_scarce(room)
        return self.closed_to_new

    def _is_scarce(self, room: int) -> bool:
        return room < self._reserve * (REOPEN_RESERVE if self.closed_to_new else 1)


def set_aside(directory: Path) -> list[Path]:
    """The corrupt journals that were set aside in `directory`, oldest first, but for those already salvaged."""
    return [path for path in sorted(directory.glob("corrupt-*")) if not (path / "salvaged").exists()]


def _count(db: Db, **changes: int) -> None:
    for key, change in changes.items():
        if change:
            db.execute("UPDATE meta SET value=value+? WHERE key=?", (change, key))


def _known(db: Db, message: Message) -> tuple[Any, ...] | None:
    owner = (message.sender, message.report_id)
    if db.execute("SELECT 1 FROM dedupe WHERE sender=? AND report_id=?", owner).fetchone() is None:
        return None  # nearly always; the view's joins would cost four times as much
    return db.execute(f"SELECT fingerprint, {_RECEIPT} FROM receipts WHERE sender=? AND report_id=?", owner).fetchone()


def _append(db: Db, m: Message) -> Receipt | Conflict:
    known = _known(db, m)
    if known is not None:
        return _repeat(m, known)
    db.execute(
        "INSERT INTO messages(topic, case_id, headers, value, received_at, attempt, sender, report_id)"
        " VALUES(?, ?, ?, ?, ?, 1, ?, ?)",
        (m.topic, m.case_id, m.headers, m.value, m.received_at, m.sender, m.report_id),
    )
    db.execute(
        "INSERT INTO dedupe VALUES(?, ?, ?, ?, ?, ?, ?)",
        (m.sender, m.report_id, m.fingerprint, m.case_id, m.topic, m.received_at, db.last_insert_rowid()),
    )
    return Receipt(m.report_id, m.case_id, m.topic, m.received_at, State.PENDING)


def _repeat(m: Message, known: Sequence[Any]) -> Receipt | Conflict:
    fingerprint, *receipt = known
    return _receipt(receipt, duplicate=True) if fingerprint == m.fingerprint else Conflict(m.report_id)


# One statement for all, not one for each: intake waits meanwhile, and Python's lock is not taken between two rows.
_SETTLE = """
INSERT OR IGNORE INTO settlements SELECT seq, sender, report_id, one.value->>1, one.value->>2, one.value->>3
FROM json_each(?) one CROSS JOIN messages ON seq=one.value->>0 AND settled=0
"""
_HANDED = """
INSERT INTO topics SELECT value->>0, value->>1 FROM json_each(?) WHERE true
ON CONFLICT(name) DO UPDATE SET handed=max(handed, excluded.handed)
"""
_LEAVE = "WHERE settled=0 AND seq IN (SELECT value->>0 FROM json_each(?))"


def _settle(db: Db, deliveries: Iterable[Delivery], folded: int) -> int:
    """How many were there: what is gone behind our back is not counted, so that the ledger shows it."""
    done = orjson.dumps([(d.seq, d.partition, d.offset, d.at) for d in deliveries]).decode()
    db.execute(_SETTLE, (done,))
    db.execute(f"DELETE FROM messages {_LEAVE} AND seq<=?", (done, folded))
    gone = db.changes()
    db.execute(f"UPDATE messages SET settled=1 {_LEAVE}", (done,))
    return gone + db.changes()


def _receipt(row: Sequence[Any], *, duplicate: bool = False) -> Receipt:
    report_id, case_id, topic, received_at, state, partition, offset, settled_at, reason = row
    return Receipt(
        report_id, case_id, topic, received_at, State(state), duplicate, partition, offset, settled_at, reason
    )
