"""Where a member of the group stands in each of its partitions: where its database says, whatever Kafka thinks."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka import errors as kafka
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import OffsetAndMetadata

from .database import Database
from .ledger import GAP, Aside, Ledger, Seat

log = logging.getLogger("gridgov_consumer")

POLL_MS = 250
ASK_MS = 10_000


@dataclass(frozen=True, slots=True)
class Risen:
    """The seats that a member left to work, and after which rebalance."""

    seats: dict[TopicPartition, Seat]
    rebalance: int


class Places:
    """The partitions of a member of the group that `consumer` is, or is about to enter with `listener`.

    It sits in a place once it knows from the database where to read on. Whatever may have moved it makes it rise.
    """

    def __init__(self, consumer: Any, database: Database, ledger: Ledger, counted: Counter[str]) -> None:
        """`counted["gaps"]` is how many offsets will not be read."""
        self._consumer, self._database, self._ledger, self._counted = consumer, database, ledger, counted
        self._seats: dict[TopicPartition, Seat] = {}  # the client's own thread takes some away: `_Rebalances`
        self.listener = _Rebalances(self._seats)

    def fetched(self) -> dict[TopicPartition, list[Any]]:
        """The records that have come for seats of this member; waits a quarter of a second for some."""
        found = self._polled()
        risen = self.rise(found)  # whoever cannot be asked leaves none sitting behind what was fetched
        told = self._told(found)
        same = {at: seat for at, seat in risen.seats.items() if not _differ(told.get(at.topic, ""), seat.topic_id)}
        self.sit_again(risen, same)
        for place, seat in list(self._seats.items()):
            if self._is_anew(place, seat):
                self._seats.pop(place, None)
        return {place: records for place, records in found.items() if place in self._seats}

    def _told(self, fetched: Iterable[TopicPartition]) -> dict[str, str]:
        """The ids of these topics, asked after their records came, where they came from.

        The client fetches by name, and its picture of the cluster may be older than a topic made anew under it. Later
        reports of the new one worked in as the old one's would move the marks past its earlier ones: those were lost.
        """
        leaders: defaultdict[int, set[str]] = defaultdict(set)
        for place in fetched:
            leaders[self._consumer._cluster.leader_for_partition(place)].add(place.topic)
        told: dict[str, str] = {}
        for leader, names in leaders.items():
            topics = [MetadataRequest.MetadataRequestTopic(name=name) for name in sorted(names)]
            request = MetadataRequest(topics=topics, allow_auto_topic_creation=False)
            answer = self._consumer._net.run(self._consumer._manager.send, request, leader)
            told |= {topic.name: str(topic.topic_id or "") for topic in answer.topics if not topic.error_code}
        if any(_differ(topic_id, self._topic_id(name)) for name, topic_id in told.items()):
            self._consumer._cluster.request_update()
        return told

    def rise(self, places: Iterable[TopicPartition]) -> Risen:
        """Leave these seats to work: whoever fails then has none, and asks the database where it stands."""
        number = self.listener.number
        return Risen({place: seat for place in sorted(places) if (seat := self._seats.pop(place, None))}, number)

    def sit_again(self, risen: Risen, after: dict[TopicPartition, Seat]) -> None:
        """Take the seats again, at their new places, if none was given away meanwhile."""
        if risen.rebalance == self.listener.number:
            self._seats.update(after)

    def _polled(self) -> dict[TopicPartition, list[Any]]:
        try:
            found: dict[TopicPartition, list[Any]] = self._consumer.poll(timeout_ms=POLL_MS)
            return found
        except kafka.NoOffsetForPartitionError:
            pass  # new to the group: the database says where to begin
        except kafka.OffsetOutOfRangeError as error:
            for place in error.args[0]:
                self._jump(place)
        except kafka.LogTruncationError as error:
            for place, true_end in error.divergent_offsets.items():
                self._jump(place, true_end.offset if true_end else None)
        except (kafka.CorruptRecordError, kafka.UnsupportedCodecError) as error:
            self._step_over(error)
        return {}

    def sit_down(self) -> None:
        """Go to where the database stands, in every partition that was given to this member since the last turn."""
        new = [place for place in self._consumer.assignment() if place not in self._seats]
        if not new:
            return
        changes = self.listener.number
        seats = self._known(new)
        if begun := [place for place in new if place not in seats]:
            self._begin(begun)
            seats |= self._known(begun)
        if changes == self.listener.number:
            for place, seat in seats.items():
                self._consumer.seek(place, seat.at)
                self._seats[place] = seat

    def _known(self, places: list[TopicPartition]) -> dict[TopicPartition, Seat]:
        """Where the database stands; it knows nothing of a topic that was made anew."""
        with self._database.transaction() as cursor:
            found = {place: self._ledger.seat(cursor, tuple(place)) for place in places}
        return {place: seat for place, seat in found.items() if seat and not self._is_anew(place, seat)}

    def _begin(self, places: list[TopicPartition]) -> None:
        """At the beginning of each. Where a topic was made anew its offsets mean something else; seqs do not."""
        begins = self._consumer.beginning_offsets(places, timeout_ms=ASK_MS)
        with self._database.transaction() as cursor:
            for place in places:
                topic_id = self._topic_id(place.topic)
                self._ledger.begin(cursor, tuple(place), Seat(topic_id, begins[place]))
                before = self._ledger.seat(cursor, tuple(place))
                if before is not None and self._is_anew(place, before):
                    self._ledger.move(cursor, tuple(place), Seat(topic_id, begins[place]))
                    why = f"the topic was made anew as {topic_id}; what the old one held from here on is gone"
                    self._note(cursor, Aside(tuple(place), before.at, before.at, GAP, why))

    def _is_anew(self, place: TopicPartition, seat: Seat) -> bool:
        """Whether it is another topic of the same name, as far as the client knows."""
        return _differ(self._topic_id(place.topic), seat.topic_id)

    def _topic_id(self, topic: str) -> str:
        return str(self._consumer._cluster.topic_id(topic) or "")

    def _jump(self, place: TopicPartition, to: int | None = None) -> None:
        """Go on at `to`, or where the log begins: what was to come next is not there any more."""
        seat = self._seats.pop(place, None)
        if seat is None:
            return  # its place was Kafka's, which does not count
        if to is None:
            to = self._consumer.beginning_offsets([place], timeout_ms=ASK_MS)[place]
        if to > seat.at:
            gap = Aside(tuple(place), seat.at, to - 1, GAP, "deleted before it was read")
        else:
            why = f"the log has lost its tail; reading on at {to}"  # nobody knows how many there were
            gap = Aside(tuple(place), seat.at, seat.at, GAP, why)
        self._move(place, seat, to, gap)

    def _step_over(self, error: kafka.KafkaError) -> None:
        """Pass one offset that the client cannot decode. Raises the error when it is not known which."""
        part = getattr(self._consumer._fetcher, "_next_partition_records", None)
        if part is None:
            raise error
        place = part.topic_partition
        at = self._consumer.position(place)
        seat = self._seats.pop(place, None)
        if seat is not None:
            self._move(place, seat, at + 1, Aside(tuple(place), at, at, GAP, f"cannot be decoded: {error}"))

    def _move(self, place: TopicPartition, seat: Seat, to: int, gap: Aside) -> None:
        with self._database.transaction() as cursor:
            if self._ledger.stands(cursor, tuple(place), seat):
                self._ledger.move(cursor, tuple(place), Seat(seat.topic_id, to))
                self._note(cursor, gap)
        self._counted["gaps"] += gap.last - gap.first + 1

    def _note(self, cursor: Any, gap: Aside) -> None:
        log.warning("gap", extra={"place": gap.place, "first": gap.first, "last": gap.last, "reason": gap.reason})
        self._ledger.set_aside(cursor, [gap], now())

    # ---- what others look at ----

    def lag(self) -> dict[tuple[str, int], int]:
        """Records not worked in yet, by place, as far as the cluster has told."""
        found = {}
        for place, seat in dict(self._seats).items():
            with suppress(kafka.IllegalStateError):  # taken away this very moment
                if (end := self._consumer.highwater(place)) is not None:
                    found[tuple(place)] = max(0, end - seat.at)
        return found

    def assigned(self) -> int:
        """How many partitions Kafka has given to this member."""
        return len(self._consumer.assignment())

    def offsets(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """As Kafka wants them committed."""
        return {place: OffsetAndMetadata(seat.at, "", -1) for place, seat in dict(self._seats).items()}


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """Gets up from every place that is given or taken; `Places` sits down anew, where the database says."""

    def __init__(self, seats: dict[TopicPartition, Seat]) -> None:
        self._seats = seats
        self.number = 0

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._get_up(revoked)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._get_up(assigned)

    def _get_up(self, places: Iterable[TopicPartition]) -> None:
        self.number += 1
        for place in places:
            self._seats.pop(place, None)


def _differ(one: str, other: str) -> bool:
    """Whether these are the ids of two topics; a cluster that tells none cannot show it."""
    return bool(one and other and one != other)


def now() -> str:
    """The time of day, as the tables have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
