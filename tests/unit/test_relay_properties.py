"""Whatever fails, whenever: a consumer that drops duplicates by the published rule reads exactly what was accepted.

Hypothesis chooses what arrives, how the cluster's batches fall, which acknowledgements are lost, and when records,
topics, publishers, the journal or the relay itself fail; then everything is mended and the journal must drain.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.consumer import Watermark
from service.journal.journal import SqliteJournal
from service.metrics import relay_metrics
from service.ports import JournalUnavailable, State
from service.relay import lanes
from service.relay import relay as module
from service.relay.relay import Relay
from tests.publisher_contract import Written
from tests.unit.fake_publisher import FakeKafka, FakePublisher, plain
from tests.unit.messages import message
from tests.unit.test_journal import append
from tests.unit.test_relay import Clock

TOPICS = ("topic-a", "topic-b")
POISON, LARGE = b"poison", b"l" * 3_000
NARROW = 2_000  # what a topic takes once somebody has lowered its limit
TURNS = 300  # enough to drain what a history holds; a relay that needs more hangs


class Running(Clock):
    """Time goes on by itself, fast."""

    def monotonic(self) -> float:
        self.now += 0.2
        return self.now


class Crash(Exception):
    """The relay's process dies here."""


class History:
    """One relay after the other on one journal, while things arrive and go wrong."""

    def __init__(self, directory: Path, data: st.DataObject) -> None:
        self._data = data
        self.journal = SqliteJournal(directory, limit=1 << 24, flush=False)
        self.cluster = FakeKafka(self._pick)
        for topic in TOPICS:
            self.cluster.add(topic).poison = lambda message: message.value == POISON
        self.accepted: dict[int, tuple[str, str, bytes]] = {}  # seq → topic, case, value
        self._journal_errors = 0
        self._killed = False
        for name in ("hand_over", "park", "reattempt"):
            setattr(self.journal, name, self._unreliable(getattr(self.journal, name)))
        self._mended = False

    def live(self, steps: int) -> None:
        """Let `steps` things happen, then mend everything and wait until the journal is drained."""
        self._steps = steps
        while not self._mended:
            with suppress(Crash, JournalUnavailable):
                self._relay()
        assert self.journal.totals().pending == 0, "it does not drain"

    def _relay(self) -> None:
        """One leader's life."""
        self._killed = False
        self.cluster.acknowledged.clear()  # the one before may have died with it
        stop, turns = threading.Event(), itertools.count()

        def between() -> None:
            if self._steps:
                self._steps -= 1
                self._something()
            elif not self._mended:
                self._mend()
            elif self.journal.totals().pending == 0 or next(turns) > TURNS:
                stop.set()

        relay = Relay(
            self.journal,
            lambda: FakePublisher(self.cluster, self.journal.journal_id, lambda: None),
            self.cluster,
            relay_metrics(CollectorRegistry(), TOPICS),
            topics=TOPICS,
            window=4,
            wake=threading.Event(),
            clock=Running(),
        )
        relay.run(stop, between)

    def _something(self) -> None:
        happening = self._data.draw(st.sampled_from(list(self.HAPPENINGS)), label="happening")
        event(happening)
        self.HAPPENINGS[happening](self)

    def _arrive(self) -> None:
        for _ in range(self._data.draw(st.integers(1, 6), label="reports")):
            seq = len(self.accepted) + 1
            topic = self._data.draw(st.sampled_from(TOPICS), label="topic")
            case = self._data.draw(st.sampled_from(["c-1", "c-2", "c-3"]), label="case")
            value = self._data.draw(st.sampled_from([b"{}", b"{}", b"{}", LARGE, POISON]), label="value")
            append(self.journal, message(f"r-{seq}", case_id=case, topic=topic, value=value))
            self.accepted[seq] = (topic, case, value)

    def _look(self) -> None:
        self.cluster.look()

    def _break(self) -> None:
        self.cluster.breaking = True

    def _toggle_topic(self) -> None:
        topic = self.cluster.kept[self._data.draw(st.sampled_from(TOPICS), label="topic")]
        fault = self._data.draw(st.sampled_from(["missing", "denied"]), label="fault")
        setattr(topic, fault, not getattr(topic, fault))

    def _narrow(self) -> None:
        topic = self.cluster.kept[self._data.draw(st.sampled_from(TOPICS), label="topic")]
        topic.max_message_bytes = NARROW

    def _toggle_cluster(self) -> None:
        self.cluster.down = not self.cluster.down

    def _refuse_writes(self) -> None:
        self._journal_errors = self._data.draw(st.integers(1, 3), label="journal errors")

    def _crash(self) -> None:
        raise Crash

    def _kill(self) -> None:
        self._killed = True
        raise Crash

    HAPPENINGS: ClassVar[dict[str, Callable[[History], None]]] = {
        "arrive": _arrive,
        "the watch looks": _look,
        "the producer breaks": _break,
        "a topic goes or comes": _toggle_topic,
        "a topic takes less": _narrow,
        "the cluster goes or comes": _toggle_cluster,
        "the journal refuses": _refuse_writes,
        "the relay ends by an error": _crash,
        "the relay is killed": _kill,
    }

    def _mend(self) -> None:
        self._mended, self._journal_errors = True, 0
        self.cluster.down = self.cluster.breaking = False
        for topic in self.cluster.kept.values():
            topic.missing = topic.denied = False
        self.cluster.look()

    def _pick(self, what: str, most: int) -> int:
        return self._data.draw(st.integers(0, most), label=what) if most > 0 and not self._mended else plain(what, most)

    def _unreliable(self, method: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: object, **kwargs: object) -> None:
            if self._killed:  # whatever it would do on its way out, it does not
                raise Crash
            if self._journal_errors:
                self._journal_errors -= 1
                raise JournalUnavailable("locked")
            method(*args, **kwargs)

        return wrapped


def partitions(history: History) -> dict[tuple[str, int], list[Written]]:
    return {
        (name, number): records
        for name, topic in history.cluster.kept.items()
        for number, records in topic.records.items()
    }


def first_deliveries(records: list[Written]) -> list[int]:
    return list(dict.fromkeys(record.seq for record in records))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data(), steps=st.integers(1, 25))
def test_consumers_get_exactly_what_was_accepted_and_not_parked(data: st.DataObject, steps: int) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TURN_SECONDS", 0)
        patch.setattr(module, "BACKLOG_SECONDS", (0, 0))
        patch.setattr(module, "JOURNAL_WAIT_SECONDS", 0)
        patch.setattr(lanes, "READ_AT_ONCE", data.draw(st.integers(1, 6), label="read at once"))
        history = History(Path(directory), data)
        history.live(steps)
        try:
            check(history)
        finally:
            history.journal.close()


def check(history: History) -> None:
    journal, written = history.journal, partitions(history)
    parked = {one.seq for one in journal.parked()}
    values = {seq: value for seq, (_, _, value) in history.accepted.items()}
    there = {record.seq for records in written.values() for record in records}
    assert {seq for seq, value in values.items() if value == POISON} <= parked
    assert {seq for seq, value in values.items() if value == b"{}"} <= there - parked
    # large ones: published before the topic took less, or parked; both when only the acknowledgement was lost
    assert values.keys() == parked | there

    for records in written.values():  # invariant: within a partition, first deliveries come in order of their seq
        firsts = first_deliveries(records)
        assert firsts == sorted(firsts)

    assert read_as_a_consumer(history.journal.journal_id, written) == expected(history, there)

    assert history.cluster.sent_again == set()
    for seq, attempts in attempts_of(written).items():
        assert attempts == sorted(set(attempts)), f"{seq} came again under an attempt it had before: {attempts}"

    totals = journal.totals()
    assert (totals.mismatch, totals.settled, totals.parked) == (0, len(history.accepted) - len(parked), len(parked))
    for seq in history.accepted.keys() - parked:
        receipt = journal.receipt("platform", f"r-{seq}")
        assert receipt is not None
        assert receipt.state is State.SETTLED
        assert receipt.partition is not None
        assert receipt.offset is not None
        assert written[receipt.topic, receipt.partition][receipt.offset].seq == seq


def read_as_a_consumer(
    journal_id: str, written: dict[tuple[str, int], list[Written]]
) -> dict[tuple[str, str], list[int]]:
    """(topic, case) → seqs in the order they are seen, duplicates dropped by the published rule."""
    watermark, seen = Watermark(), defaultdict(list)
    for (topic, partition), records in written.items():
        for record in records:
            if watermark.passes(journal_id, topic, partition, record.seq):
                seen[topic, record.key].append(record.seq)
    return dict(seen)


def expected(history: History, there: set[int]) -> dict[tuple[str, str], list[int]]:
    wanted = defaultdict(list)
    for seq, (topic, case, _) in history.accepted.items():
        if seq in there:
            wanted[topic, case].append(seq)
    return dict(wanted)


def attempts_of(written: dict[tuple[str, int], list[Written]]) -> dict[int, list[int]]:
    attempts = defaultdict(list)
    for records in written.values():
        for record in records:
            attempts[record.seq].append(int(record.headers["attempt"]))
    return attempts
