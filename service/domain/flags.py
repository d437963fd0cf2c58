"""What is odd about a case, as its facts are now."""

from enum import StrEnum
from itertools import compress

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


def flags(case: Case, started: Fact | None, *, outcome_stands: bool) -> tuple[CaseFlag, ...]:
    """In the order of `CaseFlag`. To count them, count those that were not there before the last fact."""
    odd = (
        started is None,
        case.out_of_order,
        case.category_changed,
        case.kind_changed,
        started is not None and started.stage in case.restated,
        case.approval is not None and case.finish is None,
        case.after_cancelled,
        len(case.heard) != len(case.facts),
        outcome_stands,
    )
    return tuple(compress(CaseFlag, odd)) if any(odd) else ()
