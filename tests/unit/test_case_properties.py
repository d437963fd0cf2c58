"""Cases against an independent model of the rules: any facts, in any order, judged at any moment.

`CASE_EXAMPLES=5000` in the environment looks harder than the default.
"""

import os
from collections import Counter
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

from schemas.words import Stage, Standard, Supervision
from service.domain.case import Campaign, Case, Fact, Outcome, apply, dump, essence, load
from service.domain.standards import Rules, Transition
from tests.unit.assess import is_overdue, judge, measure, next_due_ms, start, verdict
from tests.unit.case_model import Model

LIMITS = {
    ("repair", "arrival", "0211"): 900,
    ("repair", "completion", "0211"): 86_400,
    ("repair", "arrival", "0404"): 60,
    ("repair", "completion", "0404"): 1_500,
    ("incident", "completion", "0211"): 1_500,
    ("incident", "completion", "0404"): 900,
}
GRACE = 120_000
T0 = 1_603_670_400_000
MOMENTS = (0, 0, 60_000, 899_999, 900_000, 900_001, 1_500_000, 1_500_001, 86_400_000, 86_400_001)
STEPS = (-86_400_000, -1, 1, 60_000, GRACE, 900_000, 1_500_000, 86_400_000)
WORKING = (Stage.REPORTED, Stage.ARRIVED, Stage.FINISHED, Stage.FINISHED, Stage.APPROVED, Stage.RETURNED)

names = st.sampled_from("aaab")
moments = st.sampled_from(MOMENTS)
stages = st.sampled_from(WORKING) | st.sampled_from(WORKING) | st.sampled_from(Stage)
stated = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["repair"] * 4 + ["incident"]),
        "category": st.sampled_from(["0211"] * 4 + ["0404"]),
        "supervision": st.none() | st.sampled_from(Supervision),
        "campaign": st.none()
        | st.builds(Campaign, st.sampled_from("xy"), st.none() | st.sampled_from(["trial", "formal"])),
        "own_only": st.booleans(),
    }
)


class Cases(RuleBasedStateMachine):
    """Two cases, their model, and one clock that may step back. `held` facts have happened and not come yet."""

    @initialize(from_dispatch=st.booleans())
    def begin(self, from_dispatch: bool) -> None:
        start = Stage.DISPATCHED if from_dispatch else Stage.REPORTED
        self.now = T0
        self.seq = 0
        self.law = Rules(lambda *labels: LIMITS.get(labels), GRACE, {"repair": start})
        starts = {"repair": start.value, "incident": "reported"}
        self.models = {name: Model(LIMITS, GRACE, starts) for name in "ab"}
        self.cases: dict[str, Case] = {}
        self.told: list[tuple[str, Transition]] = []
        self.measured: Counter[tuple[str, Standard]] = Counter()
        self.held: list[Fact] = []

    def take(self, fact: Fact) -> None:
        """One fact to the fold and to the model, the state by way of its stored form."""
        stored = self.cases.get(fact.case_id)
        case = stored and load(dump(stored))
        assert case == stored
        self.cases[fact.case_id] = apply(case, fact)
        self.models[fact.case_id].sent.append(fact)

    @rule(name=names, stage=stages, at=moments, said=stated, hold=st.sampled_from([True, False, False]))
    def happen(self, name: str, stage: Stage, at: int, said: dict[str, Any], hold: bool) -> None:
        self.seq += 1
        sender = "st"[self.seq % 2]  # who number their reports alike
        fact = Fact(name, T0 + at, self.now, self.seq, sender, f"r{self.seq // 2}", stage=stage, **said)
        if hold:
            self.held.append(fact)
        else:
            self.take(fact)

    @rule(name=names, stage=stages, at=moments, said=stated)
    def happen_and_be_judged(self, name: str, stage: Stage, at: int, said: dict[str, Any]) -> None:
        self.happen(name, stage, at, said, hold=False)
        self.judge()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def arrive_late(self, data: st.DataObject) -> None:
        self.seq += 1
        late = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.take(late._replace(received_at=self.now, seq=self.seq))

    @precondition(lambda self: self.held)
    @rule()
    def lose(self) -> None:
        self.held.pop()

    @precondition(lambda self: self.cases)
    @rule(data=st.data(), stage=stages, at=moments)
    def repeat(self, data: st.DataObject, stage: Stage, at: int) -> None:
        """The same id once more, even with other content: it has counted already."""
        case = self.cases[data.draw(st.sampled_from(sorted(self.cases)))]
        known = data.draw(st.sampled_from(case.facts))
        self.seq += 1
        self.take(known._replace(stage=stage, occurred_at=T0 + at, received_at=self.now, seq=self.seq))
        assert self.cases[case.case_id] == case

    @rule(step=st.sampled_from(STEPS))
    def wait(self, step: int) -> None:
        self.now += step

    @precondition(lambda self: self.cases)
    @rule(data=st.data(), early=st.sampled_from([0, 1]))
    def wait_until_due(self, data: st.DataObject, early: int) -> None:
        dues = [due for case in self.cases.values() if (due := next_due_ms(case, self.law))]
        if dues:
            self.now = data.draw(st.sampled_from(dues)) - early

    @rule()
    def judge(self) -> None:
        for name, case in self.cases.items():
            judged, transitions = judge(case, self.now, self.law)
            self.models[name].judge(self.now)
            self.told += [(name, step) for step in transitions]
            self.cases[name], seconds = measure(judged, self.law)
            self.measured.update((name, standard) for standard in seconds)

    @precondition(lambda self: self.cases)
    @rule(data=st.data())
    def fold_in_any_order(self, data: st.DataObject) -> None:
        case = self.cases[data.draw(st.sampled_from(sorted(self.cases)))]
        again: Case | None = None
        order = data.draw(st.permutations(case.facts))
        for fact in order:
            again = apply(again, fact)
        first = next((fact for fact in order if fact.stage is Stage.REPORTED), order[0])  # alone depends on the order
        assert again == Case(case.case_id, case.facts, first.sender)

    @precondition(lambda self: self.cases)
    @rule(data=st.data(), stage=stages, at=moments, said=stated)
    def keep_the_essence(self, data: st.DataObject, stage: Stage, at: int, said: dict[str, Any]) -> None:
        """What retention keeps of a case tells the same as the whole, also after one fact more or one sent again."""
        case = self.cases[data.draw(st.sampled_from(sorted(self.cases)))]
        sender = data.draw(st.sampled_from("stu"))
        new = Fact(case.case_id, T0 + at, self.now, self.seq + 1, sender, "new", stage=stage, **said)
        fact = data.draw(st.sampled_from([*case.facts, new]))
        assert self.tells(apply(essence(case), fact)) == self.tells(apply(case, fact))

    def tells(self, case: Case) -> list[Any]:
        said = [case.owner, case.kind, case.category, case.progress, case.supervision, case.campaign, case.reopenings]
        decided = [case.arrival, case.finish, case.approval, case.cancellation, start(case, self.law)]
        return said + decided + [verdict(case, standard, self.law) for standard in Standard]

    @invariant()
    def says_what_the_model_says(self) -> None:
        for name, case in self.cases.items():
            model, story = self.models[name], self.models[name].story()
            assert (list(case.facts), list(case.heard), case.owner) == (model.facts, model.heard, model.owner)
            assert (case.kind, case.category, case.phase) == (story.kind, story.category, story.phase)
            assert (case.supervision, case.campaign) == (story.level, story.campaign)
            assert case.reopenings == story.reopenings
            assert {counted.standard: counted.outcome for counted in case.counted} == model.outcomes
            for standard in Standard:
                assert is_overdue(case, standard, self.now, self.law) == model.overdue(standard, self.now)

    @invariant()
    def counts_once_and_exactly(self) -> None:
        steps = Counter((name, step.standard, step.outcome, step.is_correction) for name, step in self.told)
        expected = {(name, *key): n for name, model in self.models.items() for key, n in model.totals.items()}
        assert steps == expected
        counted = Counter((name, step.standard) for name, step in self.told if not step.is_correction)
        assert all(times == 1 for times in counted.values())
        assert all(times == 1 for times in self.measured.values())

    @invariant()
    def totals_are_those_of_the_cases_under_every_label(self) -> None:
        """Exact met = counted met + corrected to met - corrected to breached; and so for breached."""
        totals: Counter[tuple[str, str, str, str]] = Counter()
        for _, step in self.told:
            labels = (step.kind, step.category, step.standard)
            totals[*labels, step.outcome] += 1
            if step.is_correction:
                totals[*labels, next(other for other in Outcome if other != step.outcome)] -= 1
        counted = [counted for case in self.cases.values() for counted in case.counted]
        assert +totals == Counter((c.kind, c.category, c.standard, c.outcome) for c in counted)
        assert not -totals

    @invariant()
    def next_due_is_exact(self) -> None:
        for case in self.cases.values():
            due = next_due_ms(case, self.law)
            before = 10**15 if due is None else due - 1
            for moment in (-(10**15), min(self.now, before), before):
                assert judge(case, moment, self.law) == (case, ())
            assert due is None or judge(case, due, self.law)[1]


def test_cases_keep_to_the_model() -> None:
    examples = int(os.environ.get("CASE_EXAMPLES", "60"))
    run_state_machine_as_test(Cases, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None))
