"""`gridgov consume`: reads the topics as the sub-centre would, dropping duplicates by the published rule."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka

from schemas.event import JOURNAL_ID, JOURNAL_SEQ
from service.config import Config
from service.publisher import connection
from service.topics import ClusterUnreachable

POLL_MS = 250


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic. `duplicate`: its journal-seq is not above the highest seen there."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: dict[str, str]
    duplicate: bool


class Watermark:
    """The consumer's whole memory for dropping duplicates: one number per (journal-id, topic, partition)."""

    def __init__(self) -> None:
        self._highest: dict[tuple[str, str, int], int] = {}

    def passes(self, journal_id: str, topic: str, partition: int, seq: int) -> bool:
        """Whether this is news, and remember it."""
        place = (journal_id, topic, partition)
        if seq <= self._highest.get(place, 0):
            return False
        self._highest[place] = seq
        return True


def consume(config: Config, topics: Iterable[str], *, from_beginning: bool, idle: float | None) -> Iterator[Record]:
    """Records as they come, over all partitions; ends after `idle` seconds without one, never if None.

    Raises `ClusterUnreachable` when no broker answers.
    """
    try:
        consumer: Any = KafkaConsumer(**connection(config), client_id="gridgov-consume", enable_auto_commit=False)
    except (kafka.KafkaError, OSError) as error:
        raise ClusterUnreachable(f"{type(error).__name__}: {error}") from error
    try:
        places = [
            TopicPartition(topic, number)
            for topic in sorted(set(topics) & consumer.topics())
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        consumer.assign(places)
        (consumer.seek_to_beginning if from_beginning else consumer.seek_to_end)(*places)
        yield from _records(consumer, idle)
    finally:
        consumer.close(autocommit=False)


def _records(consumer: Any, idle: float | None) -> Iterator[Record]:
    watermark = Watermark()
    last = time.monotonic()
    while idle is None or time.monotonic() - last < idle:
        for place, records in consumer.poll(timeout_ms=POLL_MS).items():
            last = time.monotonic()
            for one in records:
                headers = {name: value.decode() for name, value in one.headers}
                seq = int(headers.get(JOURNAL_SEQ, 0))
                news = watermark.passes(headers.get(JOURNAL_ID, ""), place.topic, place.partition, seq)
                yield Record(
                    place.topic, place.partition, one.offset, (one.key or b"").decode(), one.value, headers, not news
                )
