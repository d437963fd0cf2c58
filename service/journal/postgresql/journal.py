"""The journal on PostgreSQL: the same promises as `service.journal.journal`, kept by a server that replicas share."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from service.journal.erase import Erased, erase
from service.journal.postgresql.arrays import blobs, numbers, texts
from service.journal.postgresql.server import Server
from service.journal.postgresql.tables import WAITING
from service.journal.receipts import Answers, accepted, receipt_of, repeat
from service.journal.room import HARD_MARK, REOPEN_MARK
from service.ports import (
    EVERYTHING,
    Delivery,
    Entry,
    Fill,
    JournalFull,
    JournalUnavailable,
    Message,
    Parked,
    ParkReason,
    Pending,
    Receipt,
    Totals,
)

_PENDING = "seq, topic, case_id, headers, value, received_at, attempt, sender, report_id"
_ENTRY = "seq, case_id, received_at, sender, report_id, fact, CASE WHEN fact IS NULL THEN value END"
_RECEIPT = """
SELECT r.fingerprint, r.report_id, r.case_id, r.topic, r.received_at, s.partition, s."offset", s.settled_at, p.reason,
  r.sender, r.seq
FROM receipts r LEFT JOIN settlements s USING(seq) LEFT JOIN parked p USING(seq)
"""
_ACCEPT = "SELECT * FROM accept($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_AS_SAFE = "SELECT pg_logical_emit_message(true, 'gridgov', '')"  # a commit: what was read before is where that is
_ONE = f"{_RECEIPT} WHERE r.sender=$1 AND r.report_id=$2"
_THESE = f"""{_RECEIPT} JOIN unnest($1::TEXT[], $2::TEXT[]) w(sender, report_id)
ON r.sender=w.sender AND r.report_id=w.report_id"""
_FILL = """
SELECT came-gone, accepted-settled-parked, parked,
  (SELECT received_at FROM messages WHERE NOT settled ORDER BY seq LIMIT 1) FROM head, tail
"""
_TOTALS = """
SELECT accepted, settled, parked, (SELECT count(*) FROM messages WHERE NOT settled), (SELECT count(*) FROM parked)
FROM head, tail
"""
_FORGET = """
WITH old AS (SELECT seq FROM settlements ORDER BY seq LIMIT $2),
gone AS (DELETE FROM settlements s USING old WHERE s.seq=old.seq AND s.settled_at<$1 RETURNING s.seq),
receipts_gone AS (DELETE FROM receipts r USING gone WHERE r.seq=gone.seq)
SELECT count(*) FROM gone
"""

STANDBY_SECONDS = 3.0  # that a leader waits for synchronous standbys; then it beats, for no other would fare better
ROOM_SECONDS = 1.0  # from one look whether a full disk has room again to the next

Key = tuple[str, str]


class PostgresqlJournal:
    """All sides of the journal at `server`; `limit` is in bytes of messages. `holder` is the leader it writes as."""

    def __init__(self, server: Server, *, limit: int, holder: str | None = None) -> None:
        self._server, self._limit, self._holder = server, limit, holder
        self._past_mark = False
        self._full_disk: JournalFull | None = None  # what the server said of it, until it has room again
        self._look_at = 0.0

    @cached_property
    def journal_id(self) -> str:
        """See `ports.Feed.journal_id`."""
        [(journal_id,)] = self._server.read("SELECT journal_id FROM head")
        return str(journal_id)

    def close(self) -> None:
        """Let the connections go."""
        self._server.close()

    # ---- accepting ----

    @property
    def closed_to_new(self) -> bool:
        """See `ports.Inbox.closed_to_new`."""
        return self._past_mark or self._full_disk is not None

    def append(self, submissions: Sequence[Sequence[Message]]) -> list[Answers | JournalFull]:
        """See `ports.Inbox.append`."""
        try:
            self._reopen()
            return self._accept(submissions)
        except JournalFull as error:  # whoever repeats is answered all the same
            return [self._repeated(submission) or error for submission in submissions]

    def probe(self) -> None:
        """Write and flush, changing nothing: raises what an append would raise."""
        self._accept([])
        self._reopen()

    def receipt(self, sender: str, report_id: str) -> Receipt | None:
        """See `ports.Inbox.receipt`."""
        rows = self._server.read(_ONE, (sender, report_id))
        return receipt_of(rows[0][:9]) if rows else None

    def _accept(self, submissions: Sequence[Sequence[Message]]) -> list[Answers | JournalFull]:
        messages = [message for submission in submissions for message in submission]
        try:  # when this returns, the server has committed: that is what a 202 stands for
            [(before, fresh, used)] = self._server.call(_ACCEPT, _columns(messages))
        except JournalFull as error:
            self._full_disk, self._look_at = error, time.monotonic() + ROOM_SECONDS
            raise
        self._look(used)
        if fresh == len(messages):
            return [[accepted(message) for message in submission] for submission in submissions]
        known = self._known(messages)
        if len(known) < len({(one.sender, one.report_id) for one in messages}):
            raise JournalUnavailable("receipts went while they were repeated")
        new = {key for key, row in known.items() if before < row[10] <= before + fresh}
        return [[_answer(one, known, new) for one in submission] for submission in submissions]

    def _repeated(self, submission: Sequence[Message]) -> Answers | None:
        """The answers to a submission that holds nothing new; None when it does."""
        known = self._known(submission)
        if not all((one.sender, one.report_id) in known for one in submission):
            return None
        self._server.call(_AS_SAFE)  # what is repeated is a promise too
        return [repeat(one, known[one.sender, one.report_id][:9]) for one in submission]

    def _known(self, messages: Sequence[Message]) -> dict[Key, tuple[Any, ...]]:
        keys = {(one.sender, one.report_id) for one in messages}
        bindings = (texts(sender for sender, _ in keys), texts(report_id for _, report_id in keys))
        return {(row[9], row[1]): row for row in self._server.read(_THESE, bindings)}

    def _used(self) -> int:
        [(used,)] = self._server.read("SELECT came-gone FROM head, tail")
        return int(used)

    def _reopen(self) -> None:
        """Raise `JournalFull` if it is, and still is.

        A full disk has room for something small now and then: who let in whatever fits would say ready and refuse by
        turns.
        """
        if self._full_disk is not None:
            if time.monotonic() < self._look_at:
                raise self._full_disk
            self._look_at = time.monotonic() + ROOM_SECONDS
            self._server.try_room()
            self._full_disk = None
        if self._past_mark:
            self._look(self._used())
            if self._past_mark:
                raise JournalFull(f"past {HARD_MARK:.0%} of {self._limit} bytes")

    def _look(self, used: int) -> None:
        self._past_mark = used >= self._limit * (REOPEN_MARK if self._past_mark else HARD_MARK)

    # ---- the relay ----

    def pending(self, topic: str | None, after: int, limit: int) -> list[Pending]:
        """See `ports.Outbox.pending`."""
        sql = f"SELECT {_PENDING} FROM messages WHERE NOT settled AND seq>$1"
        one = " AND topic=$3" if topic is not None else ""
        bindings = (after, limit, topic) if topic is not None else (after, limit)
        return [Pending._make(row) for row in self._server.read(f"{sql}{one} ORDER BY seq LIMIT $2", bindings)]

    def last(self) -> int:
        """See `ports.Outbox.last`."""
        return self.version()

    def topics(self) -> list[str]:
        """See `ports.Outbox.topics`."""
        return [topic for (topic,) in self._server.read(f"SELECT topic FROM {WAITING} one")]

    def hand_over(self, upto: Mapping[str, int], settled: Iterable[Delivery] = (), folded: int = EVERYTHING) -> None:
        """See `ports.Outbox.hand_over`."""
        done = list(settled)
        columns = [numbers(column) for column in zip(*done, strict=True)] or [numbers(())] * 4
        self._server.call(
            "SELECT hand_over($1, $2, $3, $4, $5, $6, $7, $8)",
            (self._holder, texts(upto), numbers(upto.values()), *columns, folded),
            patience=STANDBY_SECONDS if upto else None,
        )

    def reattempt(self) -> None:
        """See `ports.Outbox.reattempt`."""
        self._server.call("SELECT reattempt($1)", (self._holder,))

    def park(self, seq: int, reason: ParkReason, detail: str, at: int) -> None:
        """See `ports.Outbox.park`."""
        bindings = (self._holder, seq, reason.value, detail, at)
        self._server.call("SELECT park($1, $2, $3, $4, $5)", bindings, patience=STANDBY_SECONDS)

    def version(self) -> int:
        """The last seq: whatever comes has a higher one, and nobody else takes away."""
        [(seq,)] = self._server.read("SELECT seq FROM head")
        return int(seq)

    # ---- the cases ----

    def after(self, seq: int, limit: int) -> list[Entry]:
        """See `ports.Feed.after`."""
        sql = " UNION ALL ".join(
            f"(SELECT {_ENTRY} FROM {table} WHERE seq>$1 ORDER BY seq LIMIT $2)" for table in ("messages", "parked")
        )
        return [Entry._make(row) for row in self._server.read(f"{sql} ORDER BY seq LIMIT $2", (seq, limit))]

    def marks(self) -> tuple[int, int]:
        """See `ports.Feed.marks`."""
        [(last, folded)] = self._server.read("SELECT seq, folded FROM head, tail")
        return last, folded

    # ---- upkeep ----

    def totals(self) -> Totals:
        """See `ports.Upkeep.totals`."""
        [(accepted_, settled, parked, there, aside)] = self._server.read(_TOTALS)
        mismatch = abs(accepted_ - settled - parked - there) + abs(parked - aside)
        return Totals(accepted_, settled, there, parked, mismatch)

    def fill(self) -> Fill:
        """See `ports.Upkeep.fill`."""
        [(used, pending, parked, oldest)] = self._server.read(_FILL)
        return Fill(used, self._limit, pending, parked, oldest)

    def forget(self, before: int, limit: int = 500) -> int:
        """See `ports.Upkeep.forget`."""
        [(gone,)] = self._server.call(_FORGET, (before, limit))
        return int(gone)

    def checkpoint(self) -> None:
        """Nothing: the server's business."""

    def tidy(self) -> None:
        """Nothing: autovacuum's business."""

    def replaced(self) -> bool:
        """Never."""
        return False

    # ---- for the operators ----

    def parked(self) -> list[Parked]:
        """All parked messages, oldest first."""
        sql = "SELECT seq, topic, sender, report_id, case_id, length(value), reason, detail, parked_at FROM parked"
        return [Parked(*row) for row in self._server.read(f"{sql} ORDER BY seq")]

    def requeue(self, seqs: Sequence[int]) -> dict[int, int]:
        """Give parked messages a new place at the end of the line; old seq → new seq of those that were parked."""
        return dict(self._server.call("SELECT * FROM requeue($1)", (numbers(seqs),)))

    def erase(self, what: str, *name: str) -> list[Erased]:
        """As `service.journal.erase` does it; what the server's log and backups hold stays there as long as they do."""
        return erase(self._server, what, name)


def _columns(messages: Sequence[Message]) -> tuple[bytes, ...]:
    """A group as `accept` takes it."""
    return (
        texts(one.sender for one in messages),
        texts(one.report_id for one in messages),
        blobs(one.fingerprint for one in messages),
        texts(one.case_id for one in messages),
        texts(one.topic for one in messages),
        blobs(one.headers for one in messages),
        blobs(one.value for one in messages),
        numbers(one.received_at for one in messages),
        blobs(one.fact for one in messages),
    )


def _answer(one: Message, known: Mapping[Key, tuple[Any, ...]], new: set[Key]) -> Any:
    """The first of a new one is accepted; whoever comes with the same id afterwards repeats it."""
    key = (one.sender, one.report_id)
    if key in new:
        new.remove(key)
        return accepted(one)
    return repeat(one, known[key][:9])
