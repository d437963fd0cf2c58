"""Reads the topics as one of a consumer group, and works every report into the reader's database exactly once.

Kafka's group only shares out the partitions. What a member has read, and what it made of it, is one transaction of the
database, which first looks whether the partition's place is where this member left it: a member that was thrown out
of the group without noticing finds that another has read on, and drops what it had.
"""

import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka

from .batch import Batch
from .database import Database, DatabaseAway
from .ledger import Ledger
from .places import Places, now
from .report import Report, read
from .selection import Selection

log = logging.getLogger("gridgov_consumer")

TOPICS = r"gridgov\.(repair|incident)\..+"
BATCH = 2_000  # records in one transaction, at most
SESSION_MS = 10_000  # without a sign of life of a member, and its partitions go to the others
PAUSE_SECONDS = 1.0  # after something that passes by itself
COURTESY_SECONDS = 5.0  # between two commits to Kafka, which only lag tools read
COMMIT_MS = 2_000
# Nobody but an operator can help; a service manager starts us anew. All else passes, however long it takes.
HOPELESS = (
    kafka.SaslAuthenticationFailedError,
    kafka.AuthorizationError,
    kafka.UnsupportedVersionError,
    kafka.KafkaConfigurationError,
)

Handle = Callable[[Any, list[Report]], None]


def _nothing() -> None:
    """What is done beside reading by who does nothing."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What this process has done since it began."""

    reports: int = 0  # worked in
    duplicates: int = 0  # dropped by journal-seq
    unselected: int = 0
    foreign: int = 0  # set aside: nobody of ours wrote it
    failed: int = 0  # set aside: the handler cannot work it in
    gaps: int = 0  # offsets that were gone, or could not be decoded
    overtaken: int = 0  # batches dropped, as another member had read on
    transactions: int = 0


class Reader:
    """One member of the group `group`; `kafka` are settings of kafka-python's `KafkaConsumer`.

    `handle(cursor, reports)` works reports into the database with a cursor of its driver: what it writes is committed
    together with the reader's place, or not at all. It may be called again with the same reports after a roll-back, and
    singly with each of them when it fails: then the ones that fail alone are set aside. Errors of the database itself
    are no report's: they are waited out. `prepare` is called before anything is read; it may raise `DatabaseAway`.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        database: Database,
        handle: Handle,
        *,
        group: str,
        topics: Collection[str] = (),
        select: Selection | None = None,
        prepare: Callable[[], None] = _nothing,
    ) -> None:
        self._settings = {
            "session_timeout_ms": SESSION_MS,
            "heartbeat_interval_ms": SESSION_MS // 4,
            "metadata_max_age_ms": 10_000,
            "bootstrap_timeout_ms": 5_000,
            "reconnect_backoff_max_ms": 1_000,
            "max_poll_records": BATCH,
            **kafka,
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # the database knows the place; one that is gone is told, not passed over
            "allow_auto_create_topics": False,
        }
        self._pattern = f"^(?:{'|'.join(map(re.escape, sorted(topics))) or TOPICS})$"
        self._database, self._handle, self._select = database, handle, select or Selection()
        self._ledger, self._prepare = Ledger(database, group), prepare
        self._consumer: Any = None
        self._places: Places | None = None
        self._courtesy_at = 0.0
        self._counted: Counter[str] = Counter()
        self.lag: dict[tuple[str, int], int] = {}  # records not worked in yet, of the partitions this member has
        self.caught_up = False  # whether all that this member was given is read to its end, and it was given something
        self.worked_at: float | None = None  # Unix time of the last transaction
        self.turned_at: float | None = None  # Unix time of the last turn in which nothing was away
        self.trouble: str | None = None  # what is away now
        self.seen_at = 0.0  # Unix time at which the last turn began, whatever became of it

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return Counts(**self._counted)

    def run(self, stop: threading.Event, each: Callable[[], None] = _nothing) -> None:
        """Read until `stop`, whatever goes away and comes back; `each` is called after every turn.

        Raises the `KafkaError` that no waiting mends: not allowed, not understood.
        """
        try:
            while not stop.is_set():
                self.seen_at = time.time()
                try:
                    self.turn()
                    each()
                    self.turned_at, self.trouble = time.time(), None
                except DatabaseAway as error:
                    self._wait(stop, "database away", error)
                except HOPELESS:
                    raise
                except (kafka.KafkaError, OSError) as error:
                    self._wait(stop, "Kafka away", error)
        finally:
            self.close()

    def open(self) -> None:
        """Make the tables, take up what a handler failed on before, enter the group."""
        with self._database.transaction() as cursor:
            self._ledger.create(cursor)
        self._prepare()
        self._take_up()
        self._consumer = KafkaConsumer(**self._settings)
        self._places = Places(self._consumer, self._database, self._ledger, self._counted)
        self._consumer.subscribe(pattern=self._pattern, listener=self._places.listener)

    def close(self) -> None:
        """Leave the group, which need not wait then until it misses this member."""
        consumer, places, self._consumer, self._places = self._consumer, self._places, None, None
        if consumer is not None:
            with suppress(kafka.KafkaError, OSError):
                if places is not None:
                    consumer.commit(places.offsets(), timeout_ms=COMMIT_MS)
            consumer.close(autocommit=False)
        self._database.close()

    def turn(self) -> None:
        """Work in what has come; waits a quarter of a second for something."""
        if self._places is None:
            self.open()
        assert self._places is not None
        if found := self._places.fetched():
            self._work(self._places, found)
        self._places.sit_down()
        self._observe(self._places)

    def _work(self, places: Places, found: Mapping[TopicPartition, list[Any]]) -> None:
        """One transaction: reports, places and marks. When it fails, the database is asked anew where we stand."""
        risen, done = places.rise(found), Batch()
        with self._database.transaction() as cursor:
            for place, seat in risen.seats.items():
                if self._ledger.stands(cursor, tuple(place), seat):
                    done.take(place, seat, found[place], self._select)
            self._work_in(cursor, self._wanted(cursor, done), done)
            self._ledger.set_aside(cursor, done.aside, now())
            for place, seat in done.after.items():
                self._ledger.move(cursor, tuple(place), seat)
        places.sit_again(risen, done.after)
        self._counted.update(done.counted, transactions=1, overtaken=len(risen.seats) - len(done.after))
        self.worked_at = time.time()

    def _wanted(self, cursor: Any, done: Batch) -> list[Report]:
        if not self._select.streets:
            return done.reports
        naming = {report.case_id for report in done.reports if self._select.names_street(report)}
        wanted = self._ledger.of_streets(cursor, done.reports, naming)
        done.counted["unselected"] += len(done.reports) - len(wanted)
        return wanted

    def _work_in(self, cursor: Any, reports: list[Report], done: Batch) -> None:
        """All together; if that fails each by itself, for it is not known which one it was."""
        if not reports or self._handled(cursor, reports) is None:
            done.counted["reports"] += len(reports)
            return
        for report in reports:
            if (error := self._handled(cursor, [report])) is None:
                done.counted["reports"] += 1
            else:
                log.error("set aside", exc_info=error, extra={"place": report[:3]})
                done.failed(report, error)

    def _handled(self, cursor: Any, reports: list[Report]) -> Exception | None:
        """What the handler failed with, and then nothing of it is left; the database's own errors are raised."""
        try:
            with self._database.part(cursor):
                self._handle(cursor, reports)
        except Exception as error:
            if self._database.is_passing(error):
                raise
            return error
        return None

    def _take_up(self) -> None:
        """What a handler failed on, once more: another version of it may be able to work it in."""
        with self._database.transaction() as cursor:
            for topic, partition, offset, key, headers, value in self._ledger.failed(cursor):
                pairs = [(name, said.encode()) for name, said in json.loads(headers)]
                where = {"topic": topic, "partition": partition, "offset": offset}
                report = read(SimpleNamespace(**where, key=key, headers=pairs, value=value))
                if (error := self._handled(cursor, [report])) is None:
                    self._ledger.take_up(cursor, (topic, partition), offset)
                else:
                    log.error("still set aside", exc_info=error, extra={"place": report[:3]})

    def _observe(self, places: Places) -> None:
        self.lag = places.lag()
        self.caught_up = 0 < places.assigned() == len(self.lag) and not any(self.lag.values())
        if time.monotonic() >= self._courtesy_at and (offsets := places.offsets()):
            self._courtesy_at = time.monotonic() + COURTESY_SECONDS
            self._consumer.commit_async(offsets)

    def _wait(self, stop: threading.Event, what: str, error: Exception) -> None:
        self.trouble = f"{what}: {type(error).__name__}: {error}"[:500]
        log.warning(what, extra={"error": self.trouble})
        stop.wait(PAUSE_SECONDS)
