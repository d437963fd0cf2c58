"""The promised times by example. Every number is seconds after a case was reported, as in the rules."""

from collections.abc import Mapping

import pytest

from schemas.words import Stage
from service.domain.case import Outcome, apply
from service.domain.flags import CaseFlag
from service.domain.standards import Rules, Transition
from tests.unit.assess import flags, is_overdue, judge, measure, next_due_ms, running_deadline
from tests.unit.case_stories import ARRIVAL, COMPLETION, DAY, RAILING, RULES, fact, folded, live, ms, short

INCIDENTS = {
    "exactly 1500 s is met": ("reported@0 finished@1500 approved@1600", 1600, "completion met"),
    "one millisecond more is not": ("reported@0 finished@1500.001 approved@1600", 1600, "completion breached"),
    "1501 s is not": ("reported@0 finished@1501 approved@1600", 1600, "completion breached"),
    "approval time is not judged": ("reported@0 finished@1500 approved@99999", 99999, "completion met"),
    "nothing is told before the grace": ("reported@0", 1619.999, ""),
    "and at its end it is": ("reported@0", 1620, "completion breached"),
    "finished, never approved": ("reported@0 finished@600", 1620, "completion met"),
    "arrival is not judged": ("reported@0 arrived@1000", 1619, ""),
    "finished before reported": ("finished@-60 reported@0 approved@5", 5, "completion met"),
    "approved heard of before the finish": (
        "reported@0 approved@700/700 finished@600/800",
        800,
        "completion breached, completion corrected to met",
    ),
    "approved before reported is heard of": ("approved@700 finished@600/701 reported@0/702", 702, "completion met"),
    "no clock, no outcome": ("dispatched@0 finished@9999 approved@9999", 10**7, ""),
    "returned before the deadline, in time again": (
        "reported@0 finished@300 returned@400 finished@1400 approved@1700",
        1700,
        "completion met",
    ),
    "returned before the deadline, never in time": (
        "reported@0 finished@300 returned@400 finished@1501",
        1620,
        "completion breached",
    ),
    "returned after it was met": (
        "reported@0 finished@300 approved@400 returned@5000 finished@6000",
        6000,
        "completion met, completion corrected to breached",
    ),
    "returned after it was met, deadline ahead, in time again": (
        "reported@0 finished@300 approved@400 returned@500 finished@600 approved@700",
        9999,
        "completion met",
    ),
    "returned twice": ("reported@0 finished@100 returned@200 finished@300 returned@400", 1620, "completion breached"),
    "finished, then returned in the same moment": ("reported@0 finished@100 returned@100", 1620, "completion breached"),
    "returned, then finished in the same moment": ("reported@0 returned@100 finished@100", 1620, "completion met"),
    "a late return heard of before the finish it did not void": (
        "reported@0 returned@400/500 finished@450/600 approved@700",
        700,
        "completion met",
    ),
    "late proof that it was in time": (
        "reported@0 finished@1400/3000",
        3000,
        "completion breached, completion corrected to met",
    ),
    "late proof that it was not": (
        "reported@0 finished@1400 approved@1450 returned@1420/5000",
        5000,
        "completion met, completion corrected to breached",
    ),
    "an earlier report moves the clock back": (
        "reported@0 finished@1500 approved@1600 reported@-1/1700",
        1700,
        "completion met, completion corrected to breached",
    ),
    "history sent late waits for its next report": (
        "reported@0/50000 finished@900/50060 approved@950/50061",
        50061,
        "completion met",
    ),
    "and is condemned when none comes": ("reported@0/50000", 50120, "completion breached"),
    "not before": ("reported@0/50000", 50119.999, ""),
    "suspended does not stop the clock": (
        "reported@0 suspended@10 resumed@5000 finished@5001",
        5001,
        "completion breached",
    ),
    "cancelled before the deadline": ("reported@0 finished@100 cancelled@1499", 10**6, ""),
    "cancelled on the deadline": ("reported@0 cancelled@1500", 10**6, "completion breached"),
    "approved, then cancelled": ("reported@0 finished@100 approved@200 cancelled@300", 10**6, "completion met"),
    "the same, approval heard of last": (
        "reported@0 finished@100 cancelled@300 approved@200/400",
        10**6,
        "completion met",
    ),
    "approved only after it was cancelled": ("reported@0 finished@100 cancelled@300 approved@301", 10**6, ""),
    "proof is corrected, not the cancelled rest": (
        "reported@0 cancelled@1000/9000 finished@800/9001 approved@900/9002",
        10**6,
        "completion breached, completion corrected to met",
    ),
}
REPAIRS = {
    "on site in time": ("reported@0 arrived@900", 900, "arrival met"),
    "on site too late is told at once": ("reported@0 arrived@900.001", 901, "arrival breached"),
    "not on site": ("reported@0", 1020, "arrival breached"),
    "arrival heard of within the grace": ("reported@0 arrived@880/1019", 1019, "arrival met"),
    "arrival heard of after it": ("reported@0 arrived@880/1021", 1021, "arrival breached, arrival corrected to met"),
    "finishing implies arriving": ("reported@0 finished@700", 700, "arrival met"),
    "a voided finish still shows arrival": ("reported@0 finished@700/990 returned@800/980", 1020, "arrival met"),
    "an earlier arrival than the finish implied": (
        "reported@0 finished@1000 arrived@500/1100",
        1100,
        "arrival breached, arrival corrected to met",
    ),
    "arrival before reported": ("arrived@-5 reported@0", 0, "arrival met"),
    "exactly 24 h": (
        f"reported@0 arrived@60 finished@{DAY} approved@{DAY + 9}",
        DAY + 9,
        "arrival met, completion met",
    ),
    "not finished in 24 h": ("reported@0 arrived@60", DAY + 120, "arrival met, completion breached"),
    "an arrival in time survives the cancellation": ("reported@0 arrived@60 cancelled@90", 10**6, "arrival met"),
    "an arrival after the cancellation does not count": ("reported@0 cancelled@90 arrived@91", 10**6, ""),
    "on site, then cancelled in the same moment": ("reported@0 arrived@60 cancelled@60", 10**6, "arrival met"),
    "cancelled, then on site in the same moment": ("reported@0 cancelled@60 arrived@60", 10**6, ""),
    "cancelled between the deadlines": ("reported@0 cancelled@3600", 10**6, "arrival breached"),
    "the worked example": (
        f"reported@0 dispatched@60 arrived@480 suspended@4000 resumed@30000 finished@{10 * 3600} approved@{11 * 3600}",
        11 * 3600,
        "arrival met, completion met",
    ),
}
EXAMPLES = [("incident", *row) for row in INCIDENTS.values()] + [("repair", *row) for row in REPAIRS.values()]


@pytest.mark.parametrize(("kind", "words", "until", "expected"), EXAMPLES, ids=[*INCIDENTS, *REPAIRS])
def test_outcomes_as_they_are_told(kind: str, words: str, until: float, expected: str) -> None:
    _, steps = live(kind, words, until)
    assert short(steps) == expected


@pytest.mark.parametrize(("kind", "words", "until", "expected"), EXAMPLES, ids=[*INCIDENTS, *REPAIRS])
def test_after_an_outage_the_same_facts_give_the_same_last_word(
    kind: str, words: str, until: float, expected: str
) -> None:
    """All facts folded first, judged once: what the live telling came to in the end, told without a correction."""
    _, steps = judge(folded(kind, words), ms(until), RULES)
    told_live = {step.standard: step.outcome for step in live(kind, words, until)[1]}
    assert {step.standard: step.outcome for step in steps} == told_live
    assert not any(step.is_correction for step in steps)


def test_judging_twice_tells_once() -> None:
    case, steps = judge(folded("repair", "reported@0"), ms(10**6), RULES)
    assert short(list(steps)) == "arrival breached, completion breached"
    assert judge(case, ms(2 * 10**6), RULES) == (case, ())
    assert judge(case, ms(0), RULES) == (case, ())  # the clock of the machine went back


def test_a_transition_carries_the_labels_it_was_first_counted_under() -> None:
    case, steps = live("repair", "reported@0", 1020)
    earlier = fact("reported@-10/1100", 9, "repair", category="0404")
    proof = fact("arrived@500/1101", 10, "repair")
    case, more = judge(apply(apply(case, earlier), proof), ms(1101), RULES)
    assert case.category == "0404"
    assert [*steps, *more] == [
        Transition("repair", RAILING, ARRIVAL, Outcome.BREACHED, is_correction=False),
        Transition("repair", RAILING, ARRIVAL, Outcome.MET, is_correction=True),
    ]


LIMITS = {
    ("repair", "completion", RAILING): 600,
    ("repair", "completion", "0404"): 100,
    ("incident", "completion", RAILING): 50,
}


def own_limits(kind: str, standard: str, category: str) -> int | None:
    return LIMITS.get((kind, standard, category))


def test_a_category_may_have_its_own_limit() -> None:
    words = "reported@0 finished@1000 approved@1000"
    assert short(live("repair", words, 1000, Rules(own_limits))[1]) == "completion breached"


@pytest.mark.parametrize("stated", [{"category": "0404"}, {"kind": "incident", "category": RAILING}])
def test_the_first_report_by_time_decides_the_limit_however_late_it_comes(stated: Mapping[str, str]) -> None:
    rules = Rules(own_limits)
    case, _ = live("repair", "reported@0 finished@300 approved@301", 301, rules)
    case, steps = judge(apply(case, fact("reported@-1/400", 9, "repair", **stated)), ms(400), rules)
    assert short(list(steps)) == "completion corrected to breached"


def test_an_edited_table_does_not_judge_the_past_anew() -> None:
    words = "reported@0 finished@300 approved@301"
    case, _ = live("repair", words, 301, Rules(own_limits))
    tightened = Rules(lambda *_: 10)
    judged, steps = judge(case, ms(10**6), tightened)
    assert judged.outcome(COMPLETION) == case.outcome(COMPLETION)
    assert short(list(steps)) == "arrival breached"  # a standard that was not promised before
    assert short(list(judge(folded("repair", words), ms(302), tightened)[1])).endswith("completion breached")


def test_the_clock_may_start_at_dispatch() -> None:
    rules = Rules(RULES.limit, clock_start={"incident": Stage.DISPATCHED})
    assert (
        short(live("incident", "reported@0 dispatched@100 finished@1600 approved@1601", 1601, rules)[1])
        == "completion met"
    )
    waiting = folded("incident", "reported@0")
    assert next_due_ms(waiting, rules) is None
    assert CaseFlag.NO_CLOCK in flags(waiting, rules)


def test_the_grace_is_a_rule() -> None:
    assert next_due_ms(folded("incident", "reported@0"), Rules(RULES.limit, grace_ms=0)) == ms(1500)


def test_when_to_look_again() -> None:
    case = folded("repair", "reported@0")
    assert next_due_ms(case, RULES) == ms(1020)
    arrived = apply(case, fact("arrived@10", 5, "repair"))
    assert next_due_ms(arrived, RULES) == 0  # the arrival can be told at once
    told_of, _ = judge(arrived, ms(10), RULES)
    assert next_due_ms(told_of, RULES) == ms(DAY + 120)
    done, _ = judge(told_of, ms(DAY + 120), RULES)
    assert next_due_ms(done, RULES) is None


def test_an_outcome_counted_before_a_cancellation_was_heard_of_stands_and_is_flagged() -> None:
    case, steps = live("incident", "reported@0 cancelled@1000/9000 finished@800/9001", 10**6)
    assert short(steps) == "completion breached"
    assert CaseFlag.OUTCOME_STANDS in flags(case, RULES)
    assert CaseFlag.OUTCOME_STANDS not in flags(live("incident", "reported@0 cancelled@1000", 10**6)[0], RULES)


def test_overdue_ignores_the_grace() -> None:
    case = folded("incident", "reported@0")
    assert [is_overdue(case, COMPLETION, ms(at), RULES) for at in (1500, 1500.001)] == [False, True]
    assert not is_overdue(case, ARRIVAL, ms(10**6), RULES)  # nothing is promised


@pytest.mark.parametrize("end", ["finished", "approved", "cancelled"])
def test_what_is_done_or_closed_runs_towards_no_deadline(end: str) -> None:
    assert running_deadline(folded("incident", f"reported@0 {end}@9000"), COMPLETION, RULES) is None


def test_rework_runs_towards_the_old_deadline() -> None:
    case = folded("incident", "reported@0 finished@10 approved@20 returned@30")
    assert running_deadline(case, COMPLETION, RULES) == ms(1500)


def test_each_duration_is_measured_once() -> None:
    case, _ = judge(folded("incident", "reported@0 arrived@60"), ms(60), RULES)
    case, seconds = measure(case, RULES)
    assert seconds == {ARRIVAL: 60.0}
    case = apply(case, fact("finished@600.5", 5, "incident"))
    assert measure(case, RULES) == (case, {})  # not decided yet: it may be returned
    case, seconds = measure(judge(case, ms(1620), RULES)[0], RULES)
    assert seconds == {COMPLETION: 600.5}
    for seq, word in enumerate(("returned@1700", "finished@1800", "approved@1900", "arrived@20/2000"), 6):
        case, _ = judge(apply(case, fact(word, seq, "incident")), ms(2000), RULES)
    assert measure(case, RULES) == (case, {})


def test_what_ran_over_is_measured_at_its_true_length() -> None:
    case, steps = live("incident", "reported@0", 1620)
    assert short(steps) == "completion breached"
    assert measure(case, RULES)[1] == {}
    case = apply(case, fact("finished@9000", 5, "incident"))
    assert measure(case, RULES)[1] == {ARRIVAL: 9000.0, COMPLETION: 9000.0}


def test_without_a_clock_nothing_is_measured_and_before_it_is_no_time() -> None:
    assert measure(folded("repair", "arrived@5"), RULES)[1] == {}
    assert measure(folded("repair", "arrived@-5 reported@0"), RULES)[1] == {ARRIVAL: 0.0}
