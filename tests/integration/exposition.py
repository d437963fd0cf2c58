"""The invented day as Prometheus would have scraped it: played through the real intake, journal, case fold and metric
objects under a clock of our own, so that no name, label or bucket can differ from what the service exposes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from schemas.catalogue import Catalogue
from schemas.times import format_time
from service.cases.casebook import Casebook
from service.cases.fold import CaseFold
from service.cases.metrics import CaseCollector
from service.consumer.reader import Counts
from service.domain.standards import Rules
from service.intake.accept import Intake
from service.intake.keys import Principal, Role
from service.journal.journal import SqliteJournal
from service.metrics import JournalCollector, registry, relay_metrics
from service.ports import Conflict, Delivery, Message, ParkReason, Pending, Receipt
from service.sink.metrics import SinkCollector
from tests.integration.day import (
    END,
    GRACE,
    HOUR,
    KAFKA_AWAY,
    LEADER_CHANGES,
    MINUTE,
    PARKED,
    SINK_STANDS,
    START,
    WEB_RESTARTS,
    Day,
    Refusal,
    Report,
    Span,
    acknowledged,
)
from tests.metrics import for_web

APPEND_SECONDS = 0.002
PLATFORM = Principal("platform", frozenset({Role.SENDER}))
Key = tuple[str, tuple[tuple[str, str], ...]]  # sample name, labels


@dataclass
class Clock:
    """Stands in for the module `time`."""

    now: float

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def ms(self) -> int:
        return round(self.now * 1000)


@dataclass
class Recorder:
    """Keeps what scrapes say, and writes it as OpenMetrics."""

    series: dict[str, dict[Key, list[tuple[int, float]]]] = field(default_factory=dict)  # by family
    types: dict[str, str] = field(default_factory=dict)

    def scrape(self, now: int, job: str, instance: str, exposed: CollectorRegistry) -> None:
        for family in exposed.collect():
            if family.name.startswith("gridgov_"):
                self.keep(now, family, (("instance", instance), ("job", job)))

    def keep(self, now: int, family: Metric, target: Sequence[tuple[str, str]]) -> None:
        self.types[family.name] = family.type
        known = self.series.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, (*sample.labels.items(), *target))
            known.setdefault(key, []).append((now, sample.value))

    def write(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for name, known in self.series.items():
                file.write(f"# TYPE {name} {self.types[name]}\n")
                idle = _idle(known) if self.types[name] == "histogram" else set()
                for (sample, labels), values in known.items():
                    if _apart(labels) not in idle:
                        told = ",".join(f'{label}="{value}"' for label, value in labels)
                        file.writelines(f"{sample}{{{told}}} {value!r} {at}\n" for at, value in values)
            file.write("# EOF\n")


def _apart(labels: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    return frozenset(label for label in labels if label[0] != "le")


def _idle(known: dict[Key, list[tuple[int, float]]]) -> set[frozenset[tuple[str, str]]]:
    """Histograms that saw nothing all day: most of all series, and of no use to a sum."""
    counts = {_apart(labels): values[-1][1] for (name, labels), values in known.items() if name.endswith("_count")}
    return {labels for labels, count in counts.items() if not count}


class Straight:
    """Writes at once what intake submits."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal

    def submit(self, messages: Sequence[Message]) -> list[Receipt | Conflict]:
        [answer] = self._journal.append([messages])
        assert isinstance(answer, list)
        return answer


class Web:
    """The web process, from one start of it to the next."""

    def __init__(self, catalogue: Catalogue, journal: SqliteJournal, clock: Clock) -> None:
        self.exposed = registry("web")
        self.metrics = for_web(self.exposed, catalogue)
        self.exposed.register(JournalCollector(journal))
        self._intake = Intake(catalogue, Straight(journal), self.metrics, clock=clock.ms, accept_unknown_minor=False)

    def take(self, report: Report) -> None:
        """One POST that is answered with 202."""
        [answer] = self._intake.accept(PLATFORM, [_sent(report)])
        assert isinstance(answer, Receipt), answer
        self._answered(202, report.seconds)
        self.metrics.append_seconds.observe(APPEND_SECONDS)

    def refuse(self, refusal: Refusal) -> None:
        self.metrics.rejections.labels(refusal.reason).inc()
        self._answered(refusal.status, refusal.seconds)

    def _answered(self, status: int, seconds: float) -> None:
        self.metrics.http_requests.labels("POST", "/v1/reports", str(status)).inc()
        self.metrics.http_seconds.labels("POST", "/v1/reports").observe(seconds)


def _sent(report: Report) -> dict[str, Any]:
    """The report as the platform posts it."""
    place = {"address": "杨树浦路 × 秦皇岛路", "x": 120.9 if report.outside else 121.5, "y": 31.25, "crs": "WGS84"}
    return {
        "report_id": f"{report.case}.{report.stage}.{report.at:.0f}",
        "case_id": report.case,
        "kind": report.kind,
        "category": report.category,
        "stage": report.stage,
        "occurred_at": format_time(round(report.at * 1000)),
        "location": place,
        "supervision": "urgent" if report.urgent else "none",
    }


class RelayProcess:
    """A relay: a standby until it leads."""

    def __init__(self, catalogue: Catalogue, away: Span) -> None:
        self._catalogue = catalogue
        self._away = away
        self.exposed = registry("relay")
        self.metrics = relay_metrics(self.exposed, catalogue.topics)

    def lead(self, fold: CaseFold) -> None:
        self.metrics.leader.set(1)
        self.exposed.register(CaseCollector(fold, self._catalogue))

    def turn(self, now: float, journal: SqliteJournal, fold: CaseFold) -> None:
        """What the leader does in a minute: fold, and publish what is pending if Kafka is there."""
        while fold.turn():
            pass
        is_away = self._away[0] <= now < self._away[1]
        self.metrics.connected.set(not is_away)
        self.metrics.heartbeat.set(now)
        self.metrics.mismatch.set(journal.totals().mismatch)
        pending = [one for topic in self._catalogue.topics for one in journal.pending(topic, 0, 10_000)]
        if is_away:
            self.metrics.errors.labels(self._catalogue.topics[0], "producer").inc()
        else:
            journal.hand_over({}, [self._settled(one) for one in pending if one.case_id != PARKED], fold.folded)
            self._park([one for one in pending if one.case_id == PARKED], journal, round(now * 1000))

    def _settled(self, one: Pending) -> Delivery:
        accepted = one.received_at / 1000
        at = acknowledged(accepted, self._away)
        self.metrics.publishes.labels(one.topic, "delivered").inc()
        self.metrics.publish_seconds.labels(one.topic).observe(at - accepted)
        self.metrics.ingest_lag.labels(one.topic).observe(at - accepted)
        return Delivery(one.seq, 0, one.seq, round(at * 1000))

    def _park(self, refused: list[Pending], journal: SqliteJournal, now_ms: int) -> None:
        for one in refused:
            journal.park(one.seq, ParkReason.RECORD_TOO_LARGE, "", now_ms)
            self.metrics.publishes.labels(one.topic, "parked").inc()


class SubCentre:
    """A sink that has worked in what Kafka has, each minute, until its database went away in the evening."""

    def __init__(self) -> None:
        self.counts, self.lag = Counts(), {("all", 0): 0}
        self.worked_at = self.turned_at = 0.0
        self.exposed = registry("sink")
        self.exposed.register(SinkCollector(self))

    def turn(self, now: int, settled: int, away: Span) -> None:
        if now > SINK_STANDS or away[0] <= now < away[1]:
            self.lag = {("all", 0): settled - self.counts.reports}
        else:
            self.counts, self.worked_at, self.turned_at = Counts(reports=settled), now, now


def scraped(day: Day, directory: Path, *, since: int = START, away: Span = KAFKA_AWAY) -> Recorder:
    """The day from `since` on, scraped once a minute, Kafka `away`; journal and casebook are made in `directory`."""
    catalogue = Catalogue.load()
    rules = Rules(catalogue.limit, grace_ms=GRACE * 1000)
    clock, recorder = Clock(START - 24 * HOUR), Recorder()
    journal = SqliteJournal(directory, limit=1 << 28, flush=False)
    fold = CaseFold(
        journal,
        lambda: Casebook.in_files(directory, rules),
        rules,
        "day",
        clock=clock.ms,
        strip_after_ms=90 * 24 * HOUR * 1000,
    )
    first, second = RelayProcess(catalogue, away), RelayProcess(catalogue, away)
    web, leader, sub_centre = Web(catalogue, journal, clock), first, SubCentre()
    coming = Coming(day)
    with patch("service.cases.fold.time", clock), patch("service.cases.metrics.time", clock):
        fold.open()
        first.lead(fold)
        for now in range(START - 24 * HOUR, END + 1, MINUTE):
            if now == LEADER_CHANGES:
                leader = second
                second.lead(fold)
            if now == WEB_RESTARTS:
                web = Web(catalogue, journal, clock)
            coming.come(now, web, clock)
            clock.now = now
            leader.turn(now, journal, fold)
            sub_centre.turn(now, journal.totals().settled, away)
            if now >= since:
                _scrape(recorder, now, web, first if leader is first else None, second)
                _alerts(recorder, now, away)
                recorder.scrape(now, "gridgov-sink", "127.0.0.1:9466", sub_centre.exposed)
    return recorder


class Coming:
    """What came to our door, minute by minute."""

    def __init__(self, day: Day) -> None:
        events: list[tuple[float, Report | Refusal]] = [(report.received, report) for report in day.reports]
        events += [(report.received + MINUTE, report) for report in day.repeats]
        events += [(refusal.at, refusal) for refusal in day.refusals]
        self._events = deque(sorted(events, key=lambda event: event[0]))

    def come(self, now: float, web: Web, clock: Clock) -> None:
        """All that came until now."""
        while self._events and self._events[0][0] <= now:
            clock.now, event = self._events.popleft()
            if isinstance(event, Report):
                web.take(event)
            else:
                web.refuse(event)


def _scrape(recorder: Recorder, now: int, web: Web, first: RelayProcess | None, second: RelayProcess) -> None:
    recorder.scrape(now, "gridgov-web", "127.0.0.1:9464", web.exposed)
    if first:
        recorder.scrape(now, "gridgov-relay", "127.0.0.1:9465", first.exposed)
    recorder.scrape(now, "gridgov-relay", "127.0.0.2:9465", second.exposed)


def _alerts(recorder: Recorder, now: int, away: Span) -> None:
    """What Prometheus itself would have written of the one alert of the day."""
    since, back = away
    if since + 2 * MINUTE <= now < back:
        firing = GaugeMetricFamily("ALERTS", "", labels=("alertname", "alertstate", "severity"))
        firing.add_metric(("KafkaDisconnected", "firing", "page"), 1)
        active = GaugeMetricFamily("ALERTS_FOR_STATE", "", labels=("alertname", "severity"))
        active.add_metric(("KafkaDisconnected", "page"), since)
        for family in (firing, active):
            recorder.keep(now, family, (("instance", "127.0.0.1:9465"), ("job", "gridgov-relay")))
