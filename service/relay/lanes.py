"""The topics' ways to Kafka, and what of the journal is to be handed over next.

Most lanes are level: all that the journal held when it was last read has been handed over. What comes for them is read
in one statement for all. A lane that is behind (no room, paused, begun anew) is read by itself, as far as it has room.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.ports import Outbox, PauseReason, Pending

READ_AT_ONCE = 1000  # messages, for all level lanes together


@dataclass(slots=True)
class Lane:
    """One topic's way to Kafka."""

    topic: str
    cursor: int = 0  # the highest seq handed over
    more: bool = True  # the journal may hold messages beyond the cursor: the lane is not level
    in_flight: int = 0  # messages handed over and not settled
    single_upto: int = 0  # one at a time up to this seq, to find the record that Kafka refuses
    retry_at: float = 0.0
    backoff: float = 0.0
    paused: PauseReason | None = None  # what the last try has shown, until something is delivered
    shown: bool | None = None  # whether the metrics tell it as paused; None: they have not been told

    def room(self, window: int) -> int:
        """How many more messages may be handed over."""
        return (1 if self.cursor < self.single_upto else window) - self.in_flight

    def rewind(self) -> None:
        """Start again from the lowest message that is still pending."""
        self.cursor, self.more, self.in_flight = 0, True, 0


class Lanes(dict[str, Lane]):
    """Every topic's lane, by topic. Whoever reads hands over all of it, or calls `look_again`."""

    def __init__(self, journal: Outbox, topics: Iterable[str]) -> None:
        super().__init__((topic, Lane(topic)) for topic in topics)
        self._journal = journal
        self.more = False  # whether the journal holds more for level lanes than was read at once
        self._level_upto = 0  # no level lane lacks anything up to this seq
        self._version = -1

    def look_again(self) -> None:
        """Something that was read was not handed over."""
        for lane in self.values():
            lane.more = True

    def rewind(self) -> None:
        """Start again from the lowest messages that are still pending."""
        for lane in self.values():
            lane.rewind()

    def read(self, room: Callable[[Lane], int]) -> dict[str, list[Pending]]:
        """What to hand over next, by topic, in seq order: in no lane more than there is `room`."""
        rooms = {lane.topic: room(lane) for lane in self.values()}
        behind = [lane for lane in self.values() if lane.more]
        batch = self._news({topic: room for topic, room in rooms.items() if not self[topic].more})
        for lane in behind:  # after the news, or what came between would be in neither
            if (most := rooms[lane.topic]) > 0:
                messages = self._journal.pending(lane.topic, lane.cursor, most)
                lane.more = len(messages) == most
                if messages:
                    batch[lane.topic] = messages
        return batch

    def _news(self, rooms: dict[str, int]) -> dict[str, list[Pending]]:
        """What came for level lanes; one that has no room for all of it falls behind."""
        self.more = False
        if (version := self._journal.version()) == self._version:
            return {}
        if not rooms:  # asked before those that are behind are read: what comes later is beyond it
            self._level_upto, self._version = self._journal.last(), version
            return {}
        came, batch = self._journal.pending(None, self._level_upto, READ_AT_ONCE), dict[str, list[Pending]]()
        by_topic: defaultdict[str, list[Pending]] = defaultdict(list)
        for message in came:
            by_topic[message.topic].append(message)
        for topic, messages in by_topic.items():
            if topic in rooms:
                lane, most = self[topic], max(0, rooms[topic])
                news = messages if messages[0].seq > lane.cursor else [one for one in messages if one.seq > lane.cursor]
                lane.more = len(news) > most
                if news[:most]:
                    batch[topic] = news[:most]
        if came:
            self._level_upto = came[-1].seq
        self.more = len(came) == READ_AT_ONCE
        if not self.more:
            self._version = version
        return batch
