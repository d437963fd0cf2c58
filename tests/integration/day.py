"""One invented day in a district, and what is true of it: the figures that the dashboards are held against.

Nothing here knows the service: a day is a list of reports, and its figures follow from the words of the contract (each
stage's earliest time counts, a rework voids what was finished before it, a deadline decides). Times are Unix seconds.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

Span = tuple[float, float]  # from, to
MINUTE, HOUR = 60, 3600
START = 1_603_641_600  # 2020-10-26 00:00 in Shanghai: the first day of the formal run
END = START + 24 * HOUR
LEADER_CHANGES = START + 12 * HOUR
WEB_RESTARTS = START + 20 * HOUR
KAFKA_AWAY = (START + 10 * HOUR, START + 10 * HOUR + 40 * MINUTE)
FAILING = (START + 15 * HOUR, START + 15 * HOUR + 10 * MINUTE)  # the journal could not be written
SINK_STANDS = END - 20 * MINUTE  # from then on the sub-centre's database was away
GRACE = 120
PARKED = "no-start"  # the case whose one report Kafka will not take
LIMITS = {("incident", "completion"): 1500, ("repair", "arrival"): 900, ("repair", "completion"): 86400}
CATEGORIES = {
    "incident": ("0504", "0504", "0505", "0506", "0501", "0101", "0201", "0301", "0406"),
    "repair": ("0211", "0211", "0404", "0101", "0301"),
}


@dataclass(frozen=True)
class Report:
    """One accepted report."""

    case: str
    kind: str
    category: str
    stage: str
    at: float  # when it happened
    received: float  # when we accepted it
    urgent: bool = False
    outside: bool = False  # coordinates outside the district: flagged

    @property
    def place(self) -> tuple[str, str]:
        """Kind and major class."""
        return self.kind, self.category[:2]

    @property
    def acknowledged(self) -> float | None:
        """When Kafka had it; None: never."""
        return None if self.case == PARKED else acknowledged(self.received)

    @property
    def seconds(self) -> float:
        """How long the answer took."""
        return 0.8 if hash_of(self.case + self.stage) % 150 == 0 else 0.004 + hash_of(self.case) % 40 / 1000


def acknowledged(accepted: float, away: Span = KAFKA_AWAY) -> float:
    """When Kafka has what was accepted then."""
    gone, back = away
    return back + 5 if gone <= accepted < back else accepted + 0.04


def hash_of(text: str) -> int:
    """The same in every process, unlike `hash`."""
    return sum(n * ord(letter) for n, letter in enumerate(text, 1))


@dataclass(frozen=True)
class Refusal:
    """One request that was not taken."""

    at: float
    status: int
    reason: str
    seconds: float = 0.003


class Told:
    """A case as the reports of it tell it that had come by some time."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self.reports = sorted(reports, key=lambda report: report.at)
        self._at: dict[str, list[float]] = defaultdict(list)
        for report in self.reports:
            self._at[report.stage].append(report.at)
        self.kind, self.place = self.reports[0].kind, self.reports[0].place
        self.reported = self._first("reported")
        self.finished, self.approved = self._since_rework("finished"), self._since_rework("approved")
        self.cancelled = self._first("cancelled")
        shown = [at for stage in ("arrived", "finished") for at in self._at[stage]]
        self.arrived = min(shown, default=None)
        self.is_open = self.cancelled is None and self.approved is None
        self.told_at = max(report.received for report in self.reports)  # when the last of them came
        self.urgent = any(report.urgent for report in self.reports)

    def _first(self, stage: str) -> float | None:
        return min(self._at[stage], default=None)

    def _since_rework(self, stage: str) -> float | None:
        rework = max(self._at["returned"], default=0)
        return min((at for at in self._at[stage] if at >= rework), default=None)

    @property
    def phase(self) -> str:
        if self.finished is not None:
            return "awaiting_approval"
        return "awaiting_arrival" if self.arrived is None else "in_progress"

    def deadline(self, standard: str) -> float | None:
        limit = LIMITS.get((self.kind, standard))
        return None if limit is None or self.reported is None else self.reported + limit

    def done(self, standard: str) -> float | None:
        return self.arrived if standard == "arrival" else self.finished

    def running(self, standard: str) -> float | None:
        """The deadline it has not kept yet, if it is open."""
        return self.deadline(standard) if self.is_open and self.done(standard) is None else None

    def outcome(self, standard: str, now: float) -> str | None:
        """met, breached, or None while it is undecided."""
        deadline = self.deadline(standard)
        if deadline is None or (self.cancelled is not None and self.cancelled < deadline):
            return None
        started = next(report for report in self.reports if report.stage == "reported")
        decided = (self.arrived if standard == "arrival" else self.approved) is not None
        if not decided and now < max(deadline, started.received) + GRACE:
            return None
        done = self.done(standard)
        return "met" if done is not None and done <= deadline else "breached"

    def last_outcome(self, standard: str, now: float) -> str | None:
        """The outcome, or while a rework has made it open again, what it was before."""
        if won := self.outcome(standard, now):
            return won
        earlier = [report for report in self.reports if report.received < self.told_at]
        return Told(earlier).last_outcome(standard, self.told_at - 0.001) if earlier else None


@dataclass(frozen=True)
class Day:
    """What came in, in the order it came; it begins a day before `START`, so that some cases are under way then."""

    reports: tuple[Report, ...]
    repeats: tuple[Report, ...]  # sent again a minute later under the same id
    refusals: tuple[Refusal, ...]

    def told(self, now: float) -> list[Told]:
        """Every case known by then."""
        if now not in self._told:
            cases = defaultdict(list)
            for report in self.reports:
                if report.received <= now:
                    cases[report.case].append(report)
            self._told[now] = [Told(reports) for reports in cases.values()]
        return self._told[now]

    @cached_property
    def _told(self) -> dict[float, list[Told]]:
        return {}

    def open(self, now: float) -> list[Told]:
        return [case for case in self.told(now) if case.is_open]

    def overdue(self, now: float) -> Iterator[tuple[Told, str]]:
        """Open cases with a standard whose deadline is over."""
        for case, standard, deadline in self._running(now):
            if now > deadline:
                yield case, standard

    def due_soon(self, now: float) -> Iterator[tuple[Told, str]]:
        for case, standard, deadline in self._running(now):
            horizon = 7200 if LIMITS[case.kind, standard] >= 4 * HOUR else 300
            if now <= deadline <= now + horizon:
                yield case, standard

    def _running(self, now: float) -> Iterator[tuple[Told, str, float]]:
        for case in self.open(now):
            for standard in ("arrival", "completion"):
                if (deadline := case.running(standard)) is not None:
                    yield case, standard, deadline

    def outcomes(self, now: float) -> list[tuple[Told, str, str]]:
        """Case, standard, outcome: all that was ever decided by then, as was last known."""
        every = (
            (case, standard, case.last_outcome(standard, now))
            for case in self.told(now)
            for standard in ("arrival", "completion")
        )
        return [(case, standard, won) for case, standard, won in every if won]

    def received(self, since: float, until: float) -> list[Report]:
        """Reports accepted in (since, until]."""
        return [report for report in self.reports if since < report.received <= until]


def invented(seed: int = 26) -> Day:
    """The day: a quiet night, a busy day, some promises missed, 40 minutes without Kafka, 10 without a journal."""
    luck = random.Random(seed)
    reports = [report for n, at in enumerate(_starts(luck)) for report in _case(luck, f"c-{n}", at)]
    reports += _oddities()
    reports.sort(key=lambda report: report.received)
    reports = [report for report in reports if report.received <= END]
    repeats = [report for report in reports[::40] if report.received + MINUTE < END]
    return Day(tuple(reports), tuple(repeats), tuple(_refusals(luck)))


def calm() -> Day:
    """What is left of that day when nothing goes wrong: one case in three, every promise kept, nothing refused."""
    day = invented()
    broken = {case.reports[0].case for case, _, outcome in day.outcomes(END) if outcome == "breached"}
    odd = {case.reports[0].case for case in day.told(END) if case.reported is None}
    kept = (one for one in day.reports if one.case not in broken | odd and hash_of(one.case) % 3 == 0)
    return Day(tuple(kept), (), ())


def _starts(luck: random.Random) -> Iterator[int]:
    """When cases are reported: 2 an hour at night, 20 by day."""
    at = START - 24 * HOUR
    while at < END - MINUTE:
        by_day = 6 * HOUR <= (at - START) % (24 * HOUR) < 22 * HOUR
        at += int(luck.expovariate((20 if by_day else 2) / HOUR)) + 1
        yield at


def _case(luck: random.Random, case: str, at: int) -> list[Report]:
    kind = "repair" if luck.random() < 0.3 else "incident"
    category = luck.choice(CATEGORIES[kind])
    if kind == "incident":
        arrived = luck.randint(2, 12) * MINUTE
        finished = luck.randint(26, 70) * MINUTE if luck.random() < 0.1 else arrived + luck.randint(3, 12) * MINUTE
    else:
        arrived = (luck.randint(16, 50) if luck.random() < 0.12 else luck.randint(2, 14)) * MINUTE
        finished = luck.randint(25, 40) * HOUR if luck.random() < 0.1 else luck.randint(1, 9) * HOUR
    steps = {
        "reported": at,
        "dispatched": at + 40,
        "arrived": at + arrived,
        "finished": at + finished,
        "approved": at + finished + luck.randint(10, 60) * MINUTE,
    }
    if (fate := luck.random()) < 0.03:
        steps = {"reported": at, "cancelled": at + 8 * MINUTE}
    elif fate < 0.06:  # nobody ever comes
        del steps["arrived"], steps["finished"], steps["approved"]
    urgent, outside = luck.random() < 0.06, luck.random() < 0.02
    return [
        Report(case, kind, category, stage, when, when + luck.randint(1, 25), urgent, outside and stage == "reported")
        for stage, when in steps.items()
    ]


def _oddities() -> list[Report]:
    """Later truths that turn outcomes already counted, more to the bad than to the good; a case without a start."""
    eight, eve = START + 8 * HOUR, START - 12 * HOUR
    return [
        *_told("rework-1", "incident", "0504", eight, reported=0, finished=600, approved=720, returned=900),
        *_told("rework-1", "incident", "0504", eight + 2400, finished=0, approved=600),
        *_told("rework-2", "incident", "0505", eight, reported=0, finished=900, approved=960, returned=1000),
        *_told("rework-3", "repair", "0211", eve, reported=0, arrived=300, finished=3600, approved=4000, returned=7200),
        *_told("late-finish", "incident", "0101", eight, reported=0),
        Report("late-finish", "incident", "0101", "finished", eight + 1200, eight + 2400),
        *_told("late-arrival", "repair", "0404", eight, reported=0),
        Report("late-arrival", "repair", "0404", "arrived", eight + 600, eight + 3000),
        *_told("no-start", "repair", "0211", eight, arrived=0),
    ]


def _told(case: str, kind: str, category: str, at: int, **stages: int) -> list[Report]:
    return [Report(case, kind, category, stage, at + after, at + after + 5) for stage, after in stages.items()]


def _refusals(luck: random.Random) -> Iterator[Refusal]:
    for _ in range(60):
        yield Refusal(START + luck.randint(6 * HOUR, 22 * HOUR), 422, luck.choice(("unknown_category", "required")))
    for n in range(9):
        yield Refusal(FAILING[0] + 30 + n * MINUTE, 503, "journal_unavailable")
    for n in range(5):
        yield Refusal(END - 50 * MINUTE + n * MINUTE, 401, "unauthenticated")
