"""Where a reader stands in each partition, and what becomes of its places while it reads.

Kafka takes places away (retention overtakes a slow reader, a topic is deleted and made anew, a log loses its tail) and
adds others (topics, partitions). The reader goes on from the earliest record there is, and a `Notice` tells of it.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from kafka import TopicPartition
from kafka import errors as kafka

POLL_MS = 250
STOPPED_SECONDS = 1.0  # without a poll: the reader was stopped, and looks at the cluster first when it goes on
LOOK_MS = 5_000  # how old the client's picture of the cluster may be
ASK_MS = 10_000

# What is used of the client that is not public, and what would break without it (`connection.unfamiliar`).
RELIED_ON = {
    "_cluster.need_all_topic_metadata": "topics that come later would not be read",
    "_cluster.add_listener": "a topic made anew would be read from its middle",
    "_cluster.topic_id": "a topic made anew would be read from its middle",
    "_cluster.partitions_for_topic": "partitions that are added would not be read",
    "_fetcher._next_partition_records": "one record that cannot be decoded would end the reader",
}


class Change(StrEnum):
    """What happened to the places of a reader."""

    OVERTAKEN = "overtaken"  # what came next was deleted before it was read
    CUT = "cut"  # the partition ends before the place: it has lost its tail
    MADE_ANEW = "made_anew"  # the topic was deleted and made anew
    WIDENED = "widened"  # the topic has more partitions than before
    UNREADABLE = "unreadable"  # what the client cannot decode was stepped over


@dataclass(frozen=True, slots=True)
class Notice:
    """One change; the offsets from `start` up to `end`, which is not among them, will not be read."""

    what: Change
    topic: str
    partition: int | None = None
    start: int = 0
    end: int = 0
    detail: str = ""

    @property
    def skipped(self) -> int:
        """How many offsets."""
        return self.end - self.start


class Places:
    """The partitions being read; those of topics that do not exist yet are added when they do.

    The consumer must have no way of its own when a place is gone (`auto_offset_reset` "none"). Any `KafkaError` that a
    method raises ends it.
    """

    def __init__(
        self, consumer: Any, topics: Iterable[str], *, from_beginning: bool, since_ms: int | None = None
    ) -> None:
        """`since_ms`: from what was published at that moment (epoch ms) or later, not from the beginning or the end."""
        self._consumer, self._cluster = consumer, consumer._cluster
        self._topics = frozenset(topics)
        self._ids: dict[str, object] = {}
        self._notices: deque[Notice] = deque()
        self._stepped: Notice | None = None
        self._polled_at = time.monotonic()
        self._cluster.need_all_topic_metadata = True
        self._cluster.add_listener(self._looked)
        self._consumer.topics()
        self._take(from_beginning=from_beginning or since_ms is not None)
        if since_ms is not None:
            self._rewind(since_ms)

    def poll(self) -> tuple[list[Notice], dict[TopicPartition, list[Any]]]:
        """What has changed, and then the records that came, by partition; waits a quarter of a second for some."""
        if time.monotonic() - self._polled_at > STOPPED_SECONDS:
            with suppress(kafka.KafkaError):  # it cannot be asked: what comes is of what was there before
                self._consumer.topics()
        self._take(from_beginning=True)
        found = self._fetched()
        self._polled_at = time.monotonic()
        return [self._notices.popleft() for _ in range(len(self._notices))], found

    def ends(self) -> dict[TopicPartition, int]:
        """Where each partition ends now. Raises `KafkaError` when the cluster does not tell."""
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(
            list(self._consumer.assignment()), timeout_ms=ASK_MS
        )
        return ends

    def reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether everything before these has been read."""
        return all((self._at(place) or 0) >= end for place, end in ends.items() if end)

    def behind(self) -> int:
        """How many records there are that were not read yet, as far as the cluster has told."""
        ends = {place: self._consumer.highwater(place) for place in self._consumer.assignment()}
        return sum(max(0, end - (self._at(place) or 0)) for place, end in ends.items() if end is not None)

    def _at(self, place: TopicPartition) -> int | None:
        """None: it is not known yet where its reading begins."""
        with suppress(kafka.KafkaError):
            at: int | None = self._consumer.position(place, timeout_ms=POLL_MS)
            return at
        return None

    def _rewind(self, since_ms: int) -> None:
        wanted = dict.fromkeys(self._consumer.assignment(), since_ms)
        for place, found in self._consumer.offsets_for_times(wanted, timeout_ms=ASK_MS).items():
            if found is None:
                self._consumer.seek_to_end(place)
            else:
                self._consumer.seek(place, found.offset)

    def _looked(self, cluster: Any) -> None:
        """The cluster has answered. On the client's own thread, before it fetches anything by this answer."""
        for topic in self._topics & cluster.topics():
            before, now = self._ids.get(topic), cluster.topic_id(topic)
            self._ids[topic] = now
            held = [one for one in self._consumer.assignment() if one.topic == topic]
            if before not in (None, now) and held:
                self._consumer.seek_to_beginning(*held)
                self._notices.append(Notice(Change.MADE_ANEW, topic))

    def _fetched(self) -> dict[TopicPartition, list[Any]]:
        try:
            found: dict[TopicPartition, list[Any]] = self._consumer.poll(timeout_ms=POLL_MS)
        except kafka.OffsetOutOfRangeError as error:
            with suppress(kafka.KafkaTimeoutError, kafka.KafkaConnectionError):  # then the next poll comes to it again
                self._find(error.args[0])
        except kafka.LogTruncationError as error:
            self._back(error.divergent_offsets)
        except (kafka.CorruptRecordError, kafka.UnsupportedCodecError) as error:
            if not self._step_over(error):
                raise
        else:
            if self._stepped is not None:
                self._notices.append(self._stepped)
                self._stepped = None
            return found
        return {}

    def _take(self, *, from_beginning: bool) -> None:
        """Begin to read what is there and was not."""
        assigned = set(self._consumer.assignment())
        numbers = {topic: self._cluster.partitions_for_topic(topic) or () for topic in self._topics}
        there = {TopicPartition(topic, number) for topic, all_of_it in numbers.items() for number in all_of_it}
        gone = {place for place in assigned - there if numbers[place.topic]}  # of a topic made anew with fewer
        new = there - assigned
        if not new and not gone:
            return
        for topic in sorted({place.topic for place in new} & {place.topic for place in assigned}):
            before = sum(place.topic == topic for place in assigned)
            self._notices.append(Notice(Change.WIDENED, topic, detail=f"{len(numbers[topic])}, {before} before"))
        self._consumer.assign(sorted((assigned - gone) | new))
        if new:
            (self._consumer.seek_to_beginning if from_beginning else self._consumer.seek_to_end)(*new)

    def _find(self, places: Mapping[TopicPartition, int]) -> None:
        """Where to go on whose place is out of its partition's range."""
        self._consumer.topics()  # a topic made anew is known by its id, and begun anew already
        anew = {notice.topic for notice in self._notices if notice.what is Change.MADE_ANEW}
        begins = self._consumer.beginning_offsets(list(places), timeout_ms=ASK_MS)
        for place, at in places.items():
            if place.topic not in anew:
                begin = begins[place]
                what, end = (Change.OVERTAKEN, begin) if begin > at else (Change.CUT, at)
                self._consumer.seek(place, begin)
                self._notices.append(Notice(what, place.topic, place.partition, at, end))

    def _back(self, places: Mapping[TopicPartition, Any]) -> None:
        """Go back to where a partition's log is not what was read of it: the new leader lacked its tail."""
        for place, true_end in places.items():
            if true_end is None:
                self._consumer.seek_to_beginning(place)
            else:
                self._consumer.seek(place, true_end.offset)
            at = true_end.offset if true_end else 0
            self._notices.append(Notice(Change.CUT, place.topic, place.partition, at, at))

    def _step_over(self, error: kafka.KafkaError) -> bool:
        """Pass one offset that cannot be decoded. False: it is not known which.

        Of a batch the client decodes nothing from the first such record on, so this comes again for each that is left.
        A batch has one writer: of another's nothing of ours is lost.
        """
        if (part := self._consumer._fetcher._next_partition_records) is None:
            return False
        place = part.topic_partition
        at = self._consumer.position(place)
        self._consumer.seek(place, at + 1)
        last = self._stepped
        if last is not None and (last.topic, last.partition, last.end) == (place.topic, place.partition, at):
            self._stepped = replace(last, end=at + 1)
            return True
        if last is not None:
            self._notices.append(last)
        self._stepped = Notice(Change.UNREADABLE, place.topic, place.partition, at, at + 1, f"{error}"[:200])
        return True
