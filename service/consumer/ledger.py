"""What a reader remembers, in the database it writes to: where it is, what it has seen, what it had to set aside.

All of it changes in the transaction that holds what was made of the reports: so nothing is ever worked in twice or
passed over, whatever is killed when. Kafka's own offsets do not decide anything.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .database import Database
from .report import Report

TABLES = (
    """CREATE TABLE gridgov_places(
  consumer TEXT NOT NULL, topic TEXT NOT NULL, "partition" INTEGER NOT NULL, topic_id TEXT NOT NULL,
  next_offset {big} NOT NULL, PRIMARY KEY(consumer, topic, "partition"))""",
    """CREATE TABLE gridgov_watermarks(
  consumer TEXT NOT NULL, topic TEXT NOT NULL, "partition" INTEGER NOT NULL, journal_id TEXT NOT NULL,
  seq {big} NOT NULL, PRIMARY KEY(consumer, topic, "partition", journal_id))""",
    """CREATE TABLE gridgov_aside(
  consumer TEXT NOT NULL, topic TEXT NOT NULL, "partition" INTEGER NOT NULL, first_offset {big} NOT NULL,
  last_offset {big} NOT NULL, what TEXT NOT NULL, reason TEXT NOT NULL, noted_at {time} NOT NULL,
  key {blob}, headers TEXT, value {blob}, PRIMARY KEY(consumer, topic, "partition", first_offset, what))""",
    """CREATE TABLE gridgov_street_cases(
  consumer TEXT NOT NULL, case_id TEXT NOT NULL, PRIMARY KEY(consumer, case_id))""",
)
FOREIGN, FAILED, GAP = "foreign", "failed", "gap"  # what is set aside
_HERE = 'consumer=? AND topic=? AND "partition"=?'
_ASIDE = "INSERT INTO gridgov_aside VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_MARK = (
    "INSERT INTO gridgov_watermarks VALUES(?, ?, ?, ?, ?)"
    ' ON CONFLICT(consumer, topic, "partition", journal_id) DO UPDATE SET seq=excluded.seq'
)
REASON_CHARACTERS = 500
ASKED = 500  # cases in one question

Place = tuple[str, int]  # topic and partition


class Aside(NamedTuple):
    """Records that were set aside: one with what it held, or a whole range that is gone."""

    place: Place
    first: int
    last: int
    what: str
    reason: str
    record: Any = None


@dataclass
class Seat:
    """Where a reader stands in a partition: the next offset, and by journal the highest seq it has seen."""

    topic_id: str
    at: int
    marks: dict[str, int] = field(default_factory=dict)


class Ledger:
    """The tables `gridgov_…` of one consumer. Every method is part of the transaction that its cursor is in."""

    def __init__(self, database: Database, consumer: str) -> None:
        self._database, self._consumer = database, consumer
        self._sql, self._lock = database.sql, database.FOR_UPDATE

    def create(self, cursor: Any) -> None:
        """Make the tables that are not there."""
        self._database.make(cursor, "gridgov_places", TABLES)

    def seat(self, cursor: Any, place: Place) -> Seat | None:
        """Where to go on; None where nothing is known."""
        here = (self._consumer, *place)
        cursor.execute(self._sql(f"SELECT topic_id, next_offset FROM gridgov_places WHERE {_HERE}"), here)
        if (found := cursor.fetchone()) is None:
            return None
        cursor.execute(self._sql(f"SELECT journal_id, seq FROM gridgov_watermarks WHERE {_HERE}"), here)
        topic_id, at = found
        return Seat(topic_id, at, dict(cursor.fetchall()))

    def begin(self, cursor: Any, place: Place, seat: Seat) -> None:
        """Stand where nobody has stood; if somebody does by now, nothing happens."""
        sql = "INSERT INTO gridgov_places VALUES(?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        cursor.execute(self._sql(sql), (self._consumer, *place, seat.topic_id, seat.at))

    def stands(self, cursor: Any, place: Place, seat: Seat) -> bool:
        """Whether nobody else has read on here meanwhile; from now on nobody can until the transaction ends."""
        sql = f"SELECT topic_id, next_offset FROM gridgov_places WHERE {_HERE}{self._lock}"
        cursor.execute(self._sql(sql), (self._consumer, *place))
        return bool(cursor.fetchone() == (seat.topic_id, seat.at))

    def move(self, cursor: Any, place: Place, to: Seat) -> None:
        """Stand there from now on, with those marks."""
        here = (self._consumer, *place)
        cursor.execute(
            self._sql(f"UPDATE gridgov_places SET topic_id=?, next_offset=? WHERE {_HERE}"), (to.topic_id, to.at, *here)
        )
        for journal_id, seq in to.marks.items():
            cursor.execute(self._sql(_MARK), (*here, journal_id, seq))

    def set_aside(self, cursor: Any, asides: Iterable[Aside], now: str) -> None:
        """Keep them as they came, in nobody's way. What was set aside of a place before stays as it is."""
        rows = [
            (
                *(self._consumer, *one.place, one.first, one.last, one.what, _printable(one.reason), now),
                one.record and one.record.key,
                one.record and _shown(one.record.headers),
                one.record and one.record.value,
            )
            for one in asides
        ]
        if rows:
            cursor.executemany(self._sql(_ASIDE), rows)

    def failed(self, cursor: Any) -> list[tuple[Any, ...]]:
        """What a handler failed on, for nobody else meanwhile: topic, partition, offset, key, headers, value."""
        sql = (
            'SELECT topic, "partition", first_offset, key, headers, value FROM gridgov_aside'
            f" WHERE consumer=? AND what=? ORDER BY noted_at, topic, first_offset{self._lock}"
        )
        cursor.execute(self._sql(sql), (self._consumer, FAILED))
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def take_up(self, cursor: Any, place: Place, offset: int) -> None:
        """It is set aside no longer."""
        sql = f"DELETE FROM gridgov_aside WHERE {_HERE} AND first_offset=? AND what=?"
        cursor.execute(self._sql(sql), (self._consumer, *place, offset, FAILED))

    def count_aside(self, cursor: Any) -> Mapping[str, int]:
        """What is set aside, by what it is."""
        cursor.execute(
            self._sql("SELECT what, COUNT(*) FROM gridgov_aside WHERE consumer=? GROUP BY what"), (self._consumer,)
        )
        return dict(cursor.fetchall())

    def of_streets(self, cursor: Any, reports: list[Report], naming: set[str]) -> list[Report]:
        """Those whose case a report has placed in a wanted street: `naming` are the cases that one of these does."""
        rows = [(self._consumer, case_id) for case_id in sorted(naming)]
        if rows:
            cursor.executemany(self._sql("INSERT INTO gridgov_street_cases VALUES(?, ?) ON CONFLICT DO NOTHING"), rows)
        asked, known = sorted({report.case_id for report in reports} - naming), set[str]()
        for start in range(0, len(asked), ASKED):
            some = asked[start : start + ASKED]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT case_id FROM gridgov_street_cases WHERE consumer=? AND case_id IN ({marks})"
            cursor.execute(self._sql(sql), (self._consumer, *some))
            known |= {case_id for (case_id,) in cursor.fetchall()}
        return [report for report in reports if report.case_id in known or report.case_id in naming]


def _printable(reason: str) -> str:
    """What any database takes as a text: others' words may be in it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in reason[:REASON_CHARACTERS])


def _shown(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """As JSON, an array of pairs: names may repeat. What is not UTF-8 is escaped."""
    return json.dumps(
        [[name, raw if raw is None else raw.decode(errors="backslashreplace")] for name, raw in headers],
        ensure_ascii=True,
    )
