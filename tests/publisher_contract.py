"""What every publisher does, whatever it publishes to. The fake and the real one both pass this suite.

A subclass gives the fixture `target`; pytest then runs the inherited tests on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import pytest

from service.ports import (
    Delivery,
    ParkReason,
    Pending,
    Publisher,
    PublisherBroken,
    RecordRefused,
    TopicUnavailable,
)

JOURNAL_ID = "journal-of-the-suite"
PARTITIONS = 3
PATIENCE = 120.0  # seconds for news from a real broker on a busy machine


@dataclass(frozen=True, slots=True)
class Written:
    """One record as a topic holds it."""

    partition: int
    offset: int
    key: str
    value: bytes
    headers: dict[str, str]

    @property
    def seq(self) -> int:
        return int(self.headers["journal-seq"])


class Keyless(str):
    """The case id of a record without a key, the one that a stock broker calls invalid: on a compacted topic."""

    def encode(self, *_: object) -> None:  # type: ignore[override]
        return None


class Target(Protocol):
    """What the suite needs of the place that is published to."""

    def topic(self, *, max_message_bytes: int = 1_048_588) -> str:
        """Make a topic of three partitions and return its name."""

    def compacted(self) -> str:
        """Make a topic that refuses a record without a key, with its batch; the key "" has the same partition."""

    def missing(self) -> str:
        """The name of no topic."""

    def publisher(self, wake: Callable[[], None]) -> Publisher:
        """A new publisher for the journal `JOURNAL_ID`; the fixture closes it."""

    def records(self, topic: str) -> list[Written]:
        """Everything a topic holds, by partition and offset."""


def pending(seq: int, topic: str, case_id: str = "case-1", *, value: bytes = b"{}", attempt: int = 1) -> Pending:
    headers = b"1.0\nr-%d\nplatform" % seq
    return Pending(seq, topic, case_id, headers, value, 1_604_448_000_000, attempt, "platform", f"r-{seq}")


class Hand:
    """One publisher, and the patience to hear from it."""

    def __init__(self, target: Target) -> None:
        self._news = threading.Event()
        self.publisher = target.publisher(self._news.set)
        self.delivered: list[Delivery] = []

    def send(self, messages: Iterable[Pending]) -> None:
        """As the relay does: a topic that the client has not heard of yet is asked for again."""
        end = time.monotonic() + PATIENCE
        for message in messages:
            while not self._sent(message):
                assert time.monotonic() < end, f"{message.topic} is not heard of"
        self.publisher.push()

    def _sent(self, message: Pending) -> bool:
        try:
            self.publisher.send(message)
        except TopicUnavailable:
            return False
        return True

    def hear(self, enough: Callable[[], object], what: str) -> None:
        """Gather deliveries until `enough`."""
        while True:
            self.delivered += self.publisher.deliveries()
            if enough():
                return
            assert self._news.wait(PATIENCE), f"no news while waiting for {what}"
            self._news.clear()

    def settle(self, count: int) -> list[Delivery]:
        """The deliveries, once there are `count` of them."""
        self.hear(lambda: len(self.delivered) >= count or self.publisher.failure(), f"{count} deliveries")
        assert self.publisher.failure() is None
        return self.delivered

    def fail(self) -> None:
        """Wait for the failure, then close, which makes the deliveries final."""
        self.hear(self.publisher.failure, "the failure")
        self.close()

    def close(self) -> None:
        self.publisher.close()
        self.delivered += self.publisher.deliveries()

    @property
    def seqs(self) -> list[int]:
        return sorted(delivery.seq for delivery in self.delivered)


class PublisherContract:
    """The suite."""

    @pytest.fixture
    def hand(self, target: Target) -> Iterable[Hand]:
        hand = Hand(target)
        yield hand
        hand.publisher.close()

    def test_a_delivery_says_where_the_message_is(self, target: Target, hand: Hand) -> None:
        topic = target.topic()
        hand.send(pending(seq, topic, f"case-{seq % 7}") for seq in range(1, 61))

        delivered = hand.settle(60)

        assert {(one.seq, one.partition, one.offset) for one in delivered} == {
            (one.seq, one.partition, one.offset) for one in target.records(topic)
        }
        assert hand.seqs == list(range(1, 61))
        assert all(one.at > 1_577_836_800_000 for one in delivered)

    def test_order_is_kept_per_key(self, target: Target, hand: Hand) -> None:
        topic = target.topic()
        hand.send(pending(seq, topic, f"case-{seq % 5}") for seq in range(1, 101))
        hand.settle(100)

        by_key: dict[str, list[int]] = {}
        for record in target.records(topic):
            by_key.setdefault(record.key, []).append(record.seq)

        assert by_key == {f"case-{n}": [s for s in range(1, 101) if s % 5 == n] for n in range(5)}

    def test_a_key_stays_in_its_partition(self, target: Target, hand: Hand) -> None:
        topic = target.topic()
        hand.send(pending(seq, topic, f"case-{seq % 9}") for seq in range(1, 91))
        hand.settle(90)

        places = {(record.key, record.partition) for record in target.records(topic)}

        assert len(places) == 9
        assert len({partition for _, partition in places}) > 1

    def test_a_record_is_the_message_with_its_place_in_the_journal(self, target: Target, hand: Hand) -> None:
        topic = target.topic()
        hand.send([pending(41, topic, "case-9", value='{"a": "井盖"}'.encode(), attempt=3)])
        hand.settle(1)

        [record] = target.records(topic)

        assert (record.key, record.value) == ("case-9", '{"a": "井盖"}'.encode())
        assert record.headers == {
            "ce_specversion": "1.0",
            "ce_id": "r-41",
            "ce_source": "platform",
            "journal-id": JOURNAL_ID,
            "journal-seq": "41",
            "attempt": "3",
        }

    def test_deliveries_are_told_once(self, target: Target, hand: Hand) -> None:
        topic = target.topic()
        hand.send([pending(1, topic)])
        hand.settle(1)

        assert hand.publisher.deliveries() == []
        assert hand.publisher.failure() is None

    def test_one_publisher_serves_many_topics(self, target: Target, hand: Hand) -> None:
        first, second = target.topic(), target.topic()
        hand.send(pending(seq, first if seq % 2 else second) for seq in range(1, 21))
        hand.settle(20)

        assert [record.seq for record in target.records(first)] == list(range(1, 21, 2))
        assert [record.seq for record in target.records(second)] == list(range(2, 21, 2))

    def test_nothing_is_delivered_after_the_record_that_the_topic_refuses(self, target: Target, hand: Hand) -> None:
        topic = target.topic(max_message_bytes=2_000)
        small, large = b'"' + b"s" * 100 + b'"', b'"' + b"l" * 4_000 + b'"'
        hand.send(pending(seq, topic, value=large if seq == 4 else small) for seq in range(1, 8))

        hand.fail()

        failure = hand.publisher.failure()
        assert failure is not None
        assert (failure.seq, failure.refused, failure.alone) == (4, ParkReason.RECORD_TOO_LARGE, True)
        assert failure.paused is None
        assert hand.seqs == [1, 2, 3]
        assert [record.seq for record in target.records(topic)] == [1, 2, 3]

    @pytest.mark.parametrize("seqs", [(1, 2, 3), (2,)])
    def test_a_record_that_the_broker_refuses_is_a_records_fault(
        self, target: Target, hand: Hand, seqs: tuple[int, ...]
    ) -> None:
        topic = target.compacted()
        hand.send(pending(seq, topic, Keyless() if seq == 2 else "") for seq in seqs)

        hand.fail()

        failure = hand.publisher.failure()
        assert failure is not None
        assert (failure.seq, failure.refused) == (2, ParkReason.RECORD_REFUSED)
        assert (failure.alone, failure.paused) == (False, None)
        assert hand.seqs == []
        assert target.records(topic) == []

    def test_after_a_failure_it_takes_nothing_more(self, target: Target, hand: Hand) -> None:
        narrow, wide = target.topic(max_message_bytes=2_000), target.topic()
        hand.send([pending(1, narrow, value=b"l" * 4_000)])
        hand.fail()

        with pytest.raises(PublisherBroken):
            hand.publisher.send(pending(2, wide))

        assert hand.publisher.deliveries() == []
        assert target.records(wide) == []

    def test_a_record_that_no_topic_could_take_is_refused_at_once(self, target: Target, hand: Hand) -> None:
        topic = target.topic()
        hand.send([pending(1, topic)])

        with pytest.raises(RecordRefused) as refused:
            hand.publisher.send(pending(2, topic, value=b"l" * 2_000_000))
        hand.send([pending(3, topic)])

        assert refused.value.reason is ParkReason.RECORD_TOO_LARGE
        hand.settle(2)
        assert hand.seqs == [1, 3]

    def test_a_missing_topic_takes_nothing_and_stops_nobody(self, target: Target, hand: Hand) -> None:
        topic = target.topic()

        with pytest.raises(TopicUnavailable):
            hand.publisher.send(pending(1, target.missing()))
        hand.send([pending(2, topic)])

        hand.settle(1)
        assert hand.seqs == [2]

    def test_what_is_closed_takes_and_delivers_nothing_more(self, target: Target, hand: Hand) -> None:
        topic = target.topic()
        hand.send(pending(seq, topic) for seq in range(1, 41))

        hand.close()

        assert hand.publisher.deliveries() == []
        with pytest.raises(PublisherBroken):
            hand.publisher.send(pending(41, topic))
        written = [record.seq for record in target.records(topic)]
        assert hand.seqs == written[: len(hand.seqs)]
        assert written == list(range(1, len(written) + 1))

    def test_closing_again_does_nothing(self, target: Target, hand: Hand) -> None:
        hand.send([pending(1, target.topic())])
        hand.settle(1)

        hand.publisher.close()
        hand.publisher.close()

        assert hand.publisher.deliveries() == []
