"""A reader on a real Kafka while its places go, its topics grow and others write to them."""

from __future__ import annotations

import gc
import logging
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.record.default_records import DefaultRecordBatchBuilder

from service.broker import consume as module
from service.broker import places
from service.broker.consume import Record, consume
from service.broker.places import Change, Notice
from service.config import load
from tests.broker import Broker, Kafka

IDLE = 120.0  # seconds without anything, more than a broker takes to come back: the test has failed
NULL = b"<null>"
VALUE = orjson.loads((Path(__file__).parents[2] / "schemas" / "examples" / "event.json").read_bytes())


class Topic:
    """A topic of its own, and who may do what to it."""

    def __init__(self, bootstrap: str, admin: KafkaAdminClient, producer: KafkaProducer) -> None:
        self.name, self.bootstrap = f"test-{uuid.uuid4()}", bootstrap
        self.admin, self.producer = admin, producer

    def make(self, partitions: int = 1, **settings: str) -> Topic:
        dotted = {key.replace("_", "."): value for key, value in settings.items()}
        self.admin.create_topics([NewTopic(self.name, partitions, 1, topic_configs=dotted)])
        self.admin.wait_for_topics([self.name])
        return self

    def place(self, partition: int = 0) -> TopicPartition:
        return TopicPartition(self.name, partition)

    def write(self, seqs: range, partition: int = 0, **changes: Any) -> None:
        """As the relay writes, each record in a batch of its own; `changes` replace parts of them."""
        for seq in seqs:
            value = VALUE | {"report_id": f"r-{seq}"}
            headers = [("ce_id", b"r-%d" % seq), ("journal-id", b"j"), ("journal-seq", b"%d" % seq), ("attempt", b"1")]
            record = {"key": VALUE["case_id"].encode(), "value": orjson.dumps(value), "headers": headers, **changes}
            self.producer.send(self.name, partition=partition, **record).get(120)


class Reader:
    """`gridgov consume` from the beginning, step by step: between two steps it is stopped."""

    def __init__(self, *topics: Topic, **options: Any) -> None:
        config = load({"KAFKA_BOOTSTRAP_SERVERS": topics[0].bootstrap})
        names, self.behind = [topic.name for topic in topics], [-1]
        options = {"from_beginning": True, "behind": self.behind.append, **options}
        self._items = consume(config, names, idle=IDLE, patience=30, waiting=lambda: None, **options)
        self.records: list[Record] = []
        self.notices: list[Notice] = []

    def until(self, enough: Callable[[], object]) -> None:
        """Read on until there is enough."""
        while not enough():
            item = next(self._items)
            (self.notices if isinstance(item, Notice) else self.records).append(item)  # type: ignore[arg-type]

    def rest(self) -> None:
        """Read on to where it ends by itself."""
        self.records += [item for item in self._items if isinstance(item, Record)]

    def upto(self, seq: int) -> None:
        self.until(lambda: seq in self.seqs)

    @property
    def seqs(self) -> list[int]:
        """The journal-seqs of what is news, as they came."""
        return [int(one.headers["journal-seq"] or 0) for one in self.records if not one.duplicate and not one.foreign]

    def close(self) -> None:
        self._items.close()  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_MS", 200)
    monkeypatch.setattr(places, "STOPPED_SECONDS", 0.0)


@pytest.fixture(scope="module")
def clients(kafka: Kafka) -> Iterator[tuple[KafkaAdminClient, KafkaProducer]]:
    with (
        closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as admin,
        closing(KafkaProducer(bootstrap_servers=kafka.bootstrap, metadata_max_age_ms=500)) as producer,
    ):
        yield admin, producer


@pytest.fixture
def topic(kafka: Kafka, clients: tuple[KafkaAdminClient, KafkaProducer]) -> Topic:
    return Topic(kafka.bootstrap, *clients)


@pytest.fixture
def reading() -> Iterator[Callable[..., Reader]]:
    made: list[Reader] = []

    def read(*topics: Topic, **options: Any) -> Reader:
        made.append(Reader(*topics, **options))
        return made[-1]

    yield read
    for one in made:
        one.close()


# ---- from when to when ----


def test_what_was_published_since_is_read_up_to_where_it_ended_and_no_further(topic: Topic, reading: Any) -> None:
    topic.make(3)
    moments = {seq: 1_000_000 * seq for seq in range(1, 7)}
    for seq, moment in moments.items():
        topic.write(range(seq, seq + 1), seq % 2, timestamp_ms=moment)  # the third partition stays empty
    reader = reading(topic, since_ms=moments[4], follow=False)
    reader.until(lambda: reader.seqs)
    topic.write(range(7, 9))

    reader.rest()

    assert {4, 5, 6} <= set(reader.seqs) <= {4, 5, 6, 7, 8}
    assert reader.behind[-1] <= 2


def test_it_knows_how_far_behind_it_is(topic: Topic, reading: Any) -> None:
    topic.make().write(range(1, 6))
    reader = reading(topic, follow=False)

    reader.rest()

    assert reader.seqs == [1, 2, 3, 4, 5]
    assert reader.behind[-1] == 0


# ---- places that are gone ----


def test_what_retention_took_from_a_stopped_reader_is_told_and_the_rest_read(topic: Topic, reading: Any) -> None:
    topic.make().write(range(1, 11))
    reader = reading(topic)
    reader.upto(10)

    topic.write(range(11, 31))
    topic.admin.delete_records({topic.place(): 30})
    topic.write(range(31, 61))
    reader.upto(60)

    skipped = {offset for notice in reader.notices for offset in range(notice.start, notice.end)}
    assert {notice.what for notice in reader.notices} == {Change.OVERTAKEN}
    assert reader.seqs == sorted({*range(1, 61)} - {offset + 1 for offset in skipped})
    assert set(range(31, 61)) <= set(reader.seqs)
    assert not any(one.duplicate for one in reader.records)


@pytest.mark.parametrize("count", [2, 9], ids=["fewer than were read", "more than were read"])
def test_a_topic_made_anew_is_told_and_read_from_its_beginning(topic: Topic, reading: Any, count: int) -> None:
    topic.make().write(range(1, 6))
    reader = reading(topic)
    reader.upto(5)

    topic.admin.delete_topics([topic.name])
    topic.make()
    topic.write(range(6, 6 + count))
    reader.upto(5 + count)

    assert [(notice.what, notice.topic) for notice in reader.notices] == [(Change.MADE_ANEW, topic.name)]
    assert reader.seqs == list(range(1, 6 + count))
    assert not any(one.duplicate for one in reader.records)


def test_a_topic_made_anew_with_other_partitions_is_read_whole(topic: Topic, reading: Any) -> None:
    topic.make(3).write(range(1, 4), 2)
    reader = reading(topic)
    reader.upto(3)

    topic.admin.delete_topics([topic.name])
    topic.make(2)
    topic.write(range(4, 7), 1)
    reader.upto(6)

    assert [notice.what for notice in reader.notices] == [Change.MADE_ANEW]
    assert reader.seqs == list(range(1, 7))


# ---- places that are new ----


def test_partitions_that_are_added_are_told_and_read_from_their_beginning(topic: Topic, reading: Any) -> None:
    topic.make(2).write(range(1, 4))
    topic.write(range(4, 7), 1)
    reader = reading(topic)
    reader.until(lambda: len(reader.seqs) == 6)

    topic.admin.create_partitions({topic.name: 4})
    topic.admin.wait_for_topics([topic.name])
    for partition in range(4):
        topic.write(range(10 * (partition + 1), 10 * (partition + 1) + 10), partition)
    reader.until(lambda: len(reader.seqs) == 46)

    [notice] = reader.notices
    assert (notice.what, notice.topic, notice.detail) == (Change.WIDENED, topic.name, "4, 2 before")
    assert {one.partition for one in reader.records} == {0, 1, 2, 3}


def test_a_topic_that_comes_later_is_read_from_its_beginning(topic: Topic, reading: Any, kafka: Kafka) -> None:
    later = Topic(kafka.bootstrap, topic.admin, topic.producer)
    topic.make().write(range(1, 3))
    reader = reading(topic, later)
    reader.upto(2)

    later.make().write(range(10, 12))
    reader.upto(11)

    assert reader.notices == []
    assert sorted(reader.seqs) == [1, 2, 10, 11]


# ---- what others wrote ----


class Name(str):
    """The name of a header that is no UTF-8."""

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


@pytest.fixture
def null_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client write null header values, as others do: it refuses them by itself."""
    append = DefaultRecordBatchBuilder.append

    def appended(self: Any, offset: int, timestamp: int, key: Any, value: Any, headers: Any, **more: Any) -> Any:
        nulled = [(name, None if text == NULL else text) for name, text in headers]
        return append(self, offset, timestamp, key, value, nulled, **more)

    monkeypatch.setattr(DefaultRecordBatchBuilder, "append", appended)


SEQ_2 = [("journal-id", b"j"), ("journal-seq", b"2")]
FOREIGN: dict[str, dict[str, Any]] = {
    "a null header": {"headers": [*SEQ_2, ("x", NULL)]},
    "a header that is not UTF-8": {"headers": [*SEQ_2, ("x", b"\xff")]},
    "a null journal-seq": {"headers": [("journal-id", b"j"), ("journal-seq", NULL)]},
    "a journal-seq that is no number": {"headers": [("journal-id", b"j"), ("journal-seq", b"abc")]},
    "a journal-seq of 5,000 digits": {"headers": [("journal-id", b"j"), ("journal-seq", b"9" * 5_000)]},
    "no headers": {"headers": []},
    "a key that is not UTF-8": {"key": b"\xff"},
    "no key": {"key": None},
    "a tombstone": {"value": None},
    "a list": {"value": b"[1]"},
    "an empty object": {"value": b"{}"},
    "no JSON": {"value": b"hello"},
    "no text": {"value": b"\xff"},
}


@pytest.mark.usefixtures("null_headers")
def test_what_others_wrote_is_marked_and_neither_ends_the_reader_nor_hides_ours(topic: Topic, reading: Any) -> None:
    topic.make().write(range(1, 2))
    for record in FOREIGN.values():
        topic.write(range(2, 3), **record)
    topic.write(range(2, 4))
    reader = reading(topic)

    reader.upto(3)

    assert reader.seqs == [1, 2, 3]
    assert not any(one.duplicate for one in reader.records)
    marked = {kind: one.foreign for kind, one in zip(FOREIGN, reader.records[1:-2], strict=True)}
    assert [kind for kind, reason in marked.items() if not reason] == []
    assert reader.notices == []


def test_what_cannot_be_decoded_is_stepped_over_and_told(topic: Topic, reading: Any) -> None:
    topic.make().write(range(1, 2))
    topic.write(range(2, 3), headers=[*SEQ_2, (Name("xx"), b"1")])
    topic.write(range(3, 4), headers=[(Name("xx"), b"1")])
    topic.write(range(4, 6))
    reader = reading(topic)

    reader.upto(5)

    assert reader.seqs == [1, 4, 5]
    assert [(one.what, one.start, one.end) for one in reader.notices] == [(Change.UNREADABLE, 1, 3)]
    assert "UnicodeDecodeError" in reader.notices[0].detail


def test_a_batch_that_the_reader_cannot_unpack_holds_up_no_other_topic(
    topic: Topic, reading: Any, kafka: Kafka
) -> None:
    packed = Topic(kafka.bootstrap, topic.admin, topic.producer).make(compression_type="zstd")
    topic.make()
    for seq in range(1, 4):
        packed.write(range(seq, seq + 1))
        topic.write(range(10 * seq, 10 * seq + 1))
    reader = reading(topic, packed)

    reader.until(lambda: 30 in reader.seqs and sum(notice.skipped for notice in reader.notices) == 3)

    assert reader.seqs == [10, 20, 30]
    assert {(one.what, one.topic) for one in reader.notices} == {(Change.UNREADABLE, packed.name)}
    assert all("zstd" in one.detail for one in reader.notices)


# ---- the cluster goes and comes back ----


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_reader_outlives_an_outage(breakable_kafka: Broker, reading: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="kafka")
    bootstrap = breakable_kafka.bootstrap
    with (
        closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin,
        closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer,
    ):
        topic = Topic(bootstrap, admin, producer).make()
        topic.write(range(1, 3))
        reader = reading(topic)
        reader.upto(2)

        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(reader.upto, 4)
            breakable_kafka.kill()
            breakable_kafka.start()
            topic.write(range(3, 5))
            rest.result()

    assert reader.seqs == [1, 2, 3, 4]
    assert reader.notices == []
    gc.collect()
