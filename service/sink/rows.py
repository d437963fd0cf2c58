"""Reports and cases as the rows of their tables."""

from collections.abc import Callable, Container, Mapping
from typing import Any

from schemas.catalogue import Catalogue
from schemas.times import format_time, parse_time
from schemas.words import Stage, Standard, Supervision
from service.consumer import Report
from service.domain import case as domain
from service.domain.case import Campaign, Case, Fact
from service.domain.standards import Assessment, seconds_between
from service.sink.fold import Kept

Names = Callable[[str, str], tuple[str | None, str | None, str | None, str | None]]
_NOTHING: Mapping[str, Any] = {}
_STAGES = {stage.value: stage for stage in Stage}
_LEVELS = {level.value: level for level in Supervision}


def names(catalogue: Catalogue) -> Names:
    """What major class and category are called, zh and en; by kind and code."""

    def of(kind: str, category: str) -> tuple[str | None, str | None, str | None, str | None]:
        found = catalogue.lookup(kind, category)
        major = (found.major.zh, found.major.en) if found.major else (None, None)
        return *major, *((found.category.zh, found.category.en) if found.category else (None, None))

    return of


def fact_of(report: Report, own_only: Container[str]) -> Fact:
    """What a report says of its case; `own_only` are senders who speak of their own cases only.

    Raises KeyError, TypeError or ValueError when it is none of the contract's.
    """
    value = report.value
    campaign = value.get("campaign")
    return Fact(
        report.case_id,
        parse_time(value["occurred_at"]),
        parse_time(value["received_at"]),
        report.seq,
        report.sender,
        report.report_id,
        report.kind,
        report.category,
        _STAGES[report.stage],
        _LEVELS[value["supervision"]],
        Campaign(campaign["name"], campaign.get("phase"), campaign.get("level")) if campaign else None,
        report.sender in own_only,
    )


def report_row(report: Report) -> tuple[Any, ...]:
    """In the order of `tables.REPORTS`."""
    value = report.value
    major, minor = value["major_name"], value.get("category_name") or _NOTHING
    campaign, handler = value.get("campaign") or _NOTHING, value.get("handler") or _NOTHING
    location = value.get("location") or _NOTHING
    return (
        *(report.sender, report.report_id, report.case_id, report.kind),
        *(report.category[:2], major["zh"], major.get("en"), report.category, minor.get("zh"), minor.get("en")),
        *(report.stage, value["supervision"], value["occurred_at"], value["received_at"]),
        *(location.get("address"), location.get("street_code"), location.get("grid_code")),
        *(location.get("component_id"), _real(location.get("x")), _real(location.get("y")), location.get("crs")),
        *(value.get("source"), value.get("source_name")),
        *(campaign.get("name"), campaign.get("phase"), campaign.get("level")),
        *(handler.get("unit_code"), handler.get("unit_name"), value.get("description")),
        *(len(value.get("attachments") or ()), ",".join(value.get("flags") or ()), value.get("catalogue_edition")),
        *(report.journal_id, report.seq, report.topic, report.partition, report.offset),
    )


def case_row(one: Kept, place: Mapping[str, Any], named: Names) -> tuple[Any, ...]:
    """In the order of `tables.CASES`, but for its id, which comes last; `place` is a report's location."""
    assessed, case = one.assessed, one.assessed.case
    major_zh, major_en, category_zh, category_en = named(case.kind, case.category)
    campaign = case.campaign or (None, None, None)
    return (
        *(case.kind, case.category[:2], major_zh, major_en, case.category, category_zh, category_en),
        *(case.phase.value, case.is_open, case.supervision.value, *campaign),
        *(place.get(name) for name in ("address", "street_code", "grid_code", "x", "y", "crs")),
        *(_at(fact) for fact in _moments(case)),
        _at(assessed.started),
        *_standard(assessed, Standard.ARRIVAL),
        *_standard(assessed, Standard.COMPLETION),
        *(case.reopenings, len(case.facts) + len(case.forgotten), ",".join(assessed.flags)),
        format_time(max(fact.received_at for fact in case.facts)),
        *(assessed.next_due_ms, one.as_of, domain.dump(case)),
        case.case_id,
    )


def _moments(case: Case) -> tuple[Fact | None, ...]:
    return case.first.get(Stage.REPORTED), case.arrival, case.finish, case.approval, case.cancellation


def _standard(assessed: Assessment, standard: Standard) -> tuple[Any, ...]:
    """Limit, deadline, seconds, outcome, and the deadline while it is waited for."""
    one = assessed.standards[standard]
    running = assessed.running_deadline(standard)
    took = seconds_between(one.clock.started_at, one.reached.occurred_at) if one.clock and one.reached else None
    return (
        one.limit_seconds,
        one.clock and format_time(one.clock.deadline),
        took,
        one.counted and one.counted.outcome.value,
        None if running is None else format_time(running),
    )


def _real(number: float | None) -> float | None:
    """JSON has one kind of number; an array for PostgreSQL must not have two."""
    return None if number is None else float(number)


def _at(fact: Fact | None) -> str | None:
    return None if fact is None else format_time(fact.occurred_at)
