"""The journal: the durable store a report is in before it is answered. The only module that knows SQLite.

One file in WAL mode with `synchronous=FULL`, shared by the web process (appends) and the relay (everything
else). Reads never wait for writes. Writers take an `flock` before `BEGIN IMMEDIATE`: SQLite's own busy handler
sleeps and is unfair between processes. Invariants: a seq is never given twice; a row of `pending` leaves only by
`hand_over` (settled) or `park`; `accepted = settled + pending + parked` in every committed state.
"""

import fcntl
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import orjson

from service.ports import (
    Conflict,
    Delivery,
    Fill,
    JournalBroken,
    JournalError,
    JournalFull,
    JournalUnavailable,
    Message,
    Parked,
    ParkReason,
    Pending,
    Receipt,
    State,
    Totals,
)

SCHEMA_VERSION = 1
OLDEST_SAFE_SQLITE = (3, 51, 3)  # before it, the WAL-reset bug can lose committed rows when processes share a file
HARD_MARK, REOPEN_MARK = 0.90, 0.80  # of the limit: refuse new reports above, accept again below

_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs"}
_VOLATILE = {"tmpfs", "ramfs", "overlay"}

# `dedupe` is the receipt book: one row per (sender, report_id). `topics.handed` is the highest seq ever handed to a
# producer: what is pending at or below it may already be in Kafka, hence its next sending is another attempt.
_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE pending(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, case_id TEXT NOT NULL, headers BLOB NOT NULL,
  value BLOB NOT NULL, received_at INTEGER NOT NULL, attempt INTEGER NOT NULL, sender TEXT NOT NULL,
  report_id TEXT NOT NULL);
CREATE INDEX pending_by_topic ON pending(topic, seq);
CREATE TABLE dedupe(
  sender TEXT NOT NULL, report_id TEXT NOT NULL, fingerprint BLOB NOT NULL, case_id TEXT NOT NULL,
  topic TEXT NOT NULL, received_at INTEGER NOT NULL, state TEXT NOT NULL, partition INTEGER, offset INTEGER,
  settled_at INTEGER, reason TEXT, PRIMARY KEY(sender, report_id)) WITHOUT ROWID;
CREATE INDEX dedupe_by_age ON dedupe(received_at);
CREATE TABLE parked(
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, case_id TEXT NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL,
  received_at INTEGER NOT NULL, attempt INTEGER NOT NULL, sender TEXT NOT NULL, report_id TEXT NOT NULL,
  reason TEXT NOT NULL, detail TEXT NOT NULL, parked_at INTEGER NOT NULL);
CREATE TABLE topics(name TEXT PRIMARY KEY, handed INTEGER NOT NULL) WITHOUT ROWID;
"""
_PENDING = "seq, topic, case_id, headers, value, received_at, attempt, sender, report_id"
_RECEIPT = "report_id, case_id, topic, received_at, state, partition, offset, settled_at, reason"


def mapped(error: apsw.Error) -> JournalError:
    """Ours for SQLite's: what the caller may do about it.

    Full and busy pass by themselves. Everything else (I/O error, corrupt, not a database, read-only) means that the
    file cannot be trusted: SQLite carries on silently after a failed fsync, so this process must not.
    """
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, apsw.FullError):
        return JournalFull(text)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return JournalUnavailable(text)
    return JournalBroken(text)


class SqliteJournal:
    """The journal in `directory`, made there if it is missing (0700, files 0600).

    `limit` is the room in bytes for pages in use. `flush` is False only for the relay: what it writes (settlements)
    may be lost in a power loss at no harm, as the message is then published again under its old seq.
    Raises `JournalBroken` when the file cannot be used at all.
    """

    def __init__(self, directory: Path, *, limit: int, flush: bool = True) -> None:
        found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        if found < OLDEST_SAFE_SQLITE:
            raise JournalBroken(f"SQLite {apsw.sqlite_lib_version()} can lose committed rows; apsw >= 3.51.3 is needed")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.limit = limit
        self._lock_fd = os.open(directory / "journal.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._writing, self._reading = threading.Lock(), threading.Lock()
        path = directory / "journal.sqlite3"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            self._db = _connect(path, flush=flush)
            with self._transaction() as db:
                self.journal_id = _create(db)
            self._reader = _connect(path, flush=flush)
        except apsw.Error as error:
            raise mapped(error) from error
        self._closed_to_new = False

    # ---- the web process appends ----

    def append(self, submissions: Sequence[Sequence[Message]]) -> list[list[Receipt | Conflict] | JournalFull]:
        """See `ports.Journal.append`."""
        answers: list[list[Receipt | Conflict] | JournalFull] = []
        with self._transaction() as db:  # leaving it is the flush that a 202 stands for
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

    def receipt(self, sender: str, report_id: str) -> Receipt | None:
        """See `ports.Journal.receipt`."""
        rows = self._read(f"SELECT {_RECEIPT} FROM dedupe WHERE sender=? AND report_id=?", (sender, report_id))
        return _receipt(rows[0]) if rows else None

    # ---- the relay publishes ----

    def pending(self, topic: str, after: int, limit: int) -> list[Pending]:
        """See `ports.Journal.pending`."""
        sql = f"SELECT {_PENDING} FROM pending WHERE topic=? AND seq>? ORDER BY seq LIMIT ?"
        return [Pending(*row) for row in self._read(sql, (topic, after, limit))]

    def hand_over(self, upto: Mapping[str, int], settled: Iterable[Delivery] = ()) -> None:
        """See `ports.Journal.hand_over`."""
        with self._transaction() as db:
            done = sum(_settle(db, delivery) for delivery in settled)
            _count(db, settled=done)
            for topic, seq in upto.items():
                db.execute(
                    "INSERT INTO topics VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET handed=max(handed, ?2)",
                    (topic, seq),
                )

    def reattempt(self) -> None:
        """See `ports.Journal.reattempt`."""
        with self._transaction() as db:
            db.execute(
                "UPDATE pending SET attempt=attempt+1 FROM topics WHERE topics.name=pending.topic AND seq<=handed"
            )

    def park(self, seq: int, reason: ParkReason, detail: str, at: int) -> None:
        """See `ports.Journal.park`."""
        with self._transaction() as db:
            moved = db.execute(
                f"INSERT INTO parked SELECT {_PENDING}, ?, ?, ? FROM pending WHERE seq=? RETURNING sender, report_id",
                (reason.value, detail, at, seq),
            ).fetchall()
            db.execute("DELETE FROM pending WHERE seq=?", (seq,))
            db.executemany(
                "UPDATE dedupe SET state=?, reason=? WHERE sender=? AND report_id=?",
                [(State.PARKED.value, reason.value, *row) for row in moved],
            )
            _count(db, parked=len(moved))

    def forget(self, before: int, limit: int = 500) -> int:
        """Drop at most `limit` settled receipts older than `before`; how many went."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM dedupe WHERE (sender, report_id) IN (SELECT sender, report_id FROM dedupe"
                " WHERE received_at<? AND state=? LIMIT ?)",
                (before, State.SETTLED.value, limit),
            )
            return db.changes()

    def tidy(self) -> None:
        """Give free pages back to the disk and fold the WAL into the file; for an idle moment."""
        with self._transaction() as db:
            db.execute("PRAGMA incremental_vacuum(2000)").fetchall()
        with self._writing:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # ---- anybody asks ----

    def totals(self) -> Totals:
        """The ledger, counted row by row: O(pending + parked)."""
        [(meta, pending, parked)] = self._read(
            "SELECT (SELECT json_group_object(key, value) FROM meta WHERE key IN ('accepted', 'settled', 'parked')),"
            " (SELECT COUNT(*) FROM pending), (SELECT COUNT(*) FROM parked)"
        )
        kept: dict[str, int] = orjson.loads(meta)
        missing = kept["accepted"] - kept["settled"] - kept["parked"] - pending
        mismatch = abs(missing) + abs(kept["parked"] - parked)
        return Totals(kept["accepted"], kept["settled"], pending, parked, mismatch)

    def fill(self) -> Fill:
        """How full it is; cheap enough for every scrape (nothing is counted row by row)."""
        [(used, pending, parked, oldest)] = self._read(
            "SELECT (pages.page_count - free.freelist_count) * size.page_size,"
            " (SELECT SUM(CASE key WHEN 'accepted' THEN value ELSE -value END) FROM meta"
            "   WHERE key IN ('accepted', 'settled', 'parked')),"
            " (SELECT value FROM meta WHERE key='parked'),"
            " (SELECT received_at FROM pending ORDER BY seq LIMIT 1)"
            " FROM pragma_page_count pages, pragma_freelist_count free, pragma_page_size size"
        )
        return Fill(used, self.limit, pending, parked, oldest)

    def parked(self) -> list[Parked]:
        """All parked messages, oldest first."""
        sql = (
            "SELECT seq, topic, sender, report_id, case_id, length(value), reason, detail, parked_at"
            " FROM parked ORDER BY seq"
        )
        return [Parked(*row) for row in self._read(sql)]

    def requeue(self, seqs: Sequence[int]) -> dict[int, int]:
        """Give parked messages a new place at the end of the line; old seq → new seq of those that were parked.

        The new seq is what lets them pass the consumers' watermark.
        """
        moved: dict[int, Any] = {}
        with self._transaction() as db:
            for seq in seqs:
                fields = _PENDING.removeprefix("seq, ")
                rows = db.execute(
                    f"INSERT INTO pending({fields}) SELECT {fields.replace('attempt', 'attempt+1')} FROM parked"
                    " WHERE seq=? RETURNING seq, sender, report_id",
                    (seq,),
                ).fetchall()
                for new, *owner in rows:
                    moved[seq] = new
                    db.execute("DELETE FROM parked WHERE seq=?", (seq,))
                    db.execute(
                        "UPDATE dedupe SET state=?, reason=NULL WHERE sender=? AND report_id=?",
                        (State.PENDING.value, *owner),
                    )
            _count(db, parked=-len(moved))
        return moved

    def version(self) -> int:
        """A number that changes whenever anybody commits; costs microseconds."""
        [(version,)] = self._read("PRAGMA data_version")
        return int(version)

    def check(self) -> None:
        """Raise `JournalBroken` unless SQLite finds the file sound. O(size)."""
        problems = [row[0] for row in self._read("PRAGMA quick_check(5)")]
        if problems != ["ok"]:
            raise JournalBroken("; ".join(problems))

    def close(self) -> None:
        """Close the files; nothing is lost by not doing so."""
        with self._writing, self._reading:
            self._reader.close()
            self._db.close()
            os.close(self._lock_fd)

    # ---- inside ----

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        with self._writing:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")  # with FULL, returns after the WAL is flushed to the disk
                except BaseException:
                    _rollback(self._db)
                    raise
            except apsw.Error as error:
                raise mapped(error) from error
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _read(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        with self._reading:  # fetched whole, so that no read transaction stays open and holds the WAL back
            try:
                return self._reader.execute(sql, bindings).fetchall()
            except apsw.Error as error:
                raise mapped(error) from error

    def _is_full(self, db: apsw.Connection) -> bool:
        used = (db.pragma("page_count") - db.pragma("freelist_count")) * db.pragma("page_size")
        mark = REOPEN_MARK if self._closed_to_new else HARD_MARK
        self._closed_to_new = used >= self.limit * mark
        return self._closed_to_new


def unfit(directory: Path) -> str | None:
    """Why a journal must not live in `directory`, as far as its file system tells; None when it may."""
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    device = existing.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, system = line.partition(" - ")
        kind = system.split()[0]
        if mount.split()[2] != wanted:
            continue
        if kind in _REMOTE or kind.startswith("fuse"):
            return f"{kind}: SQLite's locks and flushes cannot be relied on there; use a local disk"
        if kind in _VOLATILE:
            return f"{kind} does not survive a restart; use a disk or volume, or GRIDGOV_ALLOW_VOLATILE=yes for a test"
    return None


def _connect(path: Path, *, flush: bool) -> apsw.Connection:
    db = apsw.Connection(str(path), statementcachesize=64)
    db.set_busy_timeout(5000)
    db.pragma("auto_vacuum", 2)  # incremental; must come before the first table
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "FULL" if flush else "NORMAL")
    db.pragma("mmap_size", 0)  # an I/O error through a mapping is a SIGBUS, not an error code
    db.pragma("temp_store", 2)
    return db


def _create(db: apsw.Connection) -> str:
    if db.pragma("user_version") == 0:
        db.execute(_SCHEMA)
        db.executemany(
            "INSERT INTO meta VALUES(?, ?)",
            [("journal_id", uuid.uuid4().hex), ("accepted", 0), ("settled", 0), ("parked", 0)],
        )
        db.pragma("user_version", SCHEMA_VERSION)
    if db.pragma("user_version") != SCHEMA_VERSION:
        raise JournalBroken(f"journal schema {db.pragma('user_version')}, this version knows {SCHEMA_VERSION}")
    [(journal_id,)] = db.execute("SELECT value FROM meta WHERE key='journal_id'").fetchall()
    return str(journal_id)


def _rollback(db: apsw.Connection) -> None:
    if db.in_transaction:  # SQLite has already rolled back after some errors
        db.execute("ROLLBACK")


def _count(db: apsw.Connection, **changes: int) -> None:
    for key, change in changes.items():
        if change:
            db.execute("UPDATE meta SET value=value+? WHERE key=?", (change, key))


def _known(db: apsw.Connection, message: Message) -> tuple[Any, ...] | None:
    sql = f"SELECT fingerprint, {_RECEIPT} FROM dedupe WHERE sender=? AND report_id=?"
    return db.execute(sql, (message.sender, message.report_id)).fetchone()


def _append(db: apsw.Connection, m: Message) -> Receipt | Conflict:
    known = _known(db, m)
    if known is not None:
        same = known[0] == m.fingerprint
        return _receipt(known[1:], duplicate=True) if same else Conflict(m.report_id)
    db.execute(
        "INSERT INTO pending(topic, case_id, headers, value, received_at, attempt, sender, report_id)"
        " VALUES(?, ?, ?, ?, ?, 1, ?, ?)",
        (m.topic, m.case_id, m.headers, m.value, m.received_at, m.sender, m.report_id),
    )
    db.execute(
        "INSERT INTO dedupe VALUES(?, ?, ?, ?, ?, ?, 'pending', NULL, NULL, NULL, NULL)",
        (m.sender, m.report_id, m.fingerprint, m.case_id, m.topic, m.received_at),
    )
    return Receipt(m.report_id, m.case_id, m.topic, m.received_at, State.PENDING)


def _settle(db: apsw.Connection, d: Delivery) -> int:
    owner = db.execute("DELETE FROM pending WHERE seq=? RETURNING sender, report_id", (d.seq,)).fetchone()
    if owner is None:  # gone behind our back: the ledger shows it, we do not hide it
        return 0
    db.execute(
        "UPDATE dedupe SET state='settled', partition=?, offset=?, settled_at=? WHERE sender=? AND report_id=?",
        (d.partition, d.offset, d.at, *owner),
    )
    return 1


def _receipt(row: Sequence[Any], *, duplicate: bool = False) -> Receipt:
    report_id, case_id, topic, received_at, state, partition, offset, settled_at, reason = row
    return Receipt(
        report_id, case_id, topic, received_at, State(state), duplicate, partition, offset, settled_at, reason
    )
