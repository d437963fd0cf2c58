"""The relay, turn by turn, on a real journal and a cluster in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.journal.journal import SqliteJournal
from service.metrics import relay_metrics
from service.ports import Delivery, JournalBroken, JournalUnavailable, PauseReason, State, Totals
from service.relay import relay as module
from service.relay.relay import Relay
from tests.unit.fake_publisher import NOW, FakeKafka, FakePublisher, plain
from tests.unit.messages import message
from tests.unit.test_journal import append

A, B = "topic-a", "topic-b"
WINDOW = 5


class Clock:
    """The relay's clock; only a test moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return NOW / 1000

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds
        self.meanwhile()

    def meanwhile(self) -> None:
        """What others do when the relay gives way."""


class Stage:
    """A relay between a journal on disk and a cluster in memory."""

    def __init__(self, journal: SqliteJournal, clock: Clock, window: int = WINDOW) -> None:
        self.journal, self.clock = journal, clock
        self.cluster = FakeKafka()
        self.a, self.b = self.cluster.add(A), self.cluster.add(B)
        self.registry = CollectorRegistry()
        self.handed = 0  # how often it was told that something was handed over
        self.relay = Relay(
            journal,
            lambda: FakePublisher(self.cluster, journal.journal_id, lambda: None),
            self.cluster,
            relay_metrics(self.registry, [A, B]),
            topics=[A, B],
            window=window,
            wake=threading.Event(),
            clock=clock,
            handed=self._note,
        )

    def _note(self) -> None:
        self.handed += 1

    def give(self, *numbers: int, topic: str = A, value: bytes = b"{}") -> None:
        """Append reports r-<number>, three cases in turn."""
        append(self.journal, *[message(f"r-{n}", case_id=f"c-{n % 3}", topic=topic, value=value) for n in numbers])

    def turn(self, times: int = 1, *, seconds: float = 0.0) -> None:
        for _ in range(times):
            self.relay.turn()
            self.clock.now += seconds

    def written(self, topic: str = A) -> list[int]:
        return sorted(record.seq for record in self.cluster.records(topic))

    def in_flight(self) -> float:
        return self.value("gridgov_kafka_in_flight_messages")

    def value(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(name, labels)
        assert found is not None, name
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stage(tmp_path: Path, clock: Clock) -> Iterator[Stage]:
    journal = SqliteJournal(tmp_path, limit=1 << 24, flush=False)
    yield Stage(journal, clock)
    journal.close()


# ---- handing over and settling ----


def test_what_is_pending_is_published_and_settled(stage: Stage) -> None:
    stage.give(1, 2, 3)

    stage.turn(2)

    assert stage.written() == [1, 2, 3]
    assert stage.journal.totals().settled == 3
    record = stage.cluster.records(A)[0]
    receipt = stage.journal.receipt("platform", record.headers["ce_id"])
    assert receipt is not None
    assert (receipt.state, receipt.partition, receipt.offset) == (State.SETTLED, record.partition, record.offset)


def test_the_window_is_kept_per_topic(stage: Stage) -> None:
    stage.cluster.held = True
    stage.give(*range(1, 20))
    stage.give(*range(20, 23), topic=B)

    stage.turn(4)

    assert stage.in_flight() == WINDOW + 3
    stage.cluster.held = False
    stage.turn()
    stage.cluster.held = True
    stage.turn(3)
    assert (len(stage.written()), len(stage.written(B))) == (WINDOW, 3)
    assert stage.in_flight() == WINDOW


def test_whoever_reads_along_is_told_when_something_was_handed_over(stage: Stage) -> None:
    stage.turn(2)
    assert stage.handed == 0

    stage.give(1, 2)
    stage.turn(3)

    assert stage.handed == 1


def test_messages_that_come_later_are_found(stage: Stage) -> None:
    stage.turn(3)
    stage.give(1)
    stage.turn(2)
    stage.give(2)
    stage.turn(2)

    assert stage.written() == [1, 2]


def test_a_backlog_many_windows_long_drains_in_order(stage: Stage) -> None:
    stage.give(*range(1, 41))

    stage.turn(20)

    assert stage.written() == list(range(1, 41))
    assert [record.headers["attempt"] for record in stage.cluster.records(A)] == ["1"] * 40


def test_what_was_delivered_is_counted(stage: Stage) -> None:
    stage.give(1, 2)

    stage.turn(2)

    assert stage.value("gridgov_kafka_publishes_total", topic=A, outcome="delivered") == 2
    assert stage.value("gridgov_ingest_lag_seconds_count", topic=A) == 2
    assert stage.value("gridgov_ingest_lag_seconds_sum", topic=A) == 2.0  # NOW of the cluster is a second later
    assert stage.value("gridgov_kafka_connected") == 1


# ---- a topic that takes nothing ----


def test_a_paused_topic_holds_nobody_up(stage: Stage) -> None:
    stage.a.missing = True
    stage.cluster.look()
    stage.give(1, 2)
    stage.give(3, 4, topic=B)

    stage.turn(3)

    assert (stage.written(A), stage.written(B)) == ([], [3, 4])
    assert stage.relay.paused() == {A: PauseReason.MISSING}
    assert stage.value("gridgov_kafka_topic_paused", topic=A) == 1
    assert stage.value("gridgov_kafka_topic_paused", topic=B) == 0
    assert len(stage.cluster.publishers) == 1


def test_a_topic_that_comes_back_goes_on_in_order(stage: Stage) -> None:
    stage.a.denied = True
    stage.cluster.look()
    stage.give(1, 2)
    stage.turn(3)

    stage.a.denied = False
    stage.cluster.look()
    stage.turn(2)

    assert stage.written() == [1, 2]
    assert stage.value("gridgov_kafka_topic_paused", topic=A) == 0


def test_a_topic_that_vanishes_before_anybody_noticed_is_tried_again_later(stage: Stage) -> None:
    stage.a.missing = True  # the watch has not looked yet
    stage.give(1, 2)
    stage.give(3, topic=B)

    stage.turn(3)
    assert (stage.written(A), stage.written(B)) == ([], [3])
    assert stage.relay.paused() == {}  # nobody has said that it is missing: the client may have lost Kafka
    stage.cluster.look()
    assert stage.relay.paused() == {A: PauseReason.MISSING}
    stage.a.missing = False
    stage.cluster.look()
    stage.turn(3)
    assert stage.written(A) == []
    assert stage.relay.paused() == {}
    assert stage.value("gridgov_kafka_topic_paused", topic=A) == 1
    stage.turn(3, seconds=10)

    assert stage.written(A) == [1, 2]
    assert stage.relay.paused() == {}
    assert len(stage.cluster.publishers) == 1


def test_no_turn_waits_for_the_client_more_than_once(stage: Stage) -> None:
    stage.a.missing = stage.b.missing = True  # a client that knows no topic yet: each takes half a second to say so
    stage.give(1)
    stage.give(2, topic=B)

    def shown() -> float:  # as of the turn before
        return sum(stage.value("gridgov_kafka_topic_paused", topic=topic) for topic in (A, B))

    stage.turn(2)
    assert shown() == 1
    stage.turn()
    assert shown() == 2


def test_a_topic_that_refuses_what_was_sent_pauses_alone(stage: Stage) -> None:
    stage.cluster.held = True
    stage.give(1, 2)
    stage.give(3, topic=B)
    stage.turn()
    stage.a.denied = True

    stage.cluster.held = False
    stage.turn(4)

    assert (stage.written(A), stage.written(B)) == ([], [3])
    assert stage.value("gridgov_kafka_publish_errors_total", topic=A, error="topic") == 1
    assert stage.value("gridgov_kafka_publish_errors_total", topic=B, error="topic") == 0
    stage.a.denied = False
    stage.turn(3, seconds=10)
    assert stage.written(A) == [1, 2]


def test_why_a_topic_pauses_is_told_until_it_takes_something(stage: Stage) -> None:
    stage.a.denied = True  # the watch has not looked yet: what was sent was refused
    stage.give(1)
    stage.turn(3)
    assert stage.relay.paused() == {A: PauseReason.UNAUTHORISED}

    stage.cluster.pick = lambda what, most: most if what == "metadata too late" else plain(what, most)
    stage.turn(3, seconds=10)
    assert stage.relay.paused() == {A: PauseReason.UNAUTHORISED}
    stage.a.denied = False
    stage.cluster.pick = plain
    stage.turn(3, seconds=10)

    assert (stage.written(A), stage.relay.paused()) == ([1], {})


def test_a_topic_nobody_described_yet_waits(stage: Stage) -> None:
    del stage.cluster.topics[A]
    stage.give(1)

    stage.turn(2)

    assert stage.written() == []
    assert stage.value("gridgov_kafka_topic_paused", topic=A) == 1
    assert stage.relay.paused() == {}  # nothing is known against it


def test_a_topic_that_is_new_to_the_relay_is_served(stage: Stage) -> None:
    stage.cluster.add("topic-c")
    stage.give(1, topic="topic-c")
    stage.turn(2)
    assert stage.written("topic-c") == []

    stage.relay.serve([A, "topic-c"])
    stage.turn(2)

    assert stage.written("topic-c") == [1]
    assert stage.value("gridgov_kafka_topic_paused", topic="topic-c") == 0


def test_what_waited_through_an_outage_gets_its_time_before_the_publisher_is_called_sick(stage: Stage) -> None:
    stage.cluster.held = True
    stage.give(1)
    stage.turn()
    stage.cluster.reachable = False
    stage.turn(5, seconds=20)
    stage.cluster.reachable = True

    stage.turn(2, seconds=10)
    assert len(stage.cluster.publishers) == 1
    stage.turn(6, seconds=10)

    assert len(stage.cluster.publishers) > 1


# ---- a record that Kafka refuses ----


def test_a_record_larger_than_its_topic_takes_is_parked_unsent(stage: Stage) -> None:
    stage.a.max_message_bytes = 2_000
    stage.cluster.look()
    stage.give(1)
    stage.give(2, value=b"v" * 3_000)
    stage.give(3)

    stage.turn(2)

    assert stage.written() == [1, 3]
    [parked] = stage.journal.parked()
    assert (parked.seq, parked.reason) == (2, "record_too_large")
    assert len(stage.cluster.publishers) == 1
    assert stage.value("gridgov_kafka_publishes_total", topic=A, outcome="parked") == 1


def test_a_record_larger_than_its_topic_takes_now_is_parked_and_the_rest_goes_on(stage: Stage) -> None:
    stage.a.max_message_bytes = 2_000  # the watch still believes in a megabyte
    stage.give(1)
    stage.give(2, value=b"v" * 3_000)
    stage.give(3, 4)

    stage.turn(6)

    assert stage.written() == [1, 3, 4]  # what was delivered beside the failure does not come again
    assert [(parked.seq, parked.reason) for parked in stage.journal.parked()] == [(2, "record_too_large")]
    assert stage.value("gridgov_kafka_publish_errors_total", topic=A, error="record") == 1


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("poisoned", [{1}, {3}, {5}, {2, 3}, {1, 2, 3, 4, 5, 6, 7}])
def test_only_the_record_that_spoils_its_batch_is_parked(stage: Stage, poisoned: set[int], late: int) -> None:
    stage.cluster.pick = lambda what, most: late if what == "reason too late" else plain(what, most)
    stage.a.poison = lambda message: message.seq in poisoned
    append(stage.journal, *[message(f"r-{n}", topic=A) for n in range(1, 8)])  # one case: one partition, one batch

    stage.turn(60, seconds=1)

    assert {parked.seq for parked in stage.journal.parked()} == poisoned
    assert set(stage.written()) == set(range(1, 8)) - poisoned
    assert stage.journal.totals().pending == 0


def test_a_requeued_message_is_published_under_its_new_seq(stage: Stage) -> None:
    stage.a.poison = lambda message: message.seq == 1
    append(stage.journal, message("r-1", topic=A), message("r-2", topic=A))
    stage.turn(20, seconds=1)

    stage.journal.requeue([1])
    stage.turn(3)

    assert [(record.seq, record.headers["ce_id"]) for record in stage.cluster.records(A)] == [(2, "r-2"), (3, "r-1")]


# ---- a publisher that ends ----


def test_after_a_failure_a_new_publisher_goes_on_from_the_lowest_undelivered(stage: Stage) -> None:
    stage.cluster.pick = lambda what, most: min(most, 2) if what == "batches" else 0  # one at a time, two a look
    append(stage.journal, *[message(f"r-{n}", topic=A) for n in range(1, 6)])
    stage.turn(2)
    delivered = len(stage.written())
    assert 0 < delivered < 5

    stage.cluster.breaking = True
    stage.turn(20, seconds=1)

    records = stage.cluster.records(A)
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert [record.headers["attempt"] for record in records] == ["1"] * delivered + ["2"] * (5 - delivered)
    assert [publisher.closed for publisher in stage.cluster.publishers] == [True, False]
    assert stage.value("gridgov_kafka_publish_errors_total", topic=A, error="producer") == 1


def test_what_was_written_but_never_acknowledged_comes_again_as_attempt_two(stage: Stage) -> None:
    stage.cluster.pick = lambda what, most: most if what == "unacknowledged" else plain(what, most)
    append(stage.journal, *[message(f"r-{n}", topic=A) for n in range(1, 4)])
    stage.cluster.breaking = True

    stage.turn(10, seconds=1)

    found = [(record.seq, record.headers["attempt"]) for record in stage.cluster.records(A)]
    assert found == [(1, "1"), (2, "1"), (3, "1"), (1, "2"), (2, "2"), (3, "2")]
    assert stage.journal.totals().settled == 3


def test_nobody_to_reach_is_tried_again_with_patience(stage: Stage) -> None:
    stage.cluster.down = True
    stage.give(1)

    stage.turn(5)
    assert stage.cluster.publishers == []
    assert stage.value("gridgov_kafka_connected") == 0
    stage.cluster.down = False
    stage.turn(3)
    assert stage.written() == []  # not before the pause is over
    stage.turn(3, seconds=10)

    assert stage.written() == [1]


def test_a_publisher_that_acknowledges_nothing_on_a_healthy_topic_is_replaced(stage: Stage) -> None:
    stage.cluster.held = True
    stage.give(1)
    stage.turn()
    stage.clock.now += module.STALL_SECONDS + 1
    stage.turn()

    stage.cluster.held = False
    stage.turn(4, seconds=10)

    assert stage.written() == [1]
    assert len(stage.cluster.publishers) == 2


def test_a_cluster_out_of_reach_is_waited_for_with_the_same_publisher(stage: Stage) -> None:
    stage.cluster.held = True
    stage.give(1)
    stage.turn()
    stage.cluster.reachable = False
    stage.clock.now += module.STALL_SECONDS * 10
    stage.turn(2)

    stage.cluster.held, stage.cluster.reachable = False, True
    stage.turn(2)

    assert stage.written() == [1]
    assert len(stage.cluster.publishers) == 1


# ---- a journal that cannot be written ----


class Refusing:
    """Makes a method of the journal raise as often as told; nothing is written then."""

    def __init__(self, journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        for name in ("hand_over", "park", "reattempt"):
            monkeypatch.setattr(journal, name, self._wrapped(getattr(journal, name)))

    def _wrapped(self, method: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: object, **kwargs: object) -> None:
            if self.times:
                self.times -= 1
                raise JournalUnavailable("locked")
            method(*args, **kwargs)

        return wrapped


def run(stage: Stage, turns: int, each_turn: Callable[[int], None] = lambda _: None) -> None:
    """`Relay.run` for some turns, with the pauses of a relay in a hurry."""
    stop = threading.Event()
    done = 0

    def between() -> None:
        nonlocal done
        done += 1
        stage.clock.now += 1
        each_turn(done)
        if done == turns:
            stop.set()

    stage.relay.run(stop, between)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_SECONDS", 0)
    monkeypatch.setattr(module, "BACKLOG_SECONDS", (0, 0))
    monkeypatch.setattr(module, "JOURNAL_WAIT_SECONDS", 0)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("errors", [1, 2, 5])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_journal_error_loses_no_acknowledgement(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, errors: int, at: int
) -> None:
    refusing = Refusing(stage.journal, monkeypatch)
    stage.give(*range(1, 13))

    run(stage, 30, lambda turn: setattr(refusing, "times", errors) if turn == at else None)

    assert stage.written() == list(range(1, 13))
    assert stage.journal.totals() == Totals(12, 12, 0, 0, 0)
    assert {record.headers["attempt"] for record in stage.cluster.records(A)} == {"1"}


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("errors", range(1, 5))
def test_a_journal_error_while_parking_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, errors: int
) -> None:
    refusing = Refusing(stage.journal, monkeypatch)
    stage.a.max_message_bytes = 2_000
    stage.give(1, 2)
    stage.give(3, value=b"v" * 3_000)
    stage.give(4, 5)

    run(stage, 40, lambda turn: setattr(refusing, "times", errors) if turn == 1 else None)

    assert set(stage.written()) == {1, 2, 4, 5}
    assert [parked.seq for parked in stage.journal.parked()] == [3]
    assert stage.journal.totals().pending == 0


class Rests(threading.Event):
    """Nobody stops; how long was waited for it."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(round(timeout or 0, 6))
        return False


@pytest.mark.parametrize(
    ("pending", "took", "used", "rest"),
    [
        (3, 0.01, 0.01, 0.09),
        (3, 0.11, 0.11, -0.01),
        (99, 0.001, 0.001, 0.004),
        (99, 0.03, 0.03, 0.015),
        (99, 0.03, 0.004, 0.002),
        (99, 9, 9, 0.05),
    ],
)
def test_after_a_turn_with_a_backlog_it_rests_for_half_of_what_that_took(
    stage: Stage, pending: int, took: float, used: float, rest: float
) -> None:
    stage.give(*range(pending))
    began, stop = stage.clock.now, Rests()
    stage.turn(seconds=took)

    stage.relay._rest(stop, began, used)
    stage.relay._sparing = True
    stage.relay._rest(stop, began, used)

    assert stop.seconds == [rest, max(rest, min(took, 0.05)) if pending > 5 else rest]


def test_what_one_statement_did_not_read_is_a_backlog(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each topic had room for its part of what was read."""
    monkeypatch.setattr("service.relay.lanes.READ_AT_ONCE", 4)
    stage.turn()
    for number in range(8):
        stage.give(number, topic=(A, B)[number % 2])
    rests = Rests()

    for _ in range(3):
        stage.turn()
        stage.relay._rest(rests, stage.clock.now, 0.0)

    assert rests.seconds == [0.005, 0.005, 0.1]


def test_few_are_settled_at_once_unless_nobody_came_or_as_many_did(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, sizes = 0, list[int]()
    monkeypatch.setattr(stage.journal, "last", lambda: last)
    monkeypatch.setattr(stage.journal, "hand_over", lambda upto, settled, folded: sizes.append(len(settled)))
    for came in (5000, 0, 300, 10):
        last += came
        stage.relay._unsaved = [Delivery(seq, 0, seq, 0) for seq in range(1100)]
        stage.relay._save({})

    assert sizes == [1000, 100, 1000, 100, *[128] * 8, 76, *[128] * 8, 76]


# ---- beginning and ending ----


@pytest.mark.usefixtures("hurry")
def test_a_new_leader_counts_another_attempt_for_what_the_old_one_handed_over(stage: Stage) -> None:
    stage.give(1, 2, 3)
    stage.journal.hand_over({A: 2}, [])

    run(stage, 3)

    assert {record.seq: record.headers["attempt"] for record in stage.cluster.records(A)} == {
        1: "2",
        2: "2",
        3: "1",
    }


@pytest.mark.usefixtures("hurry")
def test_asked_to_stop_it_settles_what_is_in_flight(stage: Stage) -> None:
    stage.cluster.held = True
    stage.give(1, 2, 3)

    def release_at_the_end(turn: int) -> None:
        stage.cluster.held = turn < 3

    run(stage, 3, release_at_the_end)

    assert stage.journal.totals().settled == 3
    assert [publisher.closed for publisher in stage.cluster.publishers] == [True]


@pytest.mark.usefixtures("hurry")
def test_asked_to_stop_it_does_not_wait_for_ever(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.clock, "monotonic", _advancing(stage.clock))
    stage.cluster.held = True
    stage.give(1, 2, 3)

    run(stage, 2)

    assert stage.journal.totals().pending == 3
    assert [publisher.closed for publisher in stage.cluster.publishers] == [True]


@pytest.mark.usefixtures("hurry")
def test_whatever_ends_it_the_publisher_ends_first(stage: Stage) -> None:
    stage.cluster.held = True
    stage.give(1, 2, 3)

    def break_down(turn: int) -> None:
        if turn == 2:
            raise JournalBroken("another file stands in the journal's place")

    with pytest.raises(JournalBroken):
        run(stage, 3, break_down)

    assert stage.journal.totals().pending == 3
    assert [publisher.closed for publisher in stage.cluster.publishers] == [True]


def _advancing(clock: Clock) -> Callable[[], float]:
    def monotonic() -> float:
        clock.now += 0.01
        return clock.now

    return monotonic


def test_intake_gets_its_turn_while_many_are_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    stage = Stage(SqliteJournal(tmp_path, limit=1 << 24, flush=False), clock, window=300)
    intake = SqliteJournal(tmp_path, limit=1 << 24, flush=False)
    found: list[Totals] = []

    def between() -> None:
        append(intake, message(f"meanwhile-{len(found)}", topic=A))  # would wait for ever while the journal is held
        found.append(intake.totals())

    stage.give(*range(300))
    stage.turn()
    append(intake, message("one more", topic=A))
    monkeypatch.setattr(clock, "meanwhile", between)
    stage.turn()

    assert [(one.accepted, one.settled, one.mismatch) for one in found] == [
        (302, 128, 0),
        (303, 256, 0),
    ]
    assert stage.journal.totals().settled == 300
