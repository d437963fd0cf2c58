"""The fold on its real journal and casebook against the naive model: whatever happens, killed and begun again at will.

`CASE_EXAMPLES=2000` in the environment looks harder than the default.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from schemas.words import Stage, Standard, Supervision
from service.cases.search import Period, Search
from service.domain.case import Fact, Outcome
from service.domain.standards import Rules
from service.ports import ParkReason, Receipt
from tests.unit.assess import next_due_ms
from tests.unit.case_desk import FOR_EVER, KEEP_MS, Desk, Interrupted, as_message, hurried, interrupted
from tests.unit.case_model import Model
from tests.unit.test_case_properties import GRACE, LIMITS, STEPS, T0, moments, names, stages, stated

TOGETHER = 2  # messages in one transaction of the fold, so that three are a backlog
APPROVAL = {"kind": "repair", "category": "0211", "supervision": None, "campaign": None, "own_only": False}
STARTS = {"repair": "reported", "incident": "reported"}


class Folding(RuleBasedStateMachine):
    """Two cases and their models. `held` has happened and not come yet; `queue` is accepted and not folded yet."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(hurried(TOGETHER))
        self.desk = Desk(Rules(lambda *labels: LIMITS.get(labels), GRACE))
        self.models = {name: Model(LIMITS, GRACE, STARTS) for name in "ab"}
        self.held: list[Fact] = []
        self.queue: list[Fact] = []
        self.odd: list[Fact] = []  # what no case can be made of, folded or not
        self.number = 0

    def teardown(self) -> None:
        self.desk.close()
        self.stack.close()

    # ---- reports ----

    @rule(name=names, stage=stages, at=moments, said=stated, hold=st.sampled_from([True, False, False]))
    def happen(self, name: str, stage: Stage, at: int, said: dict[str, Any], hold: bool) -> None:
        self.number += 1
        said = said | {"supervision": said["supervision"] or Supervision.NONE}
        sender = "st"[self.number % 2]  # who number their reports alike
        fact = Fact(name, T0 + at, 0, 0, sender, f"r{self.number // 2}", stage=stage, **said)
        if hold:
            self.held.append(fact)
        else:
            self.accept(fact)

    @rule(name=names, stage=stages, at=moments, said=stated, killed=st.booleans())
    def happen_and_be_folded(self, name: str, stage: Stage, at: int, said: dict[str, Any], killed: bool) -> None:
        self.happen(name, stage, at, said, hold=False)
        self.turn(killed)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), lost=st.sampled_from([True, False, False]))
    def arrive_late_or_never(self, data: st.DataObject, lost: bool) -> None:
        late = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if not lost:
            self.accept(late)

    @precondition(lambda self: any(model.sent for model in self.models.values()))
    @rule(data=st.data(), stage=stages, at=moments)
    def repeat(self, data: st.DataObject, stage: Stage, at: int) -> None:
        """An id that has counted comes once more, even with other content, even when the journal has forgotten it."""
        known = data.draw(st.sampled_from([fact for model in self.models.values() for fact in model.sent]))
        self.accept(data.draw(st.sampled_from([known, known._replace(stage=stage, occurred_at=T0 + at)])))

    def accept(self, fact: Fact) -> None:
        fact = fact._replace(received_at=self.desk.now)
        (answer,) = self.desk.accept(fact)
        if isinstance(answer, Receipt) and not answer.duplicate:
            self.queue.append(fact._replace(seq=self.desk.journal.marks()[0]))

    @rule()
    def nonsense_comes(self) -> None:
        """A report that cannot be digested: those that are folded with it are worked in one by one."""
        self.number += 1
        fact = Fact("odd", T0, self.desk.now, 0, "s", f"odd-{self.number}", "repair", "0211", Stage.NOTE)
        self.desk.journal.append([[replace(as_message(fact), value=b"{")]])
        self.odd.append(fact._replace(seq=self.desk.journal.marks()[0]))
        self.queue.append(self.odd[-1])

    # ---- time, turns and kills ----

    @rule(step=st.sampled_from([*STEPS, KEEP_MS + 1]))
    def wait(self, step: int) -> None:
        self.desk.now += step

    @rule()
    def close_and_wait_for_retention(self) -> None:
        """Both cases are approved; a quarter of a year later only their essence is left."""
        for name in "ab":
            self.happen(name, Stage.APPROVED, 86_400_001, APPROVAL, hold=False)
        for _ in range(2):
            while self.queue:
                self.turn(killed=False)
            self.desk.now += KEEP_MS + 1
        self.turn(killed=True)

    @rule(data=st.data(), early=st.sampled_from([0, 1]))
    def wait_until_due(self, data: st.DataObject, early: int) -> None:
        cases = [self.desk.case(name) for name, model in self.models.items() if model.sent]
        dues = [due for case in cases if (due := next_due_ms(case, self.desk.rules))]
        if dues:
            self.desk.now = data.draw(st.sampled_from(dues)) - early

    @rule(killed=st.booleans())
    def turn(self, killed: bool) -> None:
        self.folded(self.desk.fold.turn())
        if killed:
            self.desk.kill()

    @precondition(lambda self: self.queue)
    @rule(changes=st.sampled_from([0, 1, 2]))
    def be_killed_in_a_turn(self, changes: int) -> None:
        """In the middle of folding; or when that is done, of the sweep; or when that is done too, of stripping."""
        cursor, swept = self.desk.fold.folded, self.desk.fold.last_run
        with interrupted(changes), suppress(Interrupted):
            self.folded(self.desk.fold.turn())
            return
        more = len(self.queue) >= TOGETHER
        if self.desk.fold.last_run != swept:
            self.folded(more)
        elif self.desk.fold.folded > cursor:
            self.fold_models()
        self.desk.kill()

    def folded(self, more: bool) -> None:
        """What a whole turn does, in the models."""
        last = self.fold_models()
        for model in self.models.values():
            if model.sent:
                model.judge(min(self.desk.now, last.received_at) if more and last else self.desk.now)

    def fold_models(self) -> Fact | None:
        taken, self.queue = self.queue[:TOGETHER], self.queue[TOGETHER:]
        for fact in taken:
            if fact.case_id == "odd":
                continue
            model, now = self.models[fact.case_id], min(self.desk.now, fact.received_at)
            if model.sent:
                model.judge(now)
            known = {(each.sender, each.report_id) for each in model.sent}
            model.sent.append(fact)
            if (fact.sender, fact.report_id) not in known:
                model.judge(now)
        return taken[-1] if taken else None

    # ---- the journal's other side ----

    @rule(data=st.data())
    def settle_and_forget(self, data: st.DataObject) -> None:
        """Kafka has some of it, and the journal remembers no longer who sent it."""
        if pending := self.pending():
            self.desk.settle(*data.draw(st.lists(st.sampled_from(pending), unique=True)))
        self.desk.journal.forget(FOR_EVER)

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), again=st.booleans())
    def park(self, data: st.DataObject, again: bool) -> None:
        """Kafka never takes it; `again`: until it is requeued, under a new seq, the fold having had it or not."""
        journal, seq = self.desk.journal, data.draw(st.sampled_from(self.pending()))
        (parked,) = (each for each in journal.after(0, FOR_EVER) if each.seq == seq)
        journal.park(seq, ParkReason.RECORD_REFUSED, "", self.desk.now)
        if not again:
            return
        moved = journal.requeue([seq])
        sent = [fact for model in self.models.values() for fact in model.sent]
        (fact, *_) = [
            f for f in [*self.queue, *sent, *self.odd] if (f.sender, f.report_id) == (parked.sender, parked.report_id)
        ]
        self.queue = [waiting for waiting in self.queue if waiting.seq != seq]
        self.queue.append(fact._replace(seq=moved[seq], received_at=parked.received_at))

    def pending(self) -> list[int]:
        return [each.seq for each in self.desk.journal.pending("topic-a", 0, FOR_EVER)]

    # ---- what must be true ----

    @invariant()
    def cases_are_the_models(self) -> None:
        for name, model in self.models.items():
            if not model.sent:
                assert self.desk.book.case(name) is None
                continue
            case, story = self.desk.case(name), model.story()
            assert {counted.standard: counted.outcome for counted in case.counted} == model.outcomes
            assert (case.owner, list(case.heard) == list(case.facts)) == (
                model.owner,
                len(model.heard) == len(model.facts),
            )
            assert (case.kind, case.category, case.phase) == (story.kind, story.category, story.phase)
            assert (case.supervision, case.campaign) == (story.level, story.campaign)
            assert case.reopenings == story.reopenings

    @invariant()
    def totals_are_the_models(self) -> None:
        expected: Counter[tuple[str, str, bool]] = Counter()
        for model in self.models.values():
            expected += model.totals
        assert self.desk.told() == expected
        heard = [model.heard for model in self.models.values() if model.sent]
        told = [{fact.stage for fact in facts} for facts in heard]
        assert self.desk.total("reported") == sum("reported" in stages for stages in told)
        assert self.desk.total("approved") == sum({"reported", "approved"} <= stages for stages in told)
        returned = [fact for facts, stages in zip(heard, told, strict=True) if "reported" in stages for fact in facts]
        assert self.desk.total("reopenings") == sum(fact.stage == "returned" for fact in returned)

    @invariant()
    def each_case_is_counted_once_under_every_label(self) -> None:
        """Exact met = counted met + corrected to met - corrected to breached; and so for breached."""
        totals: Counter[tuple[str, ...]] = Counter()
        for labels, n in self.desk.totals().get("standard", {}).items():
            totals[labels] += int(n)
        for (*place, to), n in self.desk.totals().get("corrections", {}).items():
            totals[*place, to] += int(n)
            totals[*place, next(other for other in Outcome if other != to)] -= int(n)
        cases = [self.desk.case(name) for name, model in self.models.items() if model.sent]
        counted = [each for case in cases for each in case.counted]
        assert +totals == Counter((c.kind, c.category[:2], c.standard, c.outcome) for c in counted)
        assert not -totals
        for standard in Standard:
            assert self.desk.total(f"{standard}_seconds") == sum(standard in case.measured for case in cases)

    @invariant()
    def what_is_found_and_counted_is_what_runs(self) -> None:
        book, now = self.desk.book, self.desk.now
        late = {(n, s) for n, model in self.models.items() if model.sent for s in Standard if model.overdue(s, now)}
        found = book.search(Search(overdue=True), now_ms=now, after="", limit=9)
        assert [case.case_id for case in found] == sorted({name for name, _ in late})
        for standard in Standard:
            counts = book.running("overdue", standard, now)
            assert sum(counts.values()) == sum(which == standard for _, which in late)

    @invariant()
    def the_figures_are_those_of_the_stories(self) -> None:
        now = self.desk.now
        told = [(model, model.story()) for model in self.models.values() if model.sent]
        known = [(m, s) for m, s in told if any(fact.stage == "reported" for fact in m.facts)]
        expected = {
            "reported": len(known),
            "approved": sum(story.approved for _, story in known),
            "cancelled": sum(story.phase == "cancelled" for _, story in known),
            "overdue_unfinished": sum(model.overdue("completion", now) for model, _ in known),
            "reworked": sum(story.reopenings > 0 for _, story in known),
            **{
                f"{standard}_{outcome}": sum(model.outcomes.get(standard) == outcome for model, _ in known)
                for standard in Standard
                for outcome in Outcome
            },
        }
        rows = self.desk.book.figures(Period(0, FOR_EVER), now)
        assert {name: sum(row[name] for row in rows) for name in expected} == expected

    @invariant()
    def nothing_is_passed_over(self) -> None:
        unread = self.desk.journal.after(self.desk.fold.folded, FOR_EVER)
        assert [each.seq for each in unread] == [fact.seq for fact in self.queue]
        assert self.desk.total("gaps") == 0

    @invariant()
    def what_makes_no_case_is_kept_and_counted_once(self) -> None:
        waiting = {fact.report_id for fact in self.queue}
        passed = [fact.report_id for fact in self.odd if fact.report_id not in waiting]
        _, kept = self.desk.book.aside(0, FOR_EVER)
        names = [entry.report_id for entry in kept if not isinstance(entry, str)]
        assert self.desk.total("failures") == len(names)
        assert set(passed) <= set(names) <= {fact.report_id for fact in self.odd}


def test_the_fold_keeps_to_the_model_whatever_happens() -> None:
    examples = int(os.environ.get("CASE_EXAMPLES", "25"))
    run_state_machine_as_test(Folding, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None))
