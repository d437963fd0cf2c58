"""The real publisher on a real Kafka keeps the contract, and leaves nothing behind."""

from __future__ import annotations

import gc
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from service.broker.batches import Batch
from service.broker.connection import SETUP_MAX_MS, SETUP_MS, connection
from service.broker.publisher import KafkaPublisher
from service.config import Config, load
from service.ports import ParkReason, PauseReason, PublisherBroken, RecordRefused, TopicUnavailable
from tests.broker import Broker, Kafka, free_port
from tests.publisher_contract import JOURNAL_ID, PARTITIONS, Hand, PublisherContract, Target, Written, pending


def config_for(bootstrap: str) -> Config:
    return load({"KAFKA_BOOTSTRAP_SERVERS": bootstrap})


class RealKafka:
    """Topics of its own on a real broker as the suite's target."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def topic(self, *, max_message_bytes: int = 1_048_588) -> str:
        return self.made(PARTITIONS, {"max.message.bytes": str(max_message_bytes)})

    def compacted(self) -> str:
        return self.made(1, {"cleanup.policy": "compact"})

    def made(self, partitions: int, settings: Mapping[str, str]) -> str:
        name = self.missing()
        with closing(KafkaAdminClient(bootstrap_servers=self.bootstrap)) as admin:
            admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        return name

    def missing(self) -> str:
        return f"test-{uuid.uuid4()}"

    def publisher(self, wake: Callable[[], None]) -> KafkaPublisher:
        return KafkaPublisher(config_for(self.bootstrap), journal_id=JOURNAL_ID, wake=wake)

    def records(self, topic: str) -> list[Written]:
        with closing(KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")) as consumer:
            places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            consumer.assign(places)
            ends = consumer.end_offsets(places)
            found: list[Written] = []
            while any(consumer.position(place) < ends[place] for place in places):
                for records in consumer.poll(1_000).values():
                    found += [_written(record) for record in records]
        return sorted(found, key=lambda record: (record.partition, record.offset))


def _written(record: object) -> Written:
    headers = {name: value.decode() for name, value in record.headers}  # type: ignore[attr-defined]
    return Written(
        record.partition,  # type: ignore[attr-defined]
        record.offset,  # type: ignore[attr-defined]
        record.key.decode(),  # type: ignore[attr-defined]
        record.value,  # type: ignore[attr-defined]
        headers,
    )


@pytest.fixture
def target(kafka: Kafka) -> RealKafka:
    return RealKafka(kafka.bootstrap)


class TestKafkaPublisher(PublisherContract):
    """The contract, on real Kafka."""


left_to_the_collector = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def collected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """kafka-python 3.0.12 leaves the sockets of failed connections to the garbage collector: let it find them here."""
    caplog.set_level(logging.CRITICAL, logger="kafka")  # as in service; pytest would keep the records with their frames
    yield
    gc.collect()


@pytest.fixture
def threads_before() -> Callable[[], set[str]]:
    before = set(threading.enumerate())
    return lambda: {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()}


def test_a_time_of_day_that_kafka_refuses_is_not_the_records_fault(target: RealKafka) -> None:
    hand = Hand(target)
    hand.send([pending(1, target.made(PARTITIONS, {"message.timestamp.before.max.ms": "0"}))])

    hand.fail()

    failure = hand.publisher.failure()
    assert failure is not None
    assert (failure.error, failure.refused) == ("InvalidTimestampError", None)
    assert failure.paused is PauseReason.CLOCK_WRONG


@pytest.mark.parametrize(
    "mistake", [TypeError("NoneType"), ValueError("0"), AttributeError("x"), AssertionError()], ids=repr
)
def test_a_mistake_of_the_client_parks_nothing(
    target: RealKafka, mistake: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, hand = target.topic(), Hand(target)
    hand.send([pending(1, topic)])
    hand.settle(1)

    def fail(*_: object, **__: object) -> None:
        raise mistake

    with monkeypatch.context() as patched:
        patched.setattr(Batch, "add", fail)
        hand.send([pending(2, topic)])
    with pytest.raises(PublisherBroken):
        hand.publisher.send(pending(3, topic))
    hand.close()

    failure = hand.publisher.failure()
    assert failure is not None
    assert (failure.seq, failure.error, failure.explained) == (2, type(mistake).__name__, False)
    again = Hand(target)
    again.send(pending(seq, topic) for seq in (2, 3))
    again.settle(2)
    again.close()
    assert [record.seq for record in target.records(topic)] == [1, 2, 3]


@pytest.mark.parametrize(
    "damage", [{"value": "text"}, {"value": None}, {"headers": "1.0"}, {"headers": None}], ids=repr
)
def test_a_damaged_row_is_refused_and_stops_nobody(target: RealKafka, damage: dict[str, Any]) -> None:
    topic, hand = target.topic(), Hand(target)

    with pytest.raises(RecordRefused) as refused:
        hand.publisher.send(pending(1, topic)._replace(**damage))
    hand.send([pending(2, topic)])

    assert refused.value.reason is ParkReason.RECORD_REFUSED
    hand.settle(1)
    hand.close()
    assert hand.seqs == [2]


def test_closing_leaves_no_thread_behind(target: Target, threads_before: Callable[[], set[str]]) -> None:
    hand = Hand(target)
    hand.send([pending(1, target.topic())])
    hand.settle(1)
    assert threads_before() != set()

    hand.close()

    assert threads_before() == set()


def test_a_failure_leaves_no_thread_behind(target: Target, threads_before: Callable[[], set[str]]) -> None:
    hand = Hand(target)
    hand.send([pending(1, target.topic(max_message_bytes=2_000), value=b"l" * 4_000)])

    hand.fail()

    assert threads_before() == set()


def test_a_missing_topic_costs_about_a_second_at_most(target: Target) -> None:
    hand = Hand(target)
    started = time.monotonic()

    with pytest.raises(TopicUnavailable):
        hand.publisher.send(pending(1, target.missing()))

    assert time.monotonic() - started < 20  # kafka-python would wait for 60
    hand.close()


@pytest.mark.parametrize("client", [KafkaProducer, KafkaAdminClient, KafkaConsumer])
def test_no_client_waits_for_tcp_s_own_back_off(client: Callable[..., Any], kafka: Kafka) -> None:
    with closing(client(**connection(config_for(kafka.bootstrap)))) as made:
        manager = getattr(made, "_sender", made)._client._manager  # what it does with them: tests/faults/networks.py
        waits = [manager.socket_connection_setup_timeout_ms(0)]
        for _ in range(9):
            manager.update_backoff(0)
            waits.append(manager.socket_connection_setup_timeout_ms(0))

    assert waits[0] == SETUP_MS
    assert max(waits) <= 1.2 * SETUP_MAX_MS  # the client's jitter


@left_to_the_collector
@pytest.mark.usefixtures("collected")
def test_nobody_listening_is_told_and_leaves_no_thread_behind(threads_before: Callable[[], set[str]]) -> None:
    with pytest.raises(PublisherBroken):
        KafkaPublisher(config_for(f"127.0.0.1:{free_port()}"), journal_id=JOURNAL_ID, wake=lambda: None)

    assert threads_before() == set()


@left_to_the_collector
@pytest.mark.usefixtures("collected")
def test_a_dead_broker_does_not_hold_up_closing(
    breakable_kafka: Broker, threads_before: Callable[[], set[str]]
) -> None:
    target = RealKafka(breakable_kafka.bootstrap)
    topic = target.topic()
    hand = Hand(target)
    hand.send([pending(1, topic)])
    hand.settle(1)
    breakable_kafka.kill()
    hand.send(pending(seq, topic) for seq in range(2, 50))

    hand.close()

    assert hand.seqs == [1]
    assert threads_before() == set()


@left_to_the_collector
@pytest.mark.usefixtures("collected")
def test_what_was_sent_in_vain_arrives_when_the_broker_is_back(breakable_kafka: Broker) -> None:
    target = RealKafka(breakable_kafka.bootstrap)
    topic = target.topic()
    hand = Hand(target)
    hand.send([pending(1, topic)])
    hand.settle(1)
    breakable_kafka.kill()
    hand.send(pending(seq, topic) for seq in range(2, 50))

    breakable_kafka.start()
    hand.settle(49)
    hand.close()

    assert [record.seq for record in target.records(topic)] == list(range(1, 50))
