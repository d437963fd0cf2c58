"""The fake publisher keeps the contract of the real one; what the other tests prove with it then means something."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from tests.publisher_contract import JOURNAL_ID, Hand, Keyless, PublisherContract, Target, Written, pending
from tests.unit.fake_publisher import FakeKafka, FakePublisher, FakeTopic


class Memory:
    """A cluster in memory as the suite's target."""

    def __init__(self) -> None:
        self.cluster = FakeKafka()
        self._numbers = count()

    def topic(self, *, max_message_bytes: int = 1_048_588) -> str:
        name = f"topic-{next(self._numbers)}"
        self.cluster.add(name, FakeTopic(max_message_bytes))
        return name

    def compacted(self) -> str:
        name = self.topic()
        self.cluster.kept[name].poison = lambda message: isinstance(message.case_id, Keyless)
        return name

    def missing(self) -> str:
        return "missing"

    def publisher(self, wake: Callable[[], None]) -> FakePublisher:
        return FakePublisher(self.cluster, JOURNAL_ID, wake)

    def records(self, topic: str) -> list[Written]:
        return self.cluster.records(topic)


class TestFakePublisher(PublisherContract):
    @pytest.fixture
    def target(self) -> Target:
        return Memory()


def test_an_unacknowledged_message_may_have_been_written() -> None:
    memory = Memory()
    memory.cluster.pick = lambda what, most: most if what == "unacknowledged" else 0
    topic = memory.topic()
    hand = Hand(memory)
    hand.send(pending(seq, topic) for seq in (1, 2, 3))

    hand.close()

    assert hand.seqs == []
    assert [record.seq for record in memory.records(topic)] == [1, 2, 3]
