"""The figures that gridgov must come to, from what really happened and what of it was told.

Written against the district's rules, not against gridgov's code: it shares none with `service.domain` and
`service.cases`. It holds once every deadline has passed and all that is ever told has been, with clocks that start at
`reported`, as they do by default.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from schemas.words import Stage, Standard, Supervision
from service.simulate.truth import SECOND, Case

Limit = Callable[[str, str, str], int | None]  # kind, standard, category → seconds, None: nothing is promised
PHASE = "formal"  # of the operation
COUNTS = (
    *("reported", "approved", "cancelled", "arrival_met", "arrival_breached"),
    *("completion_met", "completion_breached", "overdue_unfinished", "reworked"),
)


class Expected(NamedTuple):
    """What is to be known of one case in the end. An outcome is `met`, `breached`, or None where there is none."""

    kind: str
    campaign_phase: str | None
    supervision: str
    was_reported: bool
    approved: bool
    cancelled: bool
    reopenings: int
    arrival: str | None
    completion: str | None
    unfinished: bool  # and overdue: no finish stands, and nobody has closed it


def of_case(case: Case, limit: Limit) -> Expected:
    """What is to be known of it."""
    approved = case.last is not None and case.last.approved is not None
    finished = _standing_finish(case)
    within = {standard: limit(case.kind, standard, case.category) for standard in Standard}
    told = case.lost is not Stage.REPORTED
    completion = _outcome(case, within[Standard.COMPLETION], finished)
    return Expected(
        kind=case.kind,
        campaign_phase=PHASE if case.in_operation else None,
        supervision=_supervision(case),
        was_reported=told,
        approved=approved,
        cancelled=case.cancelled is not None,
        reopenings=sum(one.returned is not None for one in case.rounds),
        arrival=_outcome(case, within[Standard.ARRIVAL], _seen_on_site(case)),
        completion=completion,
        unfinished=completion is not None and finished is None and not approved and case.cancelled is None,
    )


def figures(known: Iterable[Expected]) -> list[dict[str, Any]]:
    """One row per campaign phase and kind, as `gridgov standards` has them: of the cases whose report was told."""
    found = [one for one in known if one.was_reported]
    groups = sorted({(one.campaign_phase is None, one.campaign_phase, one.kind) for one in found})
    return [_row(phase, kind, found) for _, phase, kind in groups]


def _row(phase: str | None, kind: str, found: Iterable[Expected]) -> dict[str, Any]:
    counts = dict.fromkeys(COUNTS, 0)
    for one in found:
        if (one.campaign_phase, one.kind) == (phase, kind):
            for name in _counted(one):
                counts[name] += 1
    return {"campaign_phase": phase, "kind": kind, **counts}


def _counted(one: Expected) -> Iterator[str]:
    yield "reported"
    for name, said in (("approved", one.approved), ("cancelled", one.cancelled), ("reworked", one.reopenings > 0)):
        if said:
            yield name
    for standard in Standard:
        if outcome := getattr(one, standard):
            yield f"{standard}_{outcome}"
    if one.unfinished:
        yield "overdue_unfinished"


def _outcome(case: Case, limit: int | None, done: int | None) -> str | None:
    """No promise, nothing known of its beginning, or called off in time: none. Else it was kept, or it was not."""
    if limit is None or case.lost is Stage.REPORTED:
        return None
    deadline = case.reported + limit * SECOND
    if case.cancelled is not None and case.cancelled < deadline:
        return None
    return "met" if done is not None and done <= deadline else "breached"


def _standing_finish(case: Case) -> int | None:
    """The last round's, if it was told; the earlier ones were sent back."""
    if case.last is None or case.last.returned is not None or case.lost is Stage.FINISHED:
        return None
    return case.last.finished


def _seen_on_site(case: Case) -> int | None:
    """When the crew was first known to be there: whoever has finished had arrived."""
    if case.arrived is not None and case.lost is not Stage.ARRIVED:
        return case.arrived
    finishes = [one.finished for one in case.rounds if not (one is case.last and case.lost is Stage.FINISHED)]
    return finishes[0] if finishes else None


def _supervision(case: Case) -> str:
    pressed = any(stage is Stage.PRESSED for _, stage in case.asides)
    return Supervision.PRESSED if pressed and case.supervision is Supervision.NONE else case.supervision
