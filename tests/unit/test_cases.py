"""What a case is, by example: its phase, its flags, what is shown of it."""

import json
from typing import Any

import pytest

from schemas.words import Stage, Supervision
from service.domain.case import Campaign, Fact, Phase, apply, dump, essence, load
from service.domain.flags import CaseFlag
from service.domain.view import view
from tests.unit.assess import flags, judge, measure
from tests.unit.case_stories import DAY, RAILING, RULES, fact, fold, folded, live, ms


def test_a_case_counts_each_report_once() -> None:
    first = folded("incident", "reported@0 finished@10")
    again = first.facts[1]
    assert apply(first, again) is first
    assert apply(first, again._replace(stage=Stage.RETURNED, seq=9)) is first
    other_sender = apply(first, again._replace(sender="t", stage=Stage.RETURNED, occurred_at=ms(20)))
    assert other_sender.reopenings == 1


def test_a_fact_of_another_case_is_refused() -> None:
    case = folded("incident", "reported@0")
    with pytest.raises(ValueError, match="another case"):
        apply(case, case.facts[0]._replace(case_id="other", report_id="r9"))


PHASES = {
    "reported@0": Phase.AWAITING_ARRIVAL,
    "reported@0 dispatched@1 note@2": Phase.AWAITING_ARRIVAL,
    "reported@0 arrived@1": Phase.IN_PROGRESS,
    "reported@0 finished@1": Phase.AWAITING_APPROVAL,
    "reported@0 finished@1 returned@2": Phase.IN_PROGRESS,
    "reported@0 finished@1 approved@2": Phase.APPROVED,
    "reported@0 finished@1 approved@2 returned@3": Phase.IN_PROGRESS,
    "reported@0 approved@2": Phase.APPROVED,
    "reported@0 suspended@1": Phase.SUSPENDED,
    "reported@0 suspended@1 resumed@2": Phase.AWAITING_ARRIVAL,
    "reported@0 resumed@2 suspended@1/3": Phase.AWAITING_ARRIVAL,
    "reported@0 suspended@1 finished@2": Phase.AWAITING_APPROVAL,
    "reported@0 finished@1 suspended@2": Phase.SUSPENDED,
    "reported@0 cancelled@1 finished@2 approved@3": Phase.CANCELLED,
}


@pytest.mark.parametrize(("words", "phase"), PHASES.items())
def test_phases(words: str, phase: Phase) -> None:
    case = folded("repair", words)
    assert case.phase == phase
    assert case.is_open == (phase not in {Phase.APPROVED, Phase.CANCELLED})


def test_on_hold_still_says_how_far_the_work_has_come() -> None:
    assert folded("repair", "reported@0 arrived@1 suspended@2").progress == Phase.IN_PROGRESS


FLAGS = {
    "reported@0 dispatched@1 arrived@2 finished@3 returned@4 finished@5 approved@6 note@7": "",
    "reported@0/50 dispatched@1/50 finished@3/50": "",
    "finished@3": "no_clock",
    "finished@3 reported@0/4": "out_of_order",
    "finished@-3 reported@0": "out_of_order",
    "reported@0 approved@2": "approved_unfinished",
    "reported@0 approved@2 finished@3": "out_of_order",
    "reported@0 returned@2": "out_of_order",
    "reported@0 finished@5 pressed@2/6": "",
    "reported@0 reported@1": "clock_restated",
    "reported@0 reported@0": "",
    "reported@0 cancelled@1 note@2 cancelled@3": "",
    "reported@0 cancelled@1 arrived@2": "after_cancelled",
}


@pytest.mark.parametrize(("words", "expected"), FLAGS.items())
def test_flags(words: str, expected: str) -> None:
    assert " ".join(flags(folded("repair", words), RULES)) == expected


def test_reports_that_disagree_on_what_it_is_are_flagged() -> None:
    case = fold([fact("reported@0", 0, "repair"), fact("arrived@1", 1, "incident")])
    assert (case.kind, case.category) == ("repair", RAILING)
    assert flags(case, RULES) == (CaseFlag.CATEGORY_CHANGED, CaseFlag.KIND_CHANGED)


def test_before_any_report_the_earliest_fact_names_the_case() -> None:
    arrived, noted = fact("arrived@5", 0, "incident"), fact("note@1/6", 1, "repair")
    assert fold([arrived]).kind == "incident"
    assert fold([arrived, noted]).kind == "repair"
    assert fold([arrived, noted, fact("reported@9", 2, "incident")]).kind == "incident"


def test_supervision_is_the_highest_stated_and_campaign_the_last() -> None:
    trial, formal = Campaign("进博会", "trial"), Campaign("进博会", "formal", "一级")
    case = fold(
        [
            fact("reported@0", 0, "repair", supervision=Supervision.URGENT, campaign=trial),
            fact("note@5", 1, "repair", campaign=formal),
            fact("note@3/6", 2, "repair", campaign=trial),
            fact("note@7", 3, "repair", supervision=Supervision.NONE),
        ]
    )
    assert case.supervision == Supervision.URGENT
    assert case.campaign == formal


@pytest.mark.parametrize(
    ("words", "level"),
    [("reported@0", "none"), ("reported@0 pressed@1", "pressed"), ("supervised@0 pressed@1", "supervised")],
)
def test_a_stage_of_supervision_states_it(words: str, level: str) -> None:
    assert folded("repair", words).supervision == level


def test_what_a_counter_counts_once_never_becomes_untrue() -> None:
    case = folded("repair", "reported@0 finished@1 approved@2 returned@3")
    assert (case.was_reported, case.was_approved, case.reopenings) == (True, True, 1)
    assert not folded("repair", "finished@1").was_reported


def test_the_state_goes_through_json() -> None:
    formal = Campaign("进博会", "formal")
    urgent = fact("finished@99", 7, "repair", supervision=Supervision.URGENT, campaign=formal)
    case, _ = live("repair", "reported@0 arrived@60", DAY + 200)
    case, _ = measure(apply(case, urgent), RULES)
    assert case.counted
    assert case.measured
    assert load(dump(case)) == case


def test_retention_keeps_what_a_late_fact_could_still_depend_on() -> None:
    urgent = fact("note@8", 8, "repair", supervision=Supervision.URGENT)
    case = apply(folded("repair", "reported@0 note@1 arrived@2 finished@3 finished@5 arrived@6 note@7"), urgent)
    kept = essence(case)
    assert " ".join(each.stage for each in kept.facts) == "reported arrived finished finished arrived note"
    assert kept.supervision == Supervision.URGENT
    reworked = apply(kept, fact("returned@4/9", 9, "repair"))
    assert reworked.finish == case.facts[4]


def test_the_case_as_it_is_shown() -> None:
    case, _ = live("repair", "reported@0/1.5 arrived@901", 1020)
    case = apply(case, fact("note@902", 9, "repair", campaign=Campaign("进博会", "formal")))
    shown = json.loads(json.dumps(view(case, ms(1800.25), RULES)))
    assert shown.pop("stages")[0] == {
        "stage": "reported",
        "occurred_at": "2020-10-26T00:00:00.000Z",
        "received_at": "2020-10-26T00:00:01.500Z",
        "sender": "s",
        "report_id": "r0",
        "foreign": False,
    }
    arrival, completion = shown.pop("standards")
    assert arrival == {
        "standard": "arrival",
        "limit_seconds": 900,
        "started_at": "2020-10-26T00:00:00.000Z",
        "deadline": "2020-10-26T00:15:00.000Z",
        "elapsed_seconds": 901.0,
        "outcome": "breached",
        "overdue": False,
    }
    assert (completion["elapsed_seconds"], completion["outcome"], completion["overdue"]) == (1800.25, None, False)
    assert shown == {
        "case_id": "case",
        "owner": "s",
        "kind": "repair",
        "category": RAILING,
        "phase": "in_progress",
        "supervision": "none",
        "campaign": {"name": "进博会", "phase": "formal", "level": None},
        "flags": [],
        "reopenings": 0,
    }


def test_without_a_clock_a_standard_shows_its_limit_only() -> None:
    (completion,) = view(folded("incident", "arrived@5"), ms(10**6), RULES)["standards"]
    assert completion["limit_seconds"] == 1500
    empty = {name: completion[name] for name in ("started_at", "deadline", "elapsed_seconds", "outcome")}
    assert set(empty.values()) == {None}
    assert completion["overdue"] is False


@pytest.mark.parametrize(
    ("words", "elapsed"), [("cancelled@40", 40), ("approved@50", 50), ("finished@30", 30), ("note@1", 90)]
)
def test_elapsed_time_ends_with_the_work_or_the_case(words: str, elapsed: float) -> None:
    (completion,) = view(folded("incident", f"reported@0 {words}"), ms(90), RULES)["standards"]
    assert completion["elapsed_seconds"] == elapsed


# ---- whose case it is ----


def of(sender: str, word: str, seq: int, **said: Any) -> Fact:
    """A fact of a sender that speaks of its own cases only."""
    return fact(word, seq, "incident", **said)._replace(sender=sender, own_only=True)


def test_what_another_says_of_a_case_is_kept_and_shown_and_nothing_comes_of_it() -> None:
    own = [of("s", word, n) for n, word in enumerate(["reported@0", "arrived@600", "finished@1400", "approved@1450"])]
    other = [
        of("other", "reported@-900", 10, category="0211", kind="repair"),
        of("other", "cancelled@30", 11, supervision=Supervision.URGENT),
        of("other", "finished@10", 12, campaign=Campaign("x")),
        of("other", "returned@1500", 13),
    ]
    alone, both = fold(own), fold([own[0], *other, *own[1:]])

    assert both.facts != both.heard == alone.facts
    told = [view(judge(case, ms(9000), RULES)[0], ms(9000), RULES) for case in (alone, both)]
    assert told[1]["flags"] == ["foreign_sender"]
    assert [one["foreign"] for one in told[1]["stages"]].count(True) == len(other)
    assert told[1] | {"flags": [], "stages": []} == told[0] | {"stages": []}


def test_who_may_speak_of_all_cases_is_heard_in_all() -> None:
    platform = of("platform", "cancelled@30", 1)._replace(own_only=False)
    case = fold([of("s", "reported@0", 0), platform])

    assert (case.owner, case.phase, case.heard) == ("s", "cancelled", case.facts)


def test_a_case_is_first_of_who_speaks_of_it_and_then_of_who_reports_it() -> None:
    note, reported = of("hotline", "pressed@50", 0), of("platform", "reported@0", 1)
    late = of("hotline", "reported@-9", 2)

    assert (fold([note]).owner, fold([note]).supervision) == ("hotline", "pressed")
    assert (fold([note, reported]).owner, fold([note, reported]).supervision) == ("platform", "none")
    assert fold([note, reported, late]).owner == "platform"  # whatever it says of when that was
    assert fold([note, reported, late]).heard == (reported,)


def test_a_state_of_the_time_when_cases_were_nobodys_is_that_of_who_reported_it_first() -> None:
    facts = [fact("note@0/1", 0, "repair"), fact("reported@5/9", 1, "repair"), fact("reported@3/20", 2, "repair")]
    state = json.loads(dump(fold([each._replace(sender=sender) for each, sender in zip(facts, "abc", strict=True)])))
    del state["owner"]

    assert load(json.dumps(state).encode()).owner == "b"
