"""What lanes read, while others write between any two statements: every message once, in order, none left behind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ports import Outbox, Pending
from service.relay import lanes as module
from service.relay.lanes import Lanes

T = TypeVar("T")
TOPICS = ("a", "b", "c")


class Busy:
    """A journal of pending messages, that somebody appends to before and after whatever is read."""

    def __init__(self, data: st.DataObject) -> None:
        self._data, self.rows = data, list[Pending]()
        self.busy = True

    def version(self) -> int:
        return self._between(lambda: len(self.rows))

    def last(self) -> int:
        return self._between(lambda: len(self.rows))

    def pending(self, topic: str | None, after: int, limit: int) -> list[Pending]:
        return self._between(
            lambda: [one for one in self.rows if topic in (None, one.topic) and one.seq > after][:limit]
        )

    def _between(self, read: Callable[[], T]) -> T:
        self._append()
        found = read()
        self._append()
        return found

    def _append(self) -> None:
        topics = self._data.draw(st.lists(st.sampled_from(TOPICS), max_size=2)) if self.busy else []
        for topic in topics:
            self.rows.append(Pending(len(self.rows) + 1, topic, "case-1", b"", b"", 0, 1, "platform", "r-1"))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), turns=st.integers(1, 8))
def test_every_message_is_read_once_and_in_order(data: st.DataObject, turns: int) -> None:
    journal, read = Busy(data), defaultdict[str, list[int]](list)
    lanes = Lanes(cast("Outbox", journal), TOPICS)

    def hand_over(rooms: Mapping[str, int]) -> None:
        for topic, messages in lanes.read(lambda lane: rooms[lane.topic]).items():
            assert 0 < len(messages) <= rooms[topic]
            read[topic] += [one.seq for one in messages]
            lanes[topic].cursor = messages[-1].seq

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "READ_AT_ONCE", data.draw(st.integers(1, 5)))
        for _ in range(turns):
            hand_over({topic: data.draw(st.integers(-1, 4)) for topic in TOPICS})
        journal.busy = False
        for _ in range(len(journal.rows) + 2):
            hand_over(dict.fromkeys(TOPICS, 100))
            left = len(journal.rows) - sum(map(len, read.values()))
            assert not left or lanes.more or any(lane.more for lane in lanes.values())

    for topic in TOPICS:
        assert read[topic] == [one.seq for one in journal.rows if one.topic == topic]
