"""A Kafka cluster in memory, with a publisher for it that passes the same suite as the real one.

It does what a real cluster does to an idempotent producer: batches per partition, in order, at any pace relative to
each other; a batch fails as a whole; what was written may go unacknowledged when the producer ends.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.event import unpacked
from service.ports import (
    Delivery,
    Failure,
    ParkReason,
    PauseReason,
    Pending,
    PublisherBroken,
    RecordRefused,
    Topic,
    TopicUnavailable,
)
from tests.publisher_contract import PARTITIONS, Written

CLIENT_LIMIT = 1_048_576  # what the client itself refuses
FRAMING = 70  # bytes of a batch of one beyond what the message carries
NOW = 1_604_448_001_000

Pick = Callable[[str, int], int]  # what is to be chosen, and the most it may be → 0 … most


def plain(what: str, most: int) -> int:
    """Everything at once, whole batches, no acknowledgement lost."""
    return most if what in ("batches", "batch") else 0


@dataclass
class FakeTopic:
    """One topic. While it is `missing` or `denied` it keeps what it holds."""

    max_message_bytes: int = 1_048_588
    missing: bool = False
    denied: bool = False
    poison: Callable[[Pending], bool] = lambda _: False  # what the broker calls invalid, with the batch it is in
    records: dict[int, list[Written]] = field(default_factory=lambda: {n: [] for n in range(PARTITIONS)})

    @property
    def fault(self) -> PauseReason | None:
        if self.missing:
            return PauseReason.MISSING
        return PauseReason.UNAUTHORISED if self.denied else None


class FakeKafka:
    """The cluster; also what `service.broker.topics.TopicWatch` tells of it, as of the last `look`."""

    def __init__(self, pick: Pick = plain) -> None:
        self.pick = pick
        self.down = False  # nobody can build a publisher
        self.held = False  # nothing is written: whatever is sent stays in flight
        self.breaking = False  # the next batch breaks the producer
        self.kept: dict[str, FakeTopic] = {}
        self.publishers: list[FakePublisher] = []
        self.acknowledged: set[int] = set()  # what the relay was told
        self.sent_again: set[int] = set()  # and sent all the same
        self.reachable = True
        self.topics: dict[str, Topic] = {}

    def add(self, name: str, topic: FakeTopic | None = None) -> FakeTopic:
        self.kept[name] = topic or FakeTopic()
        self.look()
        return self.kept[name]

    def look(self) -> None:
        """What the relay knows of the topics is brought up to date."""
        self.topics = {name: self._described(name, topic) for name, topic in self.kept.items()}

    def pause(self, name: str) -> PauseReason | None:
        topic = self.topics.get(name)
        return topic.pause if topic else PauseReason.UNKNOWN

    def records(self, name: str) -> list[Written]:
        return [record for records in self.kept[name].records.values() for record in records]

    @staticmethod
    def _described(name: str, topic: FakeTopic) -> Topic:
        if topic.missing:
            return Topic(name)
        return Topic(name, PARTITIONS, 1, 1, writable=not topic.denied, max_message_bytes=topic.max_message_bytes)


class FakePublisher:
    """See `ports.Publisher`. Raises `PublisherBroken` while the cluster is down."""

    def __init__(self, cluster: FakeKafka, journal_id: str, wake: Callable[[], None]) -> None:
        if cluster.down:
            raise PublisherBroken("nobody answers")
        self._cluster, self._journal_id, self._wake = cluster, journal_id, wake
        self._handed: list[Pending] = []  # not pushed yet
        self._queues: dict[tuple[str, int], deque[Pending]] = {}
        self._delivered: list[Delivery] = []
        self._failure: Failure | None = None
        self._reason: Failure | None = None  # of that failure, not told before the end
        self.closed = False
        cluster.publishers.append(self)

    def send(self, message: Pending) -> None:
        if self._failure is not None or self.closed:
            raise PublisherBroken("ended")
        topic = self._cluster.kept.get(message.topic)
        if topic is None or topic.missing or self._cluster.pick("metadata too late", 7) == 7:
            raise TopicUnavailable(message.topic)
        if message.size > CLIENT_LIMIT:
            raise RecordRefused(ParkReason.RECORD_TOO_LARGE, f"{message.size} bytes")
        self._handed.append(message)

    def push(self) -> None:
        if self._failure is not None or self.closed:
            return
        for message in self._handed:
            place = (message.topic, zlib.crc32(message.case_id.encode() or b"") % PARTITIONS)
            self._queues.setdefault(place, deque()).append(message)
            self._cluster.sent_again |= {message.seq} & self._cluster.acknowledged
        self._handed.clear()
        self._wake()

    def deliveries(self) -> list[Delivery]:
        self._work()
        told, self._delivered = self._delivered, []
        self._cluster.acknowledged |= {delivery.seq for delivery in told}
        return told

    def failure(self) -> Failure | None:
        self._work()
        return self._failure

    def close(self) -> None:
        if not self.closed and self._failure is None:
            self._abandon()
        self._failure = self._reason or self._failure
        self.closed = True

    def _work(self) -> None:
        """Write some batches, as many and as large as the cluster picks."""
        waiting = sum(map(len, self._queues.values()))
        for _ in range(self._cluster.pick("batches", waiting)):
            places = [place for place, queue in self._queues.items() if queue]
            if not places or self._failure is not None or self.closed or self._cluster.held:
                return
            place = places[self._cluster.pick("partition", len(places) - 1)]
            queue = self._queues[place]
            size = 1 + self._cluster.pick("batch", len(queue) - 1)
            self._batch(place, [queue.popleft() for _ in range(size)])

    def _batch(self, place: tuple[str, int], batch: list[Pending]) -> None:
        topic = self._cluster.kept[place[0]]
        large = [message.size + FRAMING > topic.max_message_bytes for message in batch]
        if self._cluster.breaking:
            self._cluster.breaking = False
            self._queues[place].extendleft(reversed(batch))  # it may have been written before the connection broke
            self._fail(Failure(batch[0].seq, "KafkaConnectionError", "reset"))
        elif topic.fault is not None:
            self._queues[place].clear()
            self._fail(Failure(batch[0].seq, "TopicError", "", paused=topic.fault))
        elif poisoned := [message for message in batch if topic.poison(message)]:
            self._queues[place].clear()
            told = Failure(poisoned[0].seq, "InvalidRecordError", "", ParkReason.RECORD_REFUSED)
            if poisoned[0] is not batch[0] and self._cluster.pick("reason too late", 1):
                self._reason, told = told, Failure(batch[0].seq, "KafkaError", "part of a batch")
            self._fail(told)
        elif any(large):  # the client splits the batch until the culprit is alone
            first = large.index(True)
            self._delivered += [self._write(place, message) for message in batch[:first]]
            self._queues[place].clear()
            reason = ParkReason.RECORD_TOO_LARGE
            self._fail(Failure(batch[first].seq, "MessageSizeTooLargeError", "too large", reason, alone=True))
        else:
            self._delivered += [self._write(place, message) for message in batch]
            self._wake()

    def _fail(self, failure: Failure) -> None:
        self._failure = failure
        self._abandon()
        self._wake()

    def _abandon(self) -> None:
        """What was under way may have been written, the first of each partition first, and nobody will hear of it."""
        for place, queue in self._queues.items():
            if self._cluster.kept[place[0]].fault is None:
                for _ in range(self._cluster.pick("unacknowledged", self._writable(place[0], queue))):
                    self._write(place, queue.popleft())

    def _writable(self, topic_name: str, queue: deque[Pending]) -> int:
        topic = self._cluster.kept[topic_name]
        for count, message in enumerate(queue):
            if topic.poison(message) or message.size + FRAMING > topic.max_message_bytes:
                return count
        return len(queue)

    def _write(self, place: tuple[str, int], message: Pending) -> Delivery:
        records = self._cluster.kept[place[0]].records[place[1]]
        headers = {name: value.decode() for name, value in unpacked(message.headers)} | {
            "journal-id": self._journal_id,
            "journal-seq": str(message.seq),
            "attempt": str(message.attempt),
        }
        records.append(Written(place[1], len(records), message.case_id, message.value, headers))
        return Delivery(message.seq, place[1], len(records) - 1, NOW)
