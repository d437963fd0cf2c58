"""The relay: the process that publishes the journal. One leader per journal, by lock; others wait as hot standby.

Per topic, messages are handed to Kafka in `seq` order within a window, so that a topic that takes nothing never
holds the others up. Three kinds of failure:

- the record's: it is parked with its reason, and the rest goes on;
- the topic's: the topic is paused and tried again, the others flow;
- anything else: settle what was delivered, build a new publisher, go on from the lowest undelivered `seq`.

All three end the publisher, so that nothing can overtake what failed; the window is what may then be sent twice.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.metrics import Bound, RelayMetrics
from service.ports import (
    EVERYTHING,
    Clock,
    Delivery,
    Failure,
    JournalFull,
    JournalUnavailable,
    Outbox,
    ParkReason,
    PauseReason,
    Pending,
    Publisher,
    PublisherBroken,
    RecordRefused,
    TopicUnavailable,
    TopicWatch,
)
from service.relay.lanes import Lane, Lanes

log = logging.getLogger(__name__)

TURN_SECONDS = 0.1  # from one turn to the next: what comes meanwhile is read, sent and settled together
BACKLOG_SECONDS = (0.005, 0.05)  # the same while more waits than the window lets through, at least and at most
STALL_SECONDS = 30.0  # nothing acknowledged for so long on a healthy topic: the publisher itself must be sick
BACKOFF_SECONDS = (0.2, 5.0)  # first and longest pause before trying again
JOURNAL_WAIT_SECONDS = 1.0
DRAIN_SECONDS = 3.0  # patience for what is in flight when asked to stop
SETTLED_AT_ONCE, GIVE_WAY_SECONDS = (128, 1000), 0.001  # messages of one transaction, and the pause between two
RECORD_OVERHEAD = 512  # bytes of framing and added headers per record, estimated generously


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """What was handed to the publisher together."""

    lane: Lane
    handed_at: float  # monotonic


class Relay:
    """Moves messages from the journal to Kafka, one `turn` after the other, all on one thread.

    `connect` builds a publisher, raising `PublisherBroken`; `wake` is set by whoever has news; `folded` tells how far
    the cases have read, beyond which a settled message must stay in the journal; `handed` is called when something was
    handed over, which they had better read by the time it is settled; `relieve` makes room on a full disk,
    telling whether there was any to make.
    """

    def __init__(
        self,
        journal: Outbox,
        connect: Callable[[], Publisher],
        watch: TopicWatch,
        metrics: RelayMetrics,
        *,
        topics: Iterable[str],
        window: int,
        wake: threading.Event,
        clock: Clock,
        folded: Callable[[], int] = lambda: EVERYTHING,
        handed: Callable[[], None] = lambda: None,
        relieve: Callable[[], bool] = lambda: False,
    ) -> None:
        self._journal, self._connect, self._watch, self._metrics = journal, connect, watch, metrics
        self._publishes, self._seconds = Bound(metrics.publishes), Bound(metrics.publish_seconds)
        self._lag = Bound(metrics.ingest_lag)
        self._lanes = Lanes(journal, topics)
        self._window, self._wake, self._clock = window, wake, clock
        self._folded, self._handed, self._relieve = folded, handed, relieve
        self._publisher: Publisher | None = None
        self._in_flight: dict[int, tuple[Flight, int]] = {}  # by seq, longest first; with when it was received
        self._rewind = True  # begin at the lowest undelivered: a publisher, ours or another leader's, was cut short
        self._unsaved: list[Delivery] = []  # acknowledged by Kafka, not yet marked in the journal
        self._last = 0  # the highest seq in the journal when that was last looked for
        self._sparing = False  # whether reports come, and not many at once
        self._kept = 0  # the highest settled seq that waits in the journal for the cases; 0: none does
        self._retry_at = self._backoff = 0.0
        self._reached_at = 0.0

    def run(self, stop: threading.Event, each_turn: Callable[[], None]) -> None:
        """Turn until `stop`, then wait a little for what is in flight. Raises `JournalError`.

        Whatever ends it, the publisher ends first: what it sent later nobody would note, and somebody send again.
        """
        try:
            while not stop.is_set():
                began, used = self._clock.monotonic(), time.thread_time()
                try:
                    self.turn()
                except (JournalFull, JournalUnavailable) as error:  # passes; the acknowledged stays in `_unsaved`
                    log.warning("journal not written", extra={"error": str(error)})
                    self._lanes.look_again()
                    if not (isinstance(error, JournalFull) and self._relieve()):
                        stop.wait(JOURNAL_WAIT_SECONDS)
                each_turn()
                self._rest(stop, began, time.thread_time() - used)
            self._land()
        finally:
            self._drop_publisher()
            self._save({})

    def _rest(self, stop: threading.Event, began: float, used: float) -> None:
        """Until the next turn is due. With a backlog that is when something was acknowledged, not at once.

        Nor before it has rested for half of the processor time that the last turn took, as the cores are for those who
        answer the platform first; where reports come a few at a time, for as long as it took.
        """
        full = any(lane.more and lane.room(self._window) <= 0 for lane in self._lanes.values())
        backlog = full or self._lanes.more
        now = self._clock.monotonic()
        least, most = BACKLOG_SECONDS
        rest = max(began + least - now, min(now - began if self._sparing else used / 2, most))
        stop.wait(rest if backlog else began + TURN_SECONDS - now)
        if backlog:
            self._wake.wait(most)
        self._wake.clear()

    def _land(self) -> None:
        end = self._clock.monotonic() + DRAIN_SECONDS
        while self._in_flight and self._clock.monotonic() < end:
            self._reap()
            self._save({})
            self._wake.wait(BACKLOG_SECONDS[0])

    def serve(self, topics: Iterable[str]) -> None:
        """Publish these topics too: a catalogue has changed, or a message of an old one was brought back."""
        for topic in topics:
            self._lanes.setdefault(topic, Lane(topic))

    def paused(self) -> dict[str, PauseReason]:
        """Topics that take nothing and why, as the cluster tells or the last try has shown."""
        found = {lane.topic: self._watch.pause(lane.topic) or lane.paused for lane in self._lanes.values()}
        return {topic: why for topic, why in found.items() if why not in (None, PauseReason.UNKNOWN)}

    def turn(self) -> None:
        """Settle what Kafka acknowledged, deal with a failure, hand over what there is room for."""
        if self._rewind:
            self._start_over()
        if self._publisher is None and self._watch.reachable and self._clock.monotonic() >= self._retry_at:
            self._build()  # not before the watch has seen the cluster: trying would hold this thread for seconds
        self._reap()
        if self._publisher is not None and (failure := self._publisher.failure() or self._stalled()) is not None:
            self._recover(failure)
        if self._publisher is not None:
            batch = self._read()
            self._save({topic: messages[-1].seq for topic, messages in batch.items()})
            if batch:
                self._hand_over(self._publisher, batch)
        self._metrics.in_flight.set(len(self._in_flight))
        self._metrics.connected.set(self._publisher is not None and self._watch.reachable)

    # ---- handing over ----

    def _build(self) -> None:
        try:
            self._publisher = self._connect()
        except PublisherBroken as error:
            log.log(
                logging.DEBUG if self._backoff else logging.WARNING, "kafka not reached", extra={"error": str(error)}
            )
            self._wait_before_building()
        else:
            log.info("publisher ready")

    def _read(self) -> dict[str, list[Pending]]:
        def room(lane: Lane) -> int:
            told = self._watch.pause(lane.topic)
            self._show(lane, told is not None or lane.paused is not None)
            paused = told is not None or self._clock.monotonic() < lane.retry_at
            return 0 if paused else lane.room(self._window)

        return self._lanes.read(room)

    def _hand_over(self, publisher: Publisher, batch: dict[str, list[Pending]]) -> None:
        try:
            for topic, messages in batch.items():
                if not self._send(publisher, self._lanes[topic], messages):
                    self._lanes.look_again()  # what was read and not handed over
                    break
        finally:  # whatever was
            publisher.push()
        self._handed()

    def _show(self, lane: Lane, paused: bool) -> None:
        if paused is not lane.shown:  # asked of every topic in every turn, and seldom news
            lane.shown = paused
            self._metrics.paused.labels(lane.topic).set(paused)

    def _send(self, publisher: Publisher, lane: Lane, messages: list[Pending]) -> bool:
        """Hand them over. False: look around first; the client had to be waited for, or has ended."""
        limit = self._watch.topics[lane.topic].max_message_bytes
        flight = Flight(lane, self._clock.monotonic())
        for message in messages:
            try:
                if message.size + RECORD_OVERHEAD > limit:
                    detail = f"{message.size} bytes, {lane.topic} takes {limit} with framing"
                    raise RecordRefused(ParkReason.RECORD_TOO_LARGE, detail)
                publisher.send(message)
            except RecordRefused as refused:
                self._park(lane, message.seq, refused.reason, refused.detail)
            except TopicUnavailable:  # missing, or Kafka is away: which it is the watch tells
                self._pause(lane, lane.paused or PauseReason.UNKNOWN)  # a new client has not heard of it: no news
                return False
            except PublisherBroken:
                return False  # the next turn finds the failure
            else:
                lane.in_flight += 1
                self._in_flight[message.seq] = flight, message.received_at
            lane.cursor = message.seq
        return True

    # ---- settling ----

    def _reap(self) -> None:
        """Take what Kafka has acknowledged: it makes room in its lane, once it is saved."""
        if self._publisher is None:
            return
        landed: defaultdict[Flight, list[float]] = defaultdict(list)
        told = self._publisher.deliveries()
        self._unsaved += told
        for one in told:
            if (found := self._in_flight.pop(one.seq, None)) is not None:
                flight, received_at = found
                landed[flight].append((one.at - received_at) / 1000)
        now = self._clock.monotonic()
        for flight, lags in landed.items():
            self._landed(flight.lane, len(lags))
            self._seconds[flight.lane.topic,].observe_all([now - flight.handed_at] * len(lags))
            self._lag[flight.lane.topic,].observe_all([max(0.0, lag) for lag in lags])

    def _landed(self, lane: Lane, count: int) -> None:
        lane.in_flight -= count
        lane.backoff = self._backoff = 0.0
        lane.paused = None
        self._publishes[lane.topic, "delivered"].inc(count)

    def _save(self, upto: dict[str, int]) -> None:
        """What was acknowledged, a few at a time as intake waits; with the last, what is about to be handed over."""
        if self._unsaved:
            self._unsaved.sort()  # as they lie in the journal, so that a transaction changes few pages
            most = self._at_once()
            while len(self._unsaved) > most:
                self._settle({}, self._unsaved[:most], self._folded())
                self._clock.sleep(GIVE_WAY_SECONDS)  # or who waits for the journal wakes to find it held again
        folded = self._folded()
        if self._unsaved or upto or 0 < self._kept <= folded:
            self._settle(upto, self._unsaved[:], folded)

    def _at_once(self) -> int:
        """Few, as intake waits meanwhile; many where nobody came since, or whoever came brought as many."""
        (few, many), last = SETTLED_AT_ONCE, self._journal.last()
        came, self._last = last - self._last, last
        self._sparing = 0 < came < many
        return few if self._sparing else many

    def _settle(self, upto: dict[str, int], settled: list[Delivery], folded: int) -> None:
        """One transaction."""
        self._journal.hand_over(upto, settled, folded)
        del self._unsaved[: len(settled)]
        highest = max(self._kept, settled[-1].seq if settled else 0)
        self._kept = highest if highest > folded else 0

    # ---- failing ----

    def _recover(self, failure: Failure) -> None:
        if (told := self._drop_publisher()) is not None and told.explained:
            failure = told  # the client had not come to the reason yet
        self._rewind = True
        lane = self._lane_of(failure.seq)
        fault = "producer"
        if lane is not None and failure.seq is not None and failure.refused is not None:
            fault = "record"
            self._refuse(lane, failure.seq, failure.refused, failure)
        elif lane is not None and failure.paused is not None:
            fault = "topic"
            self._pause(lane, failure.paused)
        else:
            self._wait_before_building()
        for name in [lane.topic] if lane else self._lanes:
            self._metrics.errors.labels(name, fault).inc()
        log.warning("publisher ended", extra={"fault": fault, "error": failure.error, "detail": failure.detail})

    def _start_over(self) -> None:
        self._save({})  # first, or what was delivered would be read as pending
        self._journal.reattempt()
        self._in_flight.clear()
        self._lanes.rewind()
        self._rewind = False

    def _refuse(self, lane: Lane, seq: int, reason: ParkReason, failure: Failure) -> None:
        if failure.alone or lane.cursor <= lane.single_upto:
            self._park(lane, seq, reason, failure.detail)
        else:
            lane.single_upto = max(seq for seq, (flight, _) in self._in_flight.items() if flight.lane is lane)

    def _park(self, lane: Lane, seq: int, reason: ParkReason, detail: str) -> None:
        self._journal.park(seq, reason, detail, int(self._clock.time() * 1000))
        self._publishes[lane.topic, "parked"].inc()
        log.error("message parked", extra={"seq": seq, "topic": lane.topic, "reason": reason.value, "detail": detail})

    def _pause(self, lane: Lane, reason: PauseReason) -> None:
        lane.backoff = min(max(lane.backoff * 2, BACKOFF_SECONDS[0]), BACKOFF_SECONDS[1])
        lane.retry_at = self._clock.monotonic() + lane.backoff
        lane.more = True
        lane.paused = reason
        log.warning("topic paused", extra={"topic": lane.topic, "reason": reason.value, "seconds": lane.backoff})

    def _stalled(self) -> Failure | None:
        now = self._clock.monotonic()
        if not self._watch.reachable:
            self._reached_at = now
            return None  # the client itself waits for the cluster, and keeps order and sequence numbers meanwhile
        for flight, _ in self._in_flight.values():
            waited = now - max(self._reached_at, flight.handed_at)
            if waited <= STALL_SECONDS:
                return None  # and those behind it are younger
            if self._watch.pause(flight.lane.topic) is None:
                return Failure(None, "Stalled", f"{flight.lane.topic}: nothing acknowledged for {waited:.0f} s")
        return None

    def _drop_publisher(self) -> Failure | None:
        """Close it and take what it still tells of deliveries, and of why it failed."""
        if (publisher := self._publisher) is None:
            return None
        publisher.close()
        self._reap()
        self._publisher = None
        return publisher.failure()

    def _wait_before_building(self) -> None:
        self._backoff = min(max(self._backoff * 2, BACKOFF_SECONDS[0]), BACKOFF_SECONDS[1])
        self._retry_at = self._clock.monotonic() + self._backoff

    def _lane_of(self, seq: int | None) -> Lane | None:
        found = self._in_flight.get(seq) if seq is not None else None
        return found[0].lane if found else None
