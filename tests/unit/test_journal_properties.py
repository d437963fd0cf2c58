"""The journal against a model of dictionaries: any sequence of operations leaves both in the same state."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from service.journal.journal import SqliteJournal
from service.journal.side import Journal
from service.ports import Delivery, Message, ParkReason, State, Totals
from tests.unit.messages import NOW, message
from tests.unit.test_journal import LIMIT, everything, kind

SENDERS, REPORTS, TOPICS = ("one", "two"), tuple("abcde"), ("topic-a", "topic-b")


class Model:
    """What a journal is, in dictionaries."""

    def __init__(self) -> None:
        self.last = 0
        self.book: dict[tuple[str, str], Message] = {}
        self.state: dict[tuple[str, str], State] = {}
        self.pending: dict[int, Message] = {}
        self.parked: dict[int, Message] = {}
        self.attempt: dict[tuple[str, str], int] = {}
        self.handed = dict.fromkeys(TOPICS, 0)
        self.settled = 0
        self.kept: dict[int, Message] = {}  # settled, and not with the cases yet
        self.folded = 0

    def put(self, message: Message) -> int:
        self.last += 1
        self.pending[self.last] = message
        self.state[message.sender, message.report_id] = State.PENDING
        return self.last

    def append(self, message: Message) -> str:
        key = (message.sender, message.report_id)
        if key in self.book:
            return "duplicate" if self.book[key].fingerprint == message.fingerprint else "conflict"
        self.book[key], self.attempt[key] = message, 1
        self.put(message)
        return "new"


class JournalMachine(RuleBasedStateMachine):
    """Any sequence of operations leaves the file and the model in the same state."""

    pending_seqs: Bundle[int] = Bundle("pending_seqs")
    parked_seqs: Bundle[int] = Bundle("parked_seqs")

    @initialize()
    def make(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.open()
        self.model = Model()

    def open(self) -> None:
        """The journal, as it was left."""
        self.journal: Journal = SqliteJournal(Path(self.place.name), limit=LIMIT, flush=False)

    def teardown(self) -> None:
        self.journal.close()
        self.place.cleanup()

    @rule(
        target=pending_seqs,
        submissions=st.lists(
            st.lists(
                st.builds(
                    message,
                    st.sampled_from(REPORTS),
                    sender=st.sampled_from(SENDERS),
                    topic=st.sampled_from(TOPICS),
                    value=st.sampled_from([b"{}", b"[]"]),
                ),
                max_size=4,
            ),
            max_size=3,
        ),
    )
    def append(self, submissions: list[list[Message]]) -> MultipleResults[int]:
        before = self.model.last

        answers = self.journal.append(submissions)

        expected = [[self.model.append(one) for one in submission] for submission in submissions]
        assert [[kind(one) for one in rows] for rows in answers if isinstance(rows, list)] == expected
        return multiple(*range(before + 1, self.model.last + 1))

    @rule(numbers=st.lists(consumes(pending_seqs), max_size=3))
    def settle(self, numbers: list[int]) -> None:
        self.journal.hand_over({}, [Delivery(seq, 0, seq, NOW) for seq in numbers], self.model.folded)

        for seq in numbers:
            if (gone := self.model.pending.pop(seq, None)) is not None:
                self.model.settled += 1
                self.model.state[gone.sender, gone.report_id] = State.SETTLED
                if seq > self.model.folded:
                    self.model.kept[seq] = gone

    @rule(seq=pending_seqs)
    def hand_over(self, seq: int) -> None:
        if (one := self.model.pending.get(seq)) is not None:
            self.journal.hand_over({one.topic: seq}, [], self.model.folded)
            self.model.handed[one.topic] = max(seq, self.model.handed[one.topic])

    @rule()
    def reattempt(self) -> None:
        self.journal.reattempt()

        for seq, one in self.model.pending.items():
            self.model.attempt[one.sender, one.report_id] += seq <= self.model.handed[one.topic]

    @rule(target=parked_seqs, seq=consumes(pending_seqs))
    def park(self, seq: int) -> int:
        self.journal.park(seq, ParkReason.RECORD_REFUSED, "", NOW)

        if (one := self.model.pending.pop(seq, None)) is not None:
            self.model.parked[seq] = one
            self.model.state[one.sender, one.report_id] = State.PARKED
        return seq

    @rule(target=pending_seqs, seq=consumes(parked_seqs))
    def requeue(self, seq: int) -> MultipleResults[int]:
        moved = self.journal.requeue([seq])

        expected = {}
        if (one := self.model.parked.pop(seq, None)) is not None:
            expected[seq] = self.model.put(one)
            self.model.attempt[one.sender, one.report_id] += 1
        assert moved == expected
        return multiple(*expected.values())

    @rule(seq=st.integers(0, 20))
    def fold(self, seq: int) -> None:
        self.model.folded = max(self.model.folded, min(seq, self.model.last))
        self.journal.hand_over({}, [], self.model.folded)
        self.model.kept = {number: one for number, one in self.model.kept.items() if number > self.model.folded}

    @rule(tidy=st.booleans())
    def reopen(self, tidy: bool) -> None:
        if tidy:
            self.journal.tidy()
        self.journal.close()
        self.open()

    @invariant()
    def the_ledger_is_exact(self) -> None:
        counts = (len(self.model.book), self.model.settled, len(self.model.pending), len(self.model.parked))
        assert self.journal.totals() == Totals(*counts, mismatch=0)
        fill = self.journal.fill()
        assert (fill.pending, fill.parked) == counts[2:]

    @invariant()
    def the_rows_are_the_models(self) -> None:
        for topic in TOPICS:
            expected = {
                seq: (one.report_id, one.value, self.model.attempt[one.sender, one.report_id])
                for seq, one in self.model.pending.items()
                if one.topic == topic
            }
            found = everything(self.journal, topic)
            assert [one.seq for one in found] == sorted(expected)
            assert {one.seq: (one.report_id, one.value, one.attempt) for one in found} == expected
        assert [one.seq for one in self.journal.parked()] == sorted(self.model.parked)

    @invariant()
    def the_cases_find_what_they_have_not_had(self) -> None:
        for_the_cases = [*self.model.pending, *self.model.parked, *self.model.kept]
        assert [one.seq for one in self.journal.after(0, 1_000)] == sorted(for_the_cases)
        assert self.journal.marks() == (self.model.last, self.model.folded)

    @invariant()
    def the_receipts_say_the_state(self) -> None:
        for sender in SENDERS:
            for report_id in REPORTS:
                receipt = self.journal.receipt(sender, report_id)
                assert (receipt and receipt.state) == self.model.state.get((sender, report_id))


JournalMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestJournalMachine = JournalMachine.TestCase
