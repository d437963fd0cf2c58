"""What becomes true of a case by another fact, or by time: what the totals are told of it, once."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from schemas.words import Stage, Standard
from service.cases.search import Labels
from service.domain.case import Outcome
from service.domain.flags import CaseFlag
from service.domain.standards import Assessment, Transition

Amount = tuple[str, Labels, float]  # of a total: its name, its labels, and by how much it grows
Told = tuple[bool, bool, int, tuple[CaseFlag, ...]]  # reported, approved, how often reopened, how flagged

_REPORTED, _APPROVED = Stage.REPORTED, Stage.APPROVED  # sooner than the members of their enum, as in `domain.case`
NOTHING: Told = (False, False, 0, ())


def told(assessed: Assessment) -> Told:
    """What the totals have of a case, beside outcomes and lengths."""
    case = assessed.case
    if _REPORTED not in case.first:  # flags only: whose a case is may change until then, and with it who is heard
        return False, False, 0, assessed.flags
    return True, _APPROVED in case.first, case.reopenings, assessed.flags


def news(
    before: Told, after: Assessment, transitions: Iterable[Transition], seconds: Mapping[Standard, float]
) -> list[Amount]:
    """What has become true of a case."""
    now = told(after)
    if now == before and not transitions and not seconds:
        return []
    found: list[Amount] = []
    place = (after.kind, after.category[:2])
    for step in transitions:
        labels = (step.kind, step.category[:2], *_WORDS[step.standard, step.outcome])
        found.append(("corrections" if step.is_correction else "standard", labels, 1))
    for standard, length in seconds.items():
        edge, times, total = bucket(standard, length), *_LENGTHS[standard]
        found += ((times, (*place, edge), 1), (total, place, length))
    if now != before:
        grown = zip(_GROWING, now[:3], before[:3], strict=True)
        found += [(name, place, n - was) for name, n, was in grown if n != was]
        found += [("flags", (flag.value,), 1) for flag in now[3] if flag not in before[3]]
    return found


_GROWING = ("reported", "approved", "reopenings")
_LENGTHS = {standard: (f"{standard}_seconds", f"{standard}_seconds_sum") for standard in Standard}
_WORDS = {(standard, outcome): (standard.value, outcome.value) for standard in Standard for outcome in Outcome}
ARRIVAL_SECONDS = (60, 120, 300, 600, 900, 1200, 1500, 1800, 2700, 3600, 7200, 14400)
COMPLETION_SECONDS = (
    *(300, 600, 900, 1200, 1500, 1800, 3600, 7200, 14400, 28800, 36000, 43200),
    *(64800, 86400, 129600, 172800, 259200),
)
BUCKETS = {"arrival": ARRIVAL_SECONDS, "completion": COMPLETION_SECONDS}
_EDGES = {standard: (*map(str, edges), "+Inf") for standard, edges in BUCKETS.items()}


def bucket(standard: str, seconds: float) -> str:
    """The upper edge of the histogram bucket a duration falls in."""
    return _EDGES[standard][bisect_left(BUCKETS[standard], seconds)]
