"""What is told of a case: its flags, and the body of `GET /v1/cases/{case_id}`."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from typing import Any

from schemas.times import format_time
from schemas.words import Stage
from service.domain.case import Case, Fact, Standard
from service.domain.standards import (
    Rules,
    clock,
    is_overdue,
    limit_seconds,
    reached,
    seconds_between,
    start,
    verdict,
)


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
    OUTCOME_STANDS = "outcome_stands"
    """An outcome was counted that its reports do not call for (cancelled late, say); goes if they do again."""


_PROCESS = (Stage.REPORTED, Stage.DISPATCHED, Stage.ARRIVED, Stage.FINISHED, Stage.APPROVED)
_COMMENTS = {Stage.PRESSED, Stage.SUPERVISED, Stage.NOTE}  # at home anywhere in the process


def flags(case: Case, rules: Rules) -> tuple[CaseFlag, ...]:
    """In the order of `CaseFlag`. To count them, count those that were not there before the last fact."""
    return tuple(flag for flag, raised in zip(CaseFlag, _raised(case, rules), strict=True) if raised)


def _raised(case: Case, rules: Rules) -> Iterator[bool]:
    """One answer per member of `CaseFlag`, in its order."""
    started, cancelled = start(case, rules), case.cancellation
    yield started is None
    yield _happened_out_of_order(case) or _came_out_of_order(case)
    yield any(fact.category != case.category for fact in case.facts)
    yield any(fact.kind != case.kind for fact in case.facts)
    yield started is not None and any(_restates(fact, started) for fact in case.facts)
    yield case.approval is not None and case.finish is None
    yield cancelled is not None and any(_ignores(fact, cancelled) for fact in case.facts)
    yield any(verdict(case, counted.standard, rules) is None for counted in case.counted)


def _happened_out_of_order(case: Case) -> bool:
    times = [case.first[stage].occurred_at for stage in _PROCESS if stage in case.first]
    finish, returned = case.first.get(Stage.FINISHED), case.first.get(Stage.RETURNED)
    unfounded = returned is not None and (finish is None or finish > returned)
    return unfounded or any(later < earlier for earlier, later in pairwise(times))


def _came_out_of_order(case: Case) -> bool:
    receipts = [(fact.received_at, fact.seq) for fact in case.facts if fact.stage not in _COMMENTS]
    return any(later < earlier for earlier, later in pairwise(receipts))


def _restates(fact: Fact, started: Fact) -> bool:
    return fact.stage == started.stage and fact.occurred_at != started.occurred_at


def _ignores(fact: Fact, cancelled: Fact) -> bool:
    return fact > cancelled and fact.stage not in {Stage.CANCELLED, Stage.NOTE}


def view(case: Case, now_ms: int, rules: Rules) -> dict[str, Any]:
    """The body of `GET /v1/cases/{case_id}` but for `as_of`. Standards nothing is promised for are left out."""
    return {
        "case_id": case.case_id,
        "kind": case.kind,
        "category": case.category,
        "phase": case.phase,
        "supervision": case.supervision,
        "campaign": case.campaign and case.campaign._asdict(),
        "flags": list(flags(case, rules)),
        "reopenings": case.reopenings,
        "stages": [_stage(fact) for fact in case.facts],
        "standards": [
            _standard(case, standard, now_ms, rules)
            for standard in Standard
            if limit_seconds(case, standard, rules) is not None
        ],
    }


def _stage(fact: Fact) -> dict[str, Any]:
    return {
        "stage": fact.stage,
        "occurred_at": format_time(fact.occurred_at),
        "received_at": format_time(fact.received_at),
        "sender": fact.sender,
        "report_id": fact.report_id,
    }


def _standard(case: Case, standard: Standard, now_ms: int, rules: Rules) -> dict[str, Any]:
    time, counted = clock(case, standard, rules), case.outcome(standard)
    return {
        "standard": standard,
        "limit_seconds": limit_seconds(case, standard, rules),
        "started_at": format_time(time.started_at) if time else None,
        "deadline": format_time(time.deadline) if time else None,
        "elapsed_seconds": seconds_between(time.started_at, _until(case, standard, now_ms)) if time else None,
        "outcome": counted and counted.outcome,
        "overdue": is_overdue(case, standard, now_ms, rules),
    }


def _until(case: Case, standard: Standard, now_ms: int) -> int:
    """Where the elapsed time of a standard ends: fulfilled, else the case closed, else now."""
    end = reached(case, standard) or case.cancellation or case.approval
    return end.occurred_at if end else now_ms
