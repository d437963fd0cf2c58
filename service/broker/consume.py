"""`gridgov consume`: reads the topics as the sub-centre would, dropping duplicates by the published rule."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka

from schemas.event import JOURNAL_ID, JOURNAL_SEQ
from service.broker.connection import connection
from service.broker.topics import ClusterUnreachable
from service.config import Config

POLL_MS = 250
LOOK_SECONDS = 5.0


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


def consume(
    config: Config,
    topics: Iterable[str],
    *,
    from_beginning: bool,
    idle: float | None,
    patience: float,
    waiting: Callable[[], None],
) -> Iterator[Record]:
    """Records as they come, over all partitions; ends after `idle` seconds without one, never if None.

    Waits up to `patience` seconds for a first answer, calling `waiting` once; then raises `ClusterUnreachable`. Topics
    that come later are read from their beginning.
    """
    consumer = _connected(config, patience, waiting)
    try:
        yield from _records(consumer, set(topics), from_beginning=from_beginning, idle=idle)
    finally:
        consumer.close(autocommit=False)


def _connected(config: Config, patience: float, waiting: Callable[[], None]) -> Any:
    end = time.monotonic() + patience
    told = False
    while True:
        try:
            return KafkaConsumer(**connection(config), client_id="gridgov-consume", enable_auto_commit=False)
        except (kafka.KafkaError, OSError) as error:
            if time.monotonic() > end:
                raise ClusterUnreachable(f"{type(error).__name__}: {error}") from error
        if not told:
            waiting()
            told = True


def _records(consumer: Any, topics: set[str], *, from_beginning: bool, idle: float | None) -> Iterator[Record]:
    watermark, places = Watermark(), Places(consumer, topics)
    places.take(from_beginning=from_beginning)
    last = time.monotonic()
    while idle is None or time.monotonic() - last < idle:
        places.look()
        for place, records in consumer.poll(timeout_ms=POLL_MS).items():
            last = time.monotonic()
            for one in records:
                headers = {name: value.decode() for name, value in one.headers}
                seq = int(headers.get(JOURNAL_SEQ, 0))
                news = watermark.passes(headers.get(JOURNAL_ID, ""), place.topic, place.partition, seq)
                yield Record(
                    place.topic, place.partition, one.offset, (one.key or b"").decode(), one.value, headers, not news
                )


class Places:
    """The partitions being read; those of topics that do not exist yet are added when they do."""

    def __init__(self, consumer: Any, topics: set[str]) -> None:
        self._consumer, self._missing = consumer, set(topics)
        self._look_at = 0.0

    def look(self) -> None:
        """Look for missing topics, now and then."""
        if self._missing and time.monotonic() > self._look_at:
            self.take(from_beginning=True)

    def take(self, *, from_beginning: bool) -> None:
        """Begin to read what is there and was not."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        there = self._missing & self._consumer.topics()
        new = [TopicPartition(topic, n) for topic in sorted(there) for n in self._consumer.partitions_for_topic(topic)]
        if not new:
            return
        self._missing -= there
        self._consumer.assign([*self._consumer.assignment(), *new])
        (self._consumer.seek_to_beginning if from_beginning else self._consumer.seek_to_end)(*new)
