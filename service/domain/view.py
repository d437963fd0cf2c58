"""What is told of a case: the body of `GET /v1/cases/{case_id}`."""

from typing import Any

from schemas.times import format_time
from service.domain.case import Case, Fact
from service.domain.standards import Assessment, Judged, Rules, seconds_between


def view(case: Case, now_ms: int, rules: Rules) -> dict[str, Any]:
    """The body of `GET /v1/cases/{case_id}` but for `as_of`. Standards nothing is promised for are left out."""
    assessed = Assessment(case, rules)
    return {
        "case_id": case.case_id,
        "owner": case.owner,
        "kind": case.kind,
        "category": case.category,
        "phase": case.phase,
        "supervision": case.supervision,
        "campaign": case.campaign and case.campaign._asdict(),
        "flags": list(assessed.flags),
        "reopenings": case.reopenings,
        "stages": [_stage(fact, foreign=case.is_foreign(fact)) for fact in case.facts],
        "standards": [
            _standard(assessed, one, now_ms) for one in assessed.standards.values() if one.limit_seconds is not None
        ],
    }


def _stage(fact: Fact, *, foreign: bool) -> dict[str, Any]:
    return {
        "stage": fact.stage,
        "occurred_at": format_time(fact.occurred_at),
        "received_at": format_time(fact.received_at),
        "sender": fact.sender,
        "report_id": fact.report_id,
        "foreign": foreign,
    }


def _standard(assessed: Assessment, one: Judged, now_ms: int) -> dict[str, Any]:
    time = one.clock
    return {
        "standard": one.standard,
        "limit_seconds": one.limit_seconds,
        "started_at": format_time(time.started_at) if time else None,
        "deadline": format_time(time.deadline) if time else None,
        "elapsed_seconds": seconds_between(time.started_at, _until(assessed.case, one, now_ms)) if time else None,
        "outcome": one.counted and one.counted.outcome,
        "overdue": assessed.is_overdue(one.standard, now_ms),
    }


def _until(case: Case, one: Judged, now_ms: int) -> int:
    """Where the elapsed time of a standard ends: fulfilled, else the case closed, else now."""
    end = one.reached or case.cancellation or case.approval
    return end.occurred_at if end else now_ms
