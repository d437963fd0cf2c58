"""What is in Kafka, read from the topics themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

PARTITIONS = 3  # of each topic, as gridgov makes them
Offsets = Mapping[TopicPartition, int]


class Store:
    """The topics of the contestants on one cluster. Not for two threads."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer: Any = KafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_bytes=16 << 20, max_poll_records=5000
        )

    def create(self, topics: Iterable[str]) -> None:
        """Make those that are missing."""
        admin: Any = KafkaAdminClient(bootstrap_servers=self._bootstrap)
        for topic in sorted(set(topics) - self._consumer.topics()):
            try:
                admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
            except TopicAlreadyExistsError:
                continue
        admin.close()

    def ends(self, topics: Iterable[str]) -> Offsets:
        """Where each partition ends now."""
        there = [TopicPartition(topic, n) for topic in topics for n in self._consumer.partitions_for_topic(topic) or ()]
        ends: Offsets = self._consumer.end_offsets(there) if there else {}
        return ends

    def distinct(self, begins: Offsets, ends: Offsets) -> int:
        """How many different reports lie between."""
        found: set[str] = set()
        places = [place for place, end in ends.items() if end > begins.get(place, 0)]
        self._consumer.assign(places)
        for place in places:
            self._consumer.seek(place, begins.get(place, 0))
        while any(self._consumer.position(place) < ends[place] for place in places):
            for records in self._consumer.poll(timeout_ms=1000).values():
                found.update(report_id for record in records for report_id in _ids(record.value))
        self._consumer.unsubscribe()
        return len(found)

    def close(self) -> None:
        self._consumer.close(autocommit=False)


def between(begins: Offsets, ends: Offsets) -> int:
    """How many records lie between."""
    return sum(end - begins.get(place, 0) for place, end in ends.items())


def _ids(value: bytes) -> Iterable[str]:
    """The report in a record; or the reports, of those who put a whole batch into one."""
    told = orjson.loads(value)
    return [one["report_id"] for one in (told if isinstance(told, list) else [told])]
