"""Retention leaves less to read of a case, and changes nothing else, now or after any report that is still to come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.cases.search import Period
from service.domain.case import Case, Fact, apply, essence
from service.domain.view import view
from tests.unit.assess import judge, measure, next_due_ms
from tests.unit.case_desk import DAY_MS, FOR_EVER, KEEP_MS, Desk, hurried
from tests.unit.case_stories import COMPLETION, RULES, fact, ms, told
from tests.unit.test_case_properties import MOMENTS, moments, stages, stated

WHOLE = Period(0, FOR_EVER)
STORY = "reported@0 note@1 note@2 note@3 note@4 finished@1400 approved@1450"


@pytest.fixture
def desk() -> Iterator[Desk]:
    """With a closed case."""
    with hurried():
        made = Desk()
        made.now = ms(3000)
        made.accept(*told("incident", STORY))
        made.turn()
        yield made
        made.close()


def strip(desk: Desk) -> None:
    desk.now = ms(1450) + KEEP_MS
    desk.turn()
    assert len(desk.case().facts) == 7
    desk.now += 1
    desk.turn()
    assert len(desk.case().facts) < 7


def test_retention_leaves_the_figures_and_a_late_report_finds_its_case(desk: Desk) -> None:
    before = (desk.totals(), desk.book.figures(WHOLE, desk.now))
    strip(desk)
    desk.kill()
    desk.turn()
    assert (desk.totals(), desk.book.figures(WHOLE, desk.now)) == before
    desk.accept(fact("returned@1430", 9, "incident")._replace(received_at=desk.now))
    for _ in range(2):
        desk.turn()
        assert [(one.standard, one.outcome) for one in desk.case().counted] == [(COMPLETION, "breached")]
        assert desk.told() == {(COMPLETION, "met", False): 1, (COMPLETION, "breached", True): 1}
        desk.now += DAY_MS


@pytest.mark.parametrize("number", range(7))
def test_after_retention_a_report_that_comes_again_still_counts_once(desk: Desk, number: int) -> None:
    strip(desk)
    desk.settle(*range(1, 8))
    assert desk.journal.forget(FOR_EVER) == 7
    before = (desk.totals(), view(desk.case(), desk.now, RULES))
    again = fact("returned@1430", number, "incident")._replace(received_at=desk.now)
    desk.accept(again)
    desk.turn()
    assert desk.fold.folded == 8
    assert (desk.totals(), view(desk.case(), desk.now, RULES)) == before


def test_an_open_case_is_never_stripped(desk: Desk) -> None:
    open_case = told("incident", STORY.removesuffix(" approved@1450"))
    desk.accept(*(each._replace(case_id="open", sender="t") for each in open_case))
    desk.now = ms(2000) + 9 * KEEP_MS
    desk.turn()
    assert len(desk.case("open").facts) == 6


reports = st.tuples(stages, moments, stated)


@settings(deadline=None, max_examples=int(os.environ.get("CASE_EXAMPLES", "150")))
@given(happened=st.lists(reports, min_size=1, max_size=12), now=moments, data=st.data())
def test_retention_changes_nothing_that_is_shown_or_told_but_the_stages(
    happened: list[Any], now: int, data: st.DataObject
) -> None:
    """Of whatever case, however it came about; and after one more report, be it one that has counted already."""
    case: Case | None = None
    for number, one in enumerate(happened):
        case = apply(case, as_fact(one, number, received=number))
    assert case is not None
    case, _ = judge(case, ms(now / 1000), RULES)
    kept = essence(case)
    assert everything(kept) == everything(case)
    number = data.draw(st.integers(0, len(happened)), "which: the last is new")
    more = as_fact(data.draw(reports), number, received=99)
    assert everything(apply(kept, more)) == everything(apply(case, more))
    assert everything(essence(apply(kept, more))) == everything(apply(case, more))


def as_fact(report: Any, number: int, received: float) -> Fact:
    stage, at, said = report
    sender = "stts"[number % 4]  # one of them at times for its own cases only
    return Fact("case", ms(at / 1000), ms(received), int(received), sender, f"r{number}", stage=stage, **said)


def everything(case: Case) -> list[Any]:
    """All that is shown of a case but its stages, and all that will be told of it if nothing more comes."""
    moments = [ms(moment / 1000) for moment in sorted(set(MOMENTS))]
    views = [view(case, moment, RULES) | {"stages": None} for moment in moments]
    judged = [judge(case, moment, RULES) for moment in moments]
    return [views, [(each.counted, told) for each, told in judged], next_due_ms(case, RULES), measure(case, RULES)[1]]
