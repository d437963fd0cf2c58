"""What is true of the invented day, in the shape in which a panel must show it.

Labels are compared by their values, in the order of their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from schemas.catalogue import Catalogue
from tests.integration.day import (
    END,
    FAILING,
    HOUR,
    KAFKA_AWAY,
    LEADER_CHANGES,
    LIMITS,
    MINUTE,
    START,
    WEB_RESTARTS,
    Day,
    Report,
    Told,
)

Rows = Mapping[tuple[str, ...], float]
NIGHT = START + 4 * HOUR
MORNING = START + 8 * HOUR + 45 * MINUTE  # after the oddities
OUTAGE = KAFKA_AWAY[1] - 5 * MINUTE
AFTER_OUTAGE = KAFKA_AWAY[1] + 20 * MINUTE
NEW_LEADER = START + 12 * HOUR + 30 * MINUTE
AFTER_FAILING = FAILING[1] + 5 * MINUTE
NEW_WEB = WEB_RESTARTS + 30 * MINUTE
HANDOVER = LEADER_CHANGES + 2 * MINUTE  # the old leader's last samples still count as present
USUAL = (NIGHT, OUTAGE, NEW_LEADER, NEW_WEB, END)
OF_TOTALS = (*USUAL, HANDOVER)
BY_DAY = (OUTAGE, NEW_LEADER, NEW_WEB, END)
TOPICS = {key: major.topic for key, major in Catalogue.load().majors.items()}
WINDOW = 24 * HOUR  # what `$window` is set to


@dataclass(frozen=True)
class Exactly:
    """These rows and no others. `near` allows what `increase` adds by extrapolation."""

    rows: Callable[[Day, float], Rows | float]
    at: tuple[float, ...] = USUAL
    near: bool = False


@dataclass(frozen=True)
class Quantile:
    """In the same histogram bucket as the true quantile of what was observed."""

    q: float
    observed: Callable[[Day, float], Mapping[tuple[str, ...], list[float]]]
    edges: tuple[float, ...]
    at: tuple[float, ...] = BY_DAY

    def bucket(self, seconds: list[float]) -> tuple[float, float]:
        """Lower and upper edge."""
        true = sorted(seconds)[max(0, ceil(self.q * len(seconds)) - 1)]
        upper = next(edge for edge in self.edges if true <= edge)
        return max((edge for edge in self.edges if edge < upper), default=0.0), upper


@dataclass(frozen=True)
class Between:
    """Every row from `least` to `most`, and at least one."""

    least: float
    most: float
    at: tuple[float, ...] = USUAL


Figure = Exactly | Quantile | Between


def per(keys: Iterable[tuple[str, ...]]) -> Rows:
    """How many of each."""
    return Counter(keys)


# ---- cases ----


def of_open(chosen: Callable[[Told], bool] = lambda case: True) -> Exactly:
    return Exactly(lambda day, now: sum(chosen(case) for case in day.open(now)))


def of_overdue(kind: str, standard: str) -> Exactly:
    return Exactly(lambda day, now: sum(case.kind == kind and which == standard for case, which in day.overdue(now)))


def since(now: float, window: float) -> float:
    """The earliest scrape in the window."""
    return max(START, now - window)


Chosen = Callable[[Told, str], bool]


def promised(kind: str, standard: str) -> Chosen:
    return lambda case, which: (case.kind, which) == (kind, standard)


def grown(day: Day, now: float, window: float, chosen: Chosen, *outcomes: str) -> Counter[tuple[str, ...]]:
    """By place: outcomes there are now less those there were at the window's start."""
    places: Counter[tuple[str, ...]] = Counter()
    for moment, sign in ((now, 1), (since(now, window), -1)):
        for case, standard, outcome in day.outcomes(moment):
            if chosen(case, standard) and outcome in outcomes:
                places[case.place] += sign
    return places


def missed(kind: str, standard: str) -> Exactly:
    chosen = promised(kind, standard)
    return Exactly(lambda day, now: grown(day, now, WINDOW, chosen, "breached").total(), OF_TOTALS)


def met_ratio(day: Day, now: float, window: float, chosen: Chosen) -> float | None:
    decided = grown(day, now, window, chosen, "met", "breached").total()
    return min(1.0, grown(day, now, window, chosen, "met").total() / decided) if decided else None


def ratio(kind: str, standard: str, window: float = WINDOW) -> Exactly:
    """Only where something was decided; the panel shows nothing elsewhere, and so does this."""
    return Exactly(lambda day, now: one_row(met_ratio(day, now, window, promised(kind, standard))), OF_TOTALS)


def one_row(value: float | None) -> Rows:
    return {} if value is None else {(): value}


def by_place(standard: str) -> Exactly:
    def rows(day: Day, now: float) -> Rows:
        decided = grown(day, now, WINDOW, lambda _, which: which == standard, "met", "breached")
        met = grown(day, now, WINDOW, lambda _, which: which == standard, "met")
        return {place: min(1.0, met[place] / count) for place, count in decided.items() if count > 0}

    return Exactly(rows, OF_TOTALS)


def stage_known(day: Day, now: float, stage: str) -> Rows:
    """By place: cases that have had such a report within the window."""
    late = per(case.place for case in day.told(now) if any(one.stage == stage for one in case.reports))
    early = per(case.place for case in day.told(since(now, WINDOW)) if any(one.stage == stage for one in case.reports))
    return {place: count - early.get(place, 0) for place, count in late.items()}


def completion_rate(day: Day, now: float) -> float:
    return sum(stage_known(day, now, "approved").values()) / sum(stage_known(day, now, "reported").values())


def reworked(day: Day, now: float) -> Rows:
    begin = since(now, WINDOW)
    return per((one.kind, one.category[:2]) for one in day.received(begin, now) if one.stage == "returned")


def durations(kind: str, standard: str, window: float) -> Callable[[Day, float], Mapping[tuple[str, ...], list[float]]]:
    """Seconds of the cases that were measured in the window, each once."""

    def measured(day: Day, now: float) -> Mapping[tuple[str, ...], list[float]]:
        before = {id_ for id_, _ in _measured(day, since(now, window), kind, standard)}
        return {(): [seconds for id_, seconds in _measured(day, now, kind, standard) if id_ not in before]}

    return measured


def _measured(day: Day, now: float, kind: str, standard: str) -> list[tuple[str, float]]:
    return [
        (case.reports[0].case, max(0, done - case.reported))
        for case in day.told(now)
        if case.kind == kind and case.reported is not None and (done := case.done(standard)) is not None
        if standard == "arrival" or case.outcome(standard, now)
    ]


ARRIVAL = (60, 120, 300, 600, 900, 1200, 1500, 1800, 2700, 3600, 7200, 14400)
COMPLETION = (
    *(300, 600, 900, 1200, 1500, 1800, 3600, 7200, 14400, 28800),
    *(36000, 43200, 64800, 86400, 129600, 172800, 259200),
)


def times(title: str, kind: str, standard: str, window: float, *, unit: int) -> dict[tuple[str, str], Figure]:
    """`unit`: seconds of what the panel counts in."""
    edges = tuple(edge / unit for edge in (ARRIVAL if standard == "arrival" else COMPLETION))
    measured = durations(kind, standard, window)

    def observed(day: Day, now: float) -> Mapping[tuple[str, ...], list[float]]:
        return {labels: [one / unit for one in seconds] for labels, seconds in measured(day, now).items()}

    return {
        (title, "A"): Quantile(0.5, observed, edges),
        (title, "B"): Quantile(0.9, observed, edges),
        (title, "C"): Exactly(lambda day, now: LIMITS[kind, standard] / unit, OF_TOTALS),
    }


# ---- events ----


def hourly(key: Callable[[Report], tuple[str, ...]], *at: float) -> Exactly:
    return Exactly(lambda day, now: per(map(key, day.received(now - HOUR, now))), at or BY_DAY, near=True)


def posts(day: Day, now: float, window: float) -> list[tuple[int, float]]:
    """Status and seconds of every POST answered in the window."""
    begin = since(now, window)
    again = [one for one in day.repeats if begin < one.received + MINUTE <= now]
    answered = [(202, one.seconds) for one in (*day.received(begin, now), *again)]
    return answered + [(one.status, one.seconds) for one in day.refusals if begin < one.at <= now]


def intake(window: float) -> Callable[[Day, float], float | None]:
    def part(day: Day, now: float) -> float | None:
        answered = posts(day, now, window)
        return sum(status < 500 for status, _ in answered) / len(answered) if answered else None

    return part


def quick(window: float) -> Callable[[Day, float], float | None]:
    def part(day: Day, now: float) -> float | None:
        answered = posts(day, now, window)
        return sum(seconds <= 0.5 for _, seconds in answered) / len(answered) if answered else None

    return part


def lags(day: Day, now: float, window: float) -> list[float]:
    """Seconds from acceptance to Kafka of what was acknowledged, by the relay's turn of each minute, in the window."""
    begin = since(now, window)
    taken = [(one.received, one.acknowledged) for one in day.reports if one.acknowledged is not None]
    turns = [(published_at(received), done - received) for received, done in taken]
    return [seconds for turn, seconds in turns if begin < turn <= now]


def published_at(received: float) -> float:
    """The scrape before which a report accepted then was published."""
    turn = ceil(received / MINUTE) * MINUTE
    return KAFKA_AWAY[1] if KAFKA_AWAY[0] <= turn < KAFKA_AWAY[1] else turn


def published(window: float) -> Callable[[Day, float], float | None]:
    def part(day: Day, now: float) -> float | None:
        seconds = lags(day, now, window)
        return sum(lag <= 60 for lag in seconds) / len(seconds) if seconds else None

    return part


def pending(day: Day, now: float) -> list[float]:
    return [one.received for one in day.received(START, now) if one.acknowledged and published_at(one.received) > now]


def delays(day: Day, now: float) -> Mapping[tuple[str, ...], list[float]]:
    late: dict[tuple[str, ...], list[float]] = {}
    for one in day.received(now - HOUR, now):
        late.setdefault((one.kind,), []).append(one.received - one.at)
    return late


def refused(day: Day, now: float, key: Callable[..., str], *, since_status: int = 0) -> Rows:
    return per((key(one),) for one in day.refusals if now - HOUR < one.at <= now and one.status >= since_status)
