"""What every query of every dashboard must answer about the invented day.

`FIGURES` has an entry for each, by the panel's English title and the query's letter: when to ask, and what must come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.integration.day import END, HOUR, KAFKA_AWAY, LIMITS, MINUTE, PARKED, SINK_STANDS, START, Day, Report
from tests.integration.figures import (
    AFTER_FAILING,
    AFTER_OUTAGE,
    BY_DAY,
    HANDOVER,
    MORNING,
    NEW_LEADER,
    NEW_WEB,
    NIGHT,
    OF_TOTALS,
    OUTAGE,
    TOPICS,
    WINDOW,
    Between,
    Exactly,
    Figure,
    Quantile,
    Rows,
    by_place,
    completion_rate,
    delays,
    grown,
    hourly,
    intake,
    lags,
    met_ratio,
    missed,
    of_open,
    of_overdue,
    one_row,
    pending,
    per,
    posts,
    promised,
    published,
    published_at,
    quick,
    ratio,
    refused,
    reworked,
    stage_known,
    times,
)

# ---- service level objectives ----

TARGETS = (0.999, 0.99, 0.999, 0.95, 0.95, 0.98)
SLO_TITLES = (
    *("Intake answers", "Intake in 0.5 s", "Published in 60 s"),
    *("Incidents in time", "Arrivals in time", "Repairs in time"),
)


def good(n: int, window: float) -> Callable[[Day, float], float | None]:
    """The part that was good of the n-th objective."""
    if n < 3:
        return (intake, quick, published)[n](window)
    chosen = promised(*tuple(LIMITS)[n - 3])
    return lambda day, now: met_ratio(day, now, window, chosen)


def burn(n: int, window: float) -> Callable[[Day, float], Rows]:
    part, target = good(n, window), TARGETS[n]

    def rows(day: Day, now: float) -> Rows:
        value = part(day, now)
        return {} if value is None else {(): (1 - value) / (1 - target)}

    return rows


def left(n: int) -> Callable[[Day, float], Rows]:
    used = burn(n, 28 * 24 * HOUR)
    return lambda day, now: {labels: 1 - value for labels, value in used(day, now).items()}


def whole(n: int) -> Callable[[Day, float], Rows]:
    part = good(n, 28 * 24 * HOUR)
    return lambda day, now: one_row(part(day, now))


AFTER = (AFTER_OUTAGE, AFTER_FAILING, NEW_WEB, END)
OBJECTIVES: dict[tuple[str, str], Figure] = {
    **{(title, "A"): Exactly(whole(n), AFTER, near=True) for n, title in enumerate(SLO_TITLES)},
    **{(f"Left: {title}", "A"): Exactly(left(n), AFTER, near=True) for n, title in enumerate(SLO_TITLES)},
    **{("Error budget burn (1 hour)", "ABCDEF"[n]): Exactly(burn(n, HOUR), AFTER, near=True) for n in range(3)},
    **{("Error budget burn (6 hours)", "ABCDEF"[n]): Exactly(burn(n, 6 * HOUR), AFTER, near=True) for n in range(6)},
}

HTTP_EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DELAY_EDGES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 86400.0)
APPEND_EDGES = (0.0005, 0.001, 0.0025, 0.005)
LAG_EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def answer_times(day: Day, now: float) -> Mapping[tuple[str, ...], list[float]]:
    return {(): [seconds for _, seconds in posts(day, now, 15 * MINUTE)]}


def lag_times(day: Day, now: float) -> Mapping[tuple[str, ...], list[float]]:
    return {(): lags(day, now, 15 * MINUTE)}


SINK_TURNS = [*range(START, KAFKA_AWAY[0], MINUTE), *range(KAFKA_AWAY[1], SINK_STANDS + 1, MINUTE)]


def reached_kafka(day: Day, since: float, now: float) -> list[Report]:
    return [one for one in day.reports if one.case != PARKED and since < published_at(one.received) <= now]


ONE_HOUR_LATER = (NEW_LEADER, NEW_WEB, END)

FIGURES: dict[tuple[str, str], Figure] = {
    # ---- duty wall ----
    ("Open cases", "A"): of_open(),
    ("Urgent cases", "A"): of_open(lambda case: case.urgent),
    ("Awaiting arrival", "A"): of_open(lambda case: case.phase == "awaiting_arrival"),
    ("Due soon", "A"): Exactly(lambda day, now: len(list(day.due_soon(now)))),
    ("Incident > 25 min", "A"): of_overdue("incident", "completion"),
    ("Arrival > 15 min", "A"): of_overdue("repair", "arrival"),
    ("Repair > 24 h", "A"): of_overdue("repair", "completion"),
    ("Completion rate", "A"): Exactly(completion_rate, OF_TOTALS),
    ("Incidents in 25 min", "A"): ratio("incident", "completion"),
    ("Arrivals in 15 min", "A"): ratio("repair", "arrival"),
    ("Repairs in 24 h", "A"): ratio("repair", "completion"),
    ("Incidents missed", "A"): missed("incident", "completion"),
    ("Arrivals missed", "A"): missed("repair", "arrival"),
    ("Repairs missed", "A"): missed("repair", "completion"),
    **times("Time to finish an incident", "incident", "completion", HOUR, unit=MINUTE),
    **times("Time to arrive at a repair", "repair", "arrival", HOUR, unit=MINUTE),
    **times("Time to finish a repair", "repair", "completion", 6 * HOUR, unit=HOUR),
    ("Reports per hour by category", "A"): hourly(lambda report: report.place),
    ("Open cases by phase", "A"): Exactly(lambda day, now: per((case.phase,) for case in day.open(now))),
    ("Most missed categories", "A"): Exactly(
        lambda day, now: dict(grown(day, now, WINDOW, lambda *_: True, "breached").most_common(6)), (HANDOVER, END)
    ),
    ("Category by category", "A"): Exactly(lambda day, now: per(case.place for case in day.open(now))),
    ("Category by category", "B"): Exactly(lambda day, now: per(case.place for case, _ in day.due_soon(now))),
    ("Category by category", "C"): Exactly(lambda day, now: per(case.place for case, _ in day.overdue(now))),
    ("Category by category", "D"): Exactly(lambda day, now: stage_known(day, now, "reported"), OF_TOTALS),
    ("Category by category", "E"): by_place("arrival"),
    ("Category by category", "F"): by_place("completion"),
    ("Category by category", "G"): Exactly(reworked, OF_TOTALS),
    ("Firing alerts", "A"): Exactly(
        lambda day, now: {("KafkaDisconnected", "page"): now - KAFKA_AWAY[0]} if now == OUTAGE else {}, (OUTAGE, END)
    ),
    # ---- service health ----
    **OBJECTIVES,
    ("Requests per hour by route", "A"): Exactly(
        lambda day, now: {("/v1/reports",): len(posts(day, now, HOUR))}, BY_DAY, near=True
    ),
    ("Error answers per hour by status", "A"): Exactly(
        lambda day, now: refused(day, now, lambda one: str(one.status)), (AFTER_FAILING, NEW_WEB, END), near=True
    ),
    ("Answer time (POST reports)", "A"): Quantile(0.5, answer_times, HTTP_EDGES),
    ("Answer time (POST reports)", "B"): Quantile(0.9, answer_times, HTTP_EDGES),
    ("Answer time (POST reports)", "C"): Quantile(0.99, answer_times, HTTP_EDGES),
    ("Processes", "A"): Exactly(
        lambda day, now: {("web",): 1, ("relay",): 2 if now < NEW_LEADER else 1, ("sink",): 1}, (NIGHT, NEW_LEADER, END)
    ),
    ("Requests in progress", "A"): Exactly(lambda day, now: 0),
    ("Intake, last 15 min", "A"): Exactly(
        lambda day, now: one_row(intake(15 * MINUTE)(day, now)), (OUTAGE, AFTER_FAILING, END), near=True
    ),
    ("Reports per hour by result", "A"): Exactly(
        lambda day, now: {
            ("accepted",): len(day.received(now - HOUR, now)),
            ("duplicate",): sum(now - HOUR < one.received + MINUTE <= now for one in day.repeats),
        },
        BY_DAY,
        near=True,
    ),
    ("Refusals per hour by reason", "A"): Exactly(
        lambda day, now: refused(day, now, lambda one: one.reason), (AFTER_FAILING, NEW_LEADER, END), near=True
    ),
    ("Odd reports per hour by flag", "A"): Exactly(
        lambda day, now: per(("outside_district",) for one in day.received(now - HOUR, now) if one.outside),
        BY_DAY,
        near=True,
    ),
    ("Platform delay", "A"): Quantile(0.5, delays, DELAY_EDGES),
    ("Platform delay", "B"): Quantile(0.9, delays, DELAY_EDGES),
    ("Reports not folded", "A"): Exactly(lambda day, now: 0),
    ("Last deadline sweep", "A"): Exactly(lambda day, now: 0),
    ("Reports not foldable", "A"): Exactly(lambda day, now: 0),
    ("Oldest open case", "A"): Exactly(
        lambda day, now: {
            (kind,): now - min(case.reported for case in day.open(now) if case.kind == kind and case.reported)
            for kind in ("incident", "repair")
        }
    ),
    ("Odd cases per hour by flag", "A"): Between(1, 4, (MORNING,)),
    # ---- Kafka and journal ----
    ("Kafka", "A"): Exactly(lambda day, now: now != OUTAGE),
    ("Pending", "A"): Exactly(lambda day, now: len(pending(day, now))),
    ("Oldest pending", "A"): Exactly(lambda day, now: now - min(pending(day, now), default=now)),
    ("Room left", "A"): Between(0.9, 1),
    ("Parked", "A"): Exactly(lambda day, now: now > MORNING),
    ("Ledger mismatch", "A"): Exactly(lambda day, now: 0),
    ("Relay heartbeat", "A"): Exactly(lambda day, now: 0),
    ("Paused topics", "A"): Exactly(lambda day, now: 0),
    ("Pending messages", "A"): Exactly(lambda day, now: len(pending(day, now))),
    ("Age of the oldest pending", "A"): Exactly(lambda day, now: (now - min(pending(day, now), default=now)) / MINUTE),
    ("Journal size", "A"): Between(10_000, 1 << 28),
    ("Journal size", "B"): Exactly(lambda day, now: 1 << 28),
    ("Connection and leader", "A"): Exactly(lambda day, now: now != OUTAGE),
    ("Connection and leader", "B"): Exactly(lambda day, now: 1),
    ("In flight", "A"): Exactly(lambda day, now: 0),
    ("Published per hour by topic", "A"): Exactly(
        lambda day, now: per((TOPICS[one.place],) for one in reached_kafka(day, now - HOUR, now)),
        (AFTER_OUTAGE, *ONE_HOUR_LATER),
        near=True,
    ),
    ("Publish errors per hour by topic", "A"): Exactly(
        lambda day, now: {("producer", min(TOPICS.values())): 1 + (now - KAFKA_AWAY[0]) / MINUTE}, (OUTAGE,), near=True
    ),
    ("Parked per hour by topic", "A"): Exactly(
        lambda day, now: {(TOPICS["repair", "02"],): 1.0}, (MORNING,), near=True
    ),
    ("Publish duration", "A"): Quantile(0.5, lag_times, LAG_EDGES, ONE_HOUR_LATER),
    ("Publish duration", "B"): Quantile(0.99, lag_times, LAG_EDGES, ONE_HOUR_LATER),
    ("Ingest lag", "A"): Quantile(0.5, lag_times, LAG_EDGES, ONE_HOUR_LATER),
    ("Ingest lag", "B"): Quantile(0.99, lag_times, LAG_EDGES, ONE_HOUR_LATER),
    ("Tables kept up", "A"): Exactly(lambda day, now: now - max(at for at in SINK_TURNS if at <= now)),
    ("Not in the tables yet", "A"): Exactly(lambda day, now: len(reached_kafka(day, SINK_STANDS, now))),
    ("Worked in per hour", "A"): Exactly(
        lambda day, now: {("reports",): len(reached_kafka(day, now - HOUR, min(now, SINK_STANDS)))},
        (AFTER_OUTAGE, *ONE_HOUR_LATER),
        near=True,
    ),
    ("Journal append", "A"): Quantile(0.5, lambda day, now: {(): [0.002]}, APPEND_EDGES),
    ("Journal append", "B"): Quantile(0.99, lambda day, now: {(): [0.002]}, APPEND_EDGES),
}
