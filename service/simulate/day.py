"""A day of the district: every case's whole course, from what is found, who goes there, and what goes wrong.

The same seed and setting make the same days, on every machine. Each call of `day` looks at no clock and no other day.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil, log
from random import Random

from schemas.words import Kind, Stage, Supervision
from service.simulate.calls import SHARE, Call, Setting, calls, is_wet
from service.simulate.crews import Crew, Job, visits
from service.simulate.truth import DAY, HOUR, MINUTE, SECOND, Case, Round

CASES_A_CREW, MORE_CREWS = {Kind.INCIDENT: 28, Kind.REPAIR: 28}, 4  # a day: few enough to be late in the rush hour
METRES_A_MINUTE = {Kind.INCIDENT: 350.0, Kind.REPAIR: 420.0}
SLOW = 0.6  # of that speed is left in the rain
RANK = {Supervision.URGENT: 0, Supervision.SUPERVISED: 1, Supervision.PRESSED: 2, Supervision.NONE: 2}
EMERGENCIES = "04"  # the major class of incidents that goes before the others

CANCELLED, NEVER_REACHED, NEVER_FINISHED, NEVER_APPROVED = 0.02, 0.004, 0.006, 0.005  # of the cases
# Medians in minutes, and how far they spread
ON_SITE = {Kind.INCIDENT: (7, 0.45), Kind.REPAIR: (14, 0.4)}
REPAIRED, CHECKED = (240, 0.9), (10, 0.5)
LONGEST = 40 * HOUR  # no work takes longer, so that it is known when a day is over
AGAIN = {Kind.INCIDENT: (9, 0.4), Kind.REPAIR: (90, 0.5)}

SENT_BACK, REOPENED, PRESSED, NOTED = 0.08, 0.015, 0.03, 0.06
LOST = {Stage.REPORTED: 0.004, Stage.DISPATCHED: 0.02, Stage.ARRIVED: 0.015, Stage.FINISHED: 0.004}
PARTS_WANTED = 10 * HOUR  # a repair that takes longer is suspended until its parts have come


def days(seed: int, setting: Setting, count: int = 1) -> list[Case]:
    """The cases of `count` days, numbered through from 1; each day is as if it were the only one."""
    found: list[Case] = []
    for number in range(count):
        random = Random(f"{seed}/{number}")  # noqa: S311 - a model, not a secret
        found += _day(random, setting, first=len(found) + 1, offset=number * DAY)
    return found


def _day(random: Random, setting: Setting, *, first: int, offset: int) -> Iterator[Case]:
    found = calls(random, setting)
    dispatched = [call.reported + random.randrange(20 * SECOND, 120 * SECOND) for call in found]
    jobs = [
        Job(at, _rank(call), call.place, _long(random, *ON_SITE[call.kind]))
        for at, call in zip(dispatched, found, strict=True)
    ]
    on_site = {
        index: at
        for kind in Kind
        for index, at in _arrivals(
            random, setting, kind, {n: jobs[n] for n, call in enumerate(found) if call.kind is kind}
        )
    }
    for index, call in enumerate(found):
        case = Case(
            number=first + index,
            kind=call.kind,
            category=call.category.code,
            words=call.category.zh,
            place=call.place,
            source=call.source,
            supervision=call.supervision,
            in_operation=call.in_operation,
            reported=call.reported + offset,
            dispatched=dispatched[index] + offset,
        )
        yield _course(random, case, on_site[index] + offset, jobs[index].busy)


def _arrivals(random: Random, setting: Setting, kind: Kind, jobs: Mapping[int, Job]) -> Iterator[tuple[int, int]]:
    """When that kind's crews are on site, by the index of the job."""
    wanted = sorted(jobs, key=lambda index: jobs[index].wanted)
    count = MORE_CREWS + ceil(setting.cases * SHARE[kind] / CASES_A_CREW[kind])
    crews = [Crew(random.uniform(1000, 7500), random.uniform(1500, 10500)) for _ in range(count)]

    def speed(at: int) -> float:
        return METRES_A_MINUTE[kind] * (SLOW if is_wet(setting, at) else 1.0)

    for job, at in visits([jobs[index] for index in wanted], crews, speed):
        yield wanted[job], at


def _rank(call: Call) -> int:
    urgent = call.kind is Kind.INCIDENT and call.category.major == EMERGENCIES
    return min(RANK[call.supervision], 1 if urgent else 2)


def _long(random: Random, median_minutes: float, spread: float) -> int:
    """A length that is seldom far above the median, and never below half a minute, in milliseconds."""
    return min(LONGEST, max(30 * SECOND, round(random.lognormvariate(log(median_minutes), spread) * MINUTE)))


def _course(random: Random, case: Case, arrived: int, busy: int) -> Case:
    """What becomes of it."""
    if random.random() < CANCELLED:
        return replace(case, cancelled=case.reported + random.randrange(2 * MINUTE, 9 * MINUTE))
    if random.random() >= NEVER_REACHED:
        case = replace(case, arrived=arrived)
        if random.random() >= NEVER_FINISHED:
            # An incident's crew stays until it is dealt with; a repair's makes it safe, and the parts come later.
            work = busy if case.kind is Kind.INCIDENT else _long(random, *REPAIRED)
            case = replace(case, rounds=tuple(_rounds(random, case.kind, arrived + work)))
    return replace(case, asides=tuple(_asides(random, case)), lost=_lost(random))


def _rounds(random: Random, kind: Kind, finished: int) -> Iterator[Round]:
    """The first go, and those that follow when the check, or the street a while later, shows that it was not done."""
    while random.random() < SENT_BACK:
        returned = finished + _long(random, *CHECKED)
        yield Round(finished, returned=returned)
        finished = returned + _long(random, *AGAIN[kind])
    approved = finished + _long(random, *CHECKED)
    if random.random() < REOPENED:
        reopened = approved + random.randrange(30 * MINUTE, 4 * HOUR)
        yield Round(finished, approved, reopened)
        finished = reopened + _long(random, *AGAIN[kind])
        approved = finished + _long(random, *CHECKED)
    yield Round(finished, None if random.random() < NEVER_APPROVED else approved)


def _asides(random: Random, case: Case) -> Iterator[tuple[int, Stage]]:
    """What is said of it beside its course."""
    if random.random() < PRESSED:
        yield case.reported + random.randrange(10 * MINUTE, 20 * MINUTE), Stage.PRESSED
    if random.random() < NOTED:
        yield case.reported + random.randrange(3 * MINUTE, 15 * MINUTE), Stage.NOTE
    if case.arrived is not None and case.rounds and case.rounds[0].finished - case.arrived > PARTS_WANTED:
        yield case.arrived + random.randrange(10 * MINUTE, 40 * MINUTE), Stage.SUSPENDED
        yield case.rounds[0].finished - random.randrange(HOUR, 2 * HOUR), Stage.RESUMED


def _lost(random: Random) -> Stage | None:
    [stage] = random.choices([None, *LOST], [1 - sum(LOST.values()), *LOST.values()])
    return stage
