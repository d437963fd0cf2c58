"""What is odd about a case, as its facts are now."""

from collections.abc import Iterable
from enum import StrEnum

from schemas.words import Stage
from service.domain.case import Case, Fact


class CaseFlag(StrEnum):
    """What is odd about a case, as its facts are now: a flag whose line names no end stays once raised."""

    NO_CLOCK = "no_clock"
    """No report of the stage that starts the clocks; goes when one comes."""
    OUT_OF_ORDER = "out_of_order"
    """Its stages did not happen in the order of the process, or did not come to us in the order they happened."""
    CATEGORY_CHANGED = "category_changed"
    """Its reports do not agree on the category."""
    KIND_CHANGED = "kind_changed"
    """Its reports do not agree on the kind."""
    CLOCK_RESTATED = "clock_restated"
    """The stage that starts the clocks was reported with several times; the earliest counts."""
    APPROVED_UNFINISHED = "approved_unfinished"
    """An approval stands and no finish does; goes when one comes."""
    AFTER_CANCELLED = "after_cancelled"
    """Something other than a note happened after it was cancelled."""
    FOREIGN_SENDER = "foreign_sender"
    """Somebody has spoken of it whose key is for its own cases only; of that nothing is heard."""
    OUTCOME_STANDS = "outcome_stands"
    """An outcome was counted that its reports do not call for (cancelled late, say); goes if they do again."""


_PROCESS = (Stage.REPORTED, Stage.DISPATCHED, Stage.ARRIVED, Stage.FINISHED, Stage.APPROVED)
_COMMENTS = {Stage.PRESSED, Stage.SUPERVISED, Stage.NOTE}  # at home anywhere in the process
_ENDED = {Stage.CANCELLED, Stage.NOTE}  # what may follow a cancellation


def flags(case: Case, started: Fact | None, *, outcome_stands: bool) -> tuple[CaseFlag, ...]:
    """In the order of `CaseFlag`. To count them, count those that were not there before the last fact."""
    odd = _disagreements(case, started)
    if started is None:
        odd.add(CaseFlag.NO_CLOCK)
    if len(case.heard) != len(case.facts):
        odd.add(CaseFlag.FOREIGN_SENDER)
    if _happened_out_of_order(case) or _came_out_of_order(case.heard):
        odd.add(CaseFlag.OUT_OF_ORDER)
    if case.approval is not None and case.finish is None:
        odd.add(CaseFlag.APPROVED_UNFINISHED)
    if outcome_stands:
        odd.add(CaseFlag.OUTCOME_STANDS)
    return tuple(flag for flag in CaseFlag if flag in odd) if odd else ()


def _disagreements(case: Case, started: Fact | None) -> set[CaseFlag]:
    """Facts that do not fit what others say."""
    odd = set[CaseFlag]()
    named, cancelled = case.named_by, case.cancellation
    for fact in case.heard:
        if fact.category != named.category:
            odd.add(CaseFlag.CATEGORY_CHANGED)
        if fact.kind != named.kind:
            odd.add(CaseFlag.KIND_CHANGED)
        if cancelled is not None and fact > cancelled and fact.stage not in _ENDED:
            odd.add(CaseFlag.AFTER_CANCELLED)
        if started is not None and fact.stage is started.stage and fact.occurred_at != started.occurred_at:
            odd.add(CaseFlag.CLOCK_RESTATED)
    return odd


def _happened_out_of_order(case: Case) -> bool:
    first = case.first
    finish, returned = first.get(Stage.FINISHED), first.get(Stage.RETURNED)
    if returned is not None and (finish is None or finish > returned):
        return True
    last = 0
    for stage in _PROCESS:
        if (fact := first.get(stage)) is not None:
            if fact.occurred_at < last:
                return True
            last = fact.occurred_at
    return False


def _came_out_of_order(facts: Iterable[Fact]) -> bool:
    last = (0, 0)
    for fact in facts:
        if fact.stage not in _COMMENTS:
            came = (fact.received_at, fact.seq)
            if came < last:
                return True
            last = came
    return False
