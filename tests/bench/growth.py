"""Does a report cost more once there is much? Ids remembered, closed cases, a backlog: each against an empty journal.

A journal and a casebook of some thousand reports, made by gridgov itself, are multiplied in SQL: each row many times,
under other ids. The ids of this load begin with digits that change from one report to the next, so that each lands
elsewhere among those remembered: for an index the worst that a sender can do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from tests.bench.contestants import Ours, gridgov
from tests.bench.figures import Figures, shown, table
from tests.bench.load import BATCH, closed, drive, new_prefix, requests
from tests.broker import Broker
from tests.gridgov import until

REPORTS: Final = 10_000  # that gridgov is given to begin with
PENDING: Final = 1_000  # of which a backlog is made
CONNECTIONS: Final = 8
ROOM: Final = {"GRIDGOV_JOURNAL_LIMIT": str(1 << 40)}
STATES: Final = ("empty", "remembered", "closed", "backlog")
BESIDE: Final = 450  # bytes that a message takes in the journal beside its value, receipt and indexes included


@dataclass
class Scale:
    """How much there is."""

    remembered: int = 10_000_000  # ids
    closed: int = 1_000_000  # cases
    backlog: int = 1 << 30  # bytes of journal


@dataclass
class Growth:
    """The four states, and what a report costs in each. All happens in `scratch`."""

    broker: Broker
    figures: Figures
    scratch: Path
    seconds: int
    say: Callable[[str], None]

    def build(self, scale: Scale) -> None:
        """Make the four data directories."""
        prefix = new_prefix()
        empty, backlog = gridgov("empty", env=ROOM), gridgov("backlog", env=ROOM, commands=("web",))
        with empty.running(self.broker.bootstrap, self.scratch):
            _post(empty, prefix, REPORTS)
            empty.await_published()
            until(lambda: empty.unfolded() == 0, "folded")
        for state in STATES[1:]:
            shutil.copytree(self.scratch / "empty", self.scratch / state)
        with backlog.running(self.broker.bootstrap, self.scratch):
            _post(backlog, prefix, PENDING, first=REPORTS)
        remember(self.scratch / "remembered" / "journal.sqlite3", prefix, scale.remembered // REPORTS)
        self.say(f"growth: {scale.remembered:,} ids remembered")
        close(self.scratch / "closed" / "cases.sqlite3", prefix, scale.closed * 5 // REPORTS)
        self.say(f"growth: {scale.closed:,} closed cases")
        put_off(self.scratch / "backlog" / "journal.sqlite3", prefix, scale.backlog)
        self.say(f"growth: a backlog of {scale.backlog / 2**20:,.0f} MiB")

    def round(self, number: int) -> None:
        """Each state in turn; who comes first changes from round to round."""
        first = number % len(STATES)
        for state in (*STATES[first:], *STATES[:first]):
            one = gridgov(state, env=ROOM)
            with one.running(self.broker.bootstrap, self.scratch):
                self._measure(one)

    def _measure(self, one: Ours) -> None:
        """What is done in the time is counted by halves: a message published, a report folded."""
        _post(one, new_prefix(), 2 * BATCH)
        done, spent = _undone(one), one.cpu()
        seen = closed(one.port, one.batch, BATCH, new_prefix(), CONNECTIONS, self.seconds, scattered=True)
        web = one.cpu()["web"] - spent["web"]
        if one.name != "backlog":
            one.await_published()
            until(lambda: one.unfolded() == 0, "folded", seconds=120, every=0.1)
        taken = seen.taken * BATCH
        done = taken + (done - _undone(one)) / 2
        relay = one.cpu()["relay"] - spent["relay"]
        cost = {"web": 1000 * web / taken, "relay": 1000 * relay / max(done, 1)}
        self.figures.add(one.name, "growth", rate=taken / seen.seconds, cost=sum(cost.values()), **cost)
        self.say(f"growth: {one.name:12} {taken / seen.seconds:9,.0f}/s  {sum(cost.values()):.4f} ms CPU a report")


def _post(one: Ours, prefix: str, count: int, first: int = 0) -> None:
    posts = requests(one.batch, BATCH, prefix, count, first, scattered=True)
    assert drive(one.port, posts, connections=4).taken == count // BATCH


def _undone(one: Ours) -> float:
    return one.pending() + one.unfolded()


# ---- much of it, made in SQL ----


def remember(journal: Path, prefix: str, times: int) -> None:
    """Receipts and settlements, as of reports accepted and published before; under seqs below those in use."""
    with _opened(journal) as db:
        for name in ("receipts", "settlements"):
            _multiply(db, name, prefix, times, {"seq": f"seq - ({times} + 1 - t) * {REPORTS}"})


def close(casebook: Path, prefix: str, times: int) -> None:
    """Cases that have been approved in time, with lower ids, as older cases have."""
    with _opened(casebook) as db:
        _multiply(db, "cases", prefix, times, {})


def put_off(journal: Path, prefix: str, size: int) -> None:
    """Messages that Kafka has not had, and their receipts, until the file has so many bytes more."""
    with _opened(journal) as db:
        [(waiting, each)] = _rows(db, "SELECT count(*), avg(length(value)) FROM messages")
        times, seq = round(size / (each + BESIDE) / waiting), {"seq": f"seq + t * {PENDING}"}
        _multiply(db, "receipts", prefix, times, seq, where="seq IN (SELECT seq FROM messages)", before=False)
        _multiply(db, "messages", prefix, times, seq, before=False)
        db.execute("UPDATE meta SET value=value+? WHERE key='accepted'", (waiting * times,))


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    """A file that nobody else has open, and that nobody minds losing."""
    db = apsw.Connection(str(path))
    for pragma in ("journal_mode=MEMORY", "synchronous=OFF", "cache_size=-500000", "temp_store=MEMORY"):
        db.execute(f"PRAGMA {pragma}").fetchall()
    with db:
        yield db
    db.close()


def _multiply(
    db: apsw.Connection,
    table: str,
    prefix: str,
    times: int,
    changes: Mapping[str, str],
    *,
    where: str = "true",
    before: bool = True,
) -> None:
    """Copy rows `times` over (`t` counts from 1), with another prefix in every text; `changes` by column.

    Every row is appended, where its copies come `before` it too, and the indexes are made afterwards.
    """
    columns = _rows(db, f"PRAGMA table_info({table})")
    copied = ", ".join(changes.get(name) or _renamed(name, kind, prefix) for _, name, kind, *_ in columns)
    indexes = _rows(db, f"SELECT name, sql FROM sqlite_master WHERE tbl_name='{table}' AND type='index' AND sql!=''")
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    db.execute(f"CREATE TEMP TABLE original AS SELECT * FROM {table} WHERE {where}")
    if before:
        db.execute(f"DELETE FROM {table} WHERE {where}")
    db.execute(
        f"WITH RECURSIVE times(t) AS (VALUES(1) UNION ALL SELECT t+1 FROM times WHERE t<{times})"
        f" INSERT INTO {table} SELECT {copied} FROM times CROSS JOIN original"
    )
    if before:
        db.execute(f"INSERT INTO {table} SELECT * FROM original")
    db.execute("DROP TABLE original")
    for _, sql in indexes:
        db.execute(sql)


def _rows(db: apsw.Connection, sql: str) -> list[Any]:
    return db.execute(sql).fetchall()


def _renamed(column: str, kind: str, prefix: str) -> str:
    """The column with a prefix of the same length and of a lower order wherever the load's stands."""
    if kind not in ("TEXT", "BLOB"):
        return column
    return f"CAST(replace(CAST({column} AS TEXT), '{prefix}', printf('a%0{len(prefix) - 1}d', t)) AS {kind})"


# ---- told ----


def tables(figures: Figures) -> Iterator[str]:
    """What a report costs in each state."""
    yield table(
        ["growth", "accepted/s", "web, ms CPU", "relay, ms CPU", "both", "of empty"],
        (
            [
                state,
                *(shown(figures.median(state, "growth", measure)) for measure in ("rate", "web", "relay", "cost")),
                shown(figures.ratio(state, "empty", "growth", "cost")),
            ]
            for state in STATES
        ),
    )
