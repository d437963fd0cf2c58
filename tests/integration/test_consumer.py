"""`gridgov-consumer` on a real Kafka: every report exactly once in the reader's own table, whatever becomes of it.

The tables have no key: what comes twice stands there twice.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import KafkaConnectionError

from schemas.catalogue import Catalogue
from service.consumer import Database, Reader, Report, Selection
from service.domain.standards import Rules
from service.sink.rows import names
from service.sink.sink import Sink
from tests.broker import Kafka
from tests.integration.test_consume import VALUE, Topic
from tests.postgresql import Postgresql
from tests.sunk import rows

HEADERS = {"ce_source": b"platform", "journal-id": b"j"}
ASIDE = 'SELECT first_offset, last_offset, what, reason FROM gridgov_aside ORDER BY first_offset, "partition"'


class Unusable(Exception):
    """What a handler cannot digest."""


class Centre:
    """A reader of one topic, and its table `got`; `refuses` are ids that its handler cannot digest."""

    def __init__(self, topic: Topic, url: str, **options: Any) -> None:
        self.url, self.refuses = url, set[str]()
        self.database = Database.at(url)
        kind = options.pop("kind", Reader)
        kafka = {"bootstrap_servers": topic.bootstrap, "metadata_max_age_ms": options.pop("max_age_ms", 300)}
        self.reader = kind(
            kafka, self.database, self.handle, group=topic.name, topics=[topic.name], prepare=self.prepare, **options
        )

    def prepare(self) -> None:
        with self.database.transaction() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS got(report_id TEXT)")

    def handle(self, cursor: Any, reports: list[Report]) -> None:
        for one in reports:
            cursor.execute(self.database.sql("INSERT INTO got VALUES(?)"), (one.report_id,))
            if one.report_id in self.refuses:
                raise Unusable(one.report_id)

    @property
    def got(self) -> list[str]:
        with suppress(sqlite3.OperationalError, psycopg.Error):  # no table yet, or no database
            return sorted(name for (name,) in rows(self.url, "SELECT report_id FROM got"))
        return []

    def until(self, *numbers: int, enough: Callable[[], bool] | None = None) -> None:
        """Turn until these are there, exactly once each and nothing else; fails after 60 s."""
        wanted, end = sorted(f"r-{n}" for n in numbers), time.monotonic() + 60
        while not (enough() if enough else self.got == wanted):
            assert time.monotonic() < end, (self.got, self.reader.counts)
            self.reader.turn()


@pytest.fixture(scope="module")
def clients(kafka: Kafka) -> Iterator[tuple[KafkaAdminClient, KafkaProducer]]:
    with (
        closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as admin,
        closing(KafkaProducer(bootstrap_servers=kafka.bootstrap, metadata_max_age_ms=300)) as producer,
    ):
        yield admin, producer


@pytest.fixture
def topic(kafka: Kafka, clients: tuple[KafkaAdminClient, KafkaProducer]) -> Topic:
    return Topic(kafka.bootstrap, *clients)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'own.db'}"


@pytest.fixture
def centre(topic: Topic, url: str) -> Iterator[Callable[..., Centre]]:
    made: list[Centre] = []

    def make(**options: Any) -> Centre:
        made.append(Centre(topic, url, **options))
        return made[-1]

    yield make
    for one in made:
        one.reader.close()


def write(topic: Topic, *seqs: int, partition: int = 0, journal: bytes = b"j", **changes: Any) -> None:
    for seq in seqs:
        value = VALUE | {"report_id": f"r-{seq}"} | changes
        own = {**HEADERS, "ce_id": b"r-%d" % seq, "journal-seq": b"%d" % seq, "journal-id": journal}
        key = str(value["case_id"]).encode()
        topic.write(range(seq, seq + 1), partition, headers=list(own.items()), key=key, value=orjson.dumps(value))


def test_what_was_read_is_not_read_again_and_copies_are_dropped(topic: Topic, centre: Any) -> None:
    topic.make()
    write(topic, 1, 2, 3, 2, 3)
    first = centre()
    first.until(1, 2, 3)
    first.reader.close()

    write(topic, 3, 4)
    write(topic, 5, journal=b"another")
    second = centre()
    second.until(1, 2, 3, 4, 5)

    assert second.reader.counts.duplicates == 1
    assert second.reader.caught_up
    assert second.reader.lag == {(topic.name, 0): 0}


def test_a_report_that_cannot_be_digested_is_set_aside_alone_and_taken_up_by_the_next_start(
    topic: Topic, centre: Any, url: str
) -> None:
    topic.make()
    write(topic, 1, 2, 3)
    first = centre()
    first.refuses = {"r-2"}
    first.until(1, 3)
    assert rows(url, ASIDE) == [(1, 1, "failed", "Unusable: r-2")]
    first.reader.close()

    second = centre()
    second.until(1, 2, 3)

    assert rows(url, ASIDE) == []


def test_what_others_wrote_is_set_aside_with_its_place_and_reason(topic: Topic, centre: Any, url: str) -> None:
    topic.make()
    write(topic, 1)
    headers = list({**HEADERS, "ce_id": b"r-2", "journal-seq": b"2"}.items())
    topic.write(range(2, 3), value=None, headers=headers)
    topic.write(range(2, 3), value=b"\xff", headers=[])
    topic.write(range(2, 3), value=b"[" * 100_000, headers=headers)
    topic.write(range(2, 3), key=b"other", headers=headers)
    write(topic, 2)
    one = centre()

    one.until(1, 2)

    assert rows(url, ASIDE) == [
        (1, 1, "foreign", "no value: a tombstone"),
        (2, 2, "foreign", "no journal-id and journal-seq"),
        (3, 3, "foreign", "its value is no report"),
        (4, 4, "foreign", "its key is not its case"),
    ]
    assert rows(url, "SELECT value FROM gridgov_aside WHERE first_offset=2") == [(b"\xff",)]


def test_what_cannot_be_decoded_is_told_and_passed(topic: Topic, centre: Any, url: str) -> None:
    """A batch in a compression that this client lacks."""
    topic.make(compression_type="zstd")
    write(topic, 1, 2)
    one = centre()
    one.until(enough=lambda: one.reader.counts.gaps == 2)

    assert [(first, what) for first, _, what, _ in rows(url, ASIDE)] == [(0, "gap"), (1, "gap")]


def test_what_retention_took_is_told_and_the_rest_read(topic: Topic, centre: Any, url: str) -> None:
    topic.make()
    write(topic, 1, 2)
    first = centre()
    first.until(1, 2)
    first.reader.close()

    write(topic, 3, 4, 5, 6)
    topic.admin.delete_records({topic.place(): 4})
    centre().until(1, 2, 5, 6)

    assert rows(url, ASIDE) == [(2, 3, "gap", "deleted before it was read")]


def test_a_log_that_lost_its_tail_is_told_and_read_from_what_there_is(topic: Topic, centre: Any, url: str) -> None:
    """As if more had been read than the partition has now."""
    topic.make()
    write(topic, 1, 2)
    first = centre()
    first.until(1, 2)
    first.reader.close()
    with first.database.transaction() as cursor:
        cursor.execute("UPDATE gridgov_places SET next_offset=100")

    write(topic, 3)
    second = centre()
    second.until(1, 2, 3)

    assert rows(url, ASIDE) == [(100, 100, "gap", "the log has lost its tail; reading on at 0")]
    assert second.reader.counts.duplicates == 2


def test_a_topic_made_anew_is_told_and_read_from_its_beginning(topic: Topic, centre: Any, url: str) -> None:
    topic.make()
    write(topic, 1, 2)
    one = centre()
    one.until(1, 2)

    topic.admin.delete_topics([topic.name])
    topic.make()
    write(topic, 3, 4, 5, 6)
    one.until(1, 2, 3, 4, 5, 6)

    [(at, _, what, reason)] = rows(url, ASIDE)
    assert (at, what) == (2, "gap")
    assert "made anew" in reason


def test_a_topic_made_anew_is_seen_before_its_reports_are_worked_in(topic: Topic, centre: Any) -> None:
    """The client fetches by name: with an old picture of the cluster it takes the new topic for the old one."""
    topic.make()
    write(topic, 1, 2)
    one = centre(max_age_ms=300_000)
    one.until(1, 2)
    time.sleep(1)  # no fetch is on its way: the next one finds the new topic

    topic.admin.delete_topics([topic.name])
    topic.make()
    write(topic, 3, 4, 5, 6)

    one.until(1, 2, 3, 4, 5, 6)


def test_what_was_fetched_when_its_leader_could_not_be_asked_is_fetched_again(topic: Topic, centre: Any) -> None:
    topic.make()
    write(topic, 1, 2)
    one = centre()
    one.until(1, 2)
    places = one.reader._places
    ask = places._told

    def unanswered(fetched: Any) -> Any:
        if fetched:
            raise KafkaConnectionError
        return {}

    places._told = unanswered
    write(topic, 3, 4)
    with pytest.raises(KafkaConnectionError):
        one.until(1, 2, 3, 4)
    places._told = ask
    write(topic, 5)

    one.until(1, 2, 3, 4, 5)


def test_only_what_is_selected_is_worked_in_and_a_case_stays_in_its_street(topic: Topic, centre: Any) -> None:
    topic.make()
    here = VALUE["location"] | {"street_code": "310109018000"}
    write(topic, 1, location=here, case_id="a")
    write(topic, 2, location=here | {"street_code": "310109011000"}, case_id="b")
    write(topic, 3, location=here, case_id="c", category="0211")
    for number, case_id in ((4, "a"), (5, "b"), (6, "c")):
        value = {name: said for name, said in VALUE.items() if name != "location"} | {"report_id": f"r-{number}"}
        headers = {**HEADERS, "ce_id": b"r-%d" % number, "journal-seq": b"%d" % number}
        value |= {"case_id": case_id, "category": "0211" if case_id == "c" else "0404"}
        topic.write(
            range(number, number + 1), headers=list(headers.items()), key=case_id.encode(), value=orjson.dumps(value)
        )
    one = centre(select=Selection(kinds={"repair"}, categories=["04"], streets=["310109018"]))

    one.until(enough=lambda: one.reader.counts.unselected == 4)

    assert one.got == ["r-1", "r-4"]


def test_members_that_come_and_go_share_the_work_and_lose_nothing(topic: Topic, centre: Any, url: str) -> None:
    topic.make(4)
    stop, leave = threading.Event(), threading.Event()
    first, guest = centre(), centre()
    threads = [threading.Thread(target=first.reader.run, args=(stop,))]
    threads.append(threading.Thread(target=guest.reader.run, args=(leave,)))
    seq = 0

    def more(enough: Callable[[], bool]) -> None:
        nonlocal seq
        end = time.monotonic() + 60
        while not enough():
            assert time.monotonic() < end, (first.reader.counts, guest.reader.counts)
            seq += 1
            write(topic, seq, partition=seq % 4)

    for thread, one in zip(threads, (first, guest), strict=True):
        thread.start()
        more(lambda one=one: one.reader.counts.reports > 0)  # type: ignore[misc]
    leave.set()
    more(lambda: not threads[1].is_alive())
    alone = first.reader.counts.reports
    more(lambda: first.reader.counts.reports > alone)
    wanted = sorted(f"r-{n}" for n in range(1, seq + 1))
    end = time.monotonic() + 60
    while first.got != wanted and time.monotonic() < end:
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()

    assert first.got == wanted
    assert min(first.reader.counts.reports, guest.reader.counts.reports) > 0
    assert rows(url, "SELECT SUM(next_offset) FROM gridgov_places") == [(seq,)]


class Assigned(Reader):
    """A member that believes it has the partition, whoever else has it."""

    def open(self) -> None:
        super().open()
        name = self._pattern.removeprefix("^(?:").removesuffix(")$").replace("\\", "")
        self._consumer.unsubscribe()
        self._consumer.topics()
        self._consumer.assign([TopicPartition(name, 0)])


def test_who_was_given_up_without_noticing_drops_what_another_has_worked_in(topic: Topic, centre: Any) -> None:
    topic.make()
    write(topic, 1, 2)
    frozen, other = centre(kind=Assigned), centre(kind=Assigned)
    frozen.until(1, 2)
    write(topic, 3, 4)
    places, held = frozen.reader._places, list[Any]()
    while len(held) < 2:
        for records in places.fetched().values():
            held += records

    other.until(1, 2, 3, 4)
    frozen.reader._work(places, {topic.place(): held})
    write(topic, 5)
    frozen.until(1, 2, 3, 4, 5)

    assert frozen.reader.counts.overtaken == 1


def test_a_database_that_goes_away_is_waited_for(topic: Topic, postgresql: Postgresql) -> None:
    topic.make()
    write(topic, 1, 2)
    one = Centre(topic, postgresql.url)
    stop = threading.Event()
    thread = threading.Thread(target=one.reader.run, args=(stop,))
    thread.start()

    def await_(*numbers: int) -> None:
        end = time.monotonic() + 30
        while one.got != (wanted := sorted(f"r-{n}" for n in numbers)):
            assert time.monotonic() < end, (one.got, wanted, one.reader.trouble)
            time.sleep(0.1)

    try:
        await_(1, 2)
        postgresql.crash()
        write(topic, 3)
        while one.reader.trouble is None:
            time.sleep(0.05)
        assert "database away" in one.reader.trouble
        assert "geheim" not in one.reader.trouble
        postgresql.start()
        await_(1, 2, 3)
    finally:
        stop.set()
        thread.join()
    assert one.reader.counts.failed == 0


# ---- two members of a sink at the same time ----


def sink_at(url: str) -> tuple[Database, Sink]:
    catalogue = Catalogue.load()
    database = Database.at(url)
    made = Sink(database, Rules(catalogue.limit), "one", names(catalogue))
    made.open()
    return database, made


def told(number: int, stage: str, topic: str) -> Report:
    value = VALUE | {"report_id": f"r-{number}", "stage": stage, "case_id": "shared"}
    return Report(topic, 0, number, "j", number, "p", f"r-{number}", "shared", "repair", "0404", stage, value)


def test_two_members_that_have_first_reports_of_one_case_lose_none(postgresql: Postgresql) -> None:
    """A case that changed its category is in two partitions, which two members may have."""
    (one, first), (other, second) = sink_at(postgresql.url), sink_at(postgresql.url)
    done = threading.Event()

    def work() -> None:
        with other.transaction() as cursor:
            second.handle(cursor, [told(2, "arrived", "u")])
        done.set()

    thread = threading.Thread(target=work)
    with one.transaction() as cursor:
        first.handle(cursor, [told(1, "reported", "t")])
        thread.start()
        assert not done.wait(0.5)  # it waits for the row
    thread.join(20)

    [(phase, reports)] = rows(postgresql.url, "SELECT phase, reports FROM cases WHERE case_id='shared'")
    assert (phase, reports) == ("in_progress", 2)
    for database in (one, other):
        database.close()


def test_members_that_start_together_make_the_tables_once_and_later_ones_need_no_right_to(
    postgresql: Postgresql,
) -> None:
    with psycopg.connect(postgresql.url, autocommit=True) as session:
        session.execute("CREATE SCHEMA together")
        session.execute("CREATE ROLE poor LOGIN PASSWORD 'arm'")
        session.execute("ALTER ROLE poor SET search_path = together")
        together = f"{postgresql.url}?options=-csearch_path%3Dtogether"
        with ThreadPoolExecutor(4) as pool:
            for database, _ in pool.map(sink_at, [together] * 4):
                database.close()
        session.execute("GRANT USAGE ON SCHEMA together TO poor")
        session.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA together TO poor")
        database, sink = sink_at(f"postgresql://poor:arm@127.0.0.1:{postgresql.port}/postgres")
        with database.transaction() as cursor:
            sink.handle(cursor, [told(1, "reported", "t")])
        database.close()
        comment = "SELECT col_description('together.cases'::regclass, 1)"
        assert session.execute(comment).fetchone() == ("任务号，主键 · the case; primary key",)
        assert session.execute("SELECT COUNT(*) FROM together.cases").fetchone() == (1,)
