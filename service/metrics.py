"""Every metric of gridgov, declared once, with its help, labels and buckets; each process owns the group it exposes.

All label sets are closed and made at start with value 0, so that a rate over a series never misses its first step.
Never in a label: an id, a path, a person, free text.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from service.ports import Fill, JournalError
from service.version import REVISION, VERSION

disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` series beside every counter doubles what is scraped, for nobody

POSTED = ("/v1/reports", "/v1/reports/batch")
GET_STATUSES = ("200", "500", "503")
POST_STATUSES = ("202", "207", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503")
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
DELAY_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 86400)
APPEND_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
PUBLISH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

M = TypeVar("M", bound=MetricWrapperBase)


def prepared(metric: M, *labels: Iterable[str]) -> M:
    """The metric with every combination of label values made at 0."""
    for values in product(*labels):
        metric.labels(*values)
    return metric


def registry(process: str) -> CollectorRegistry:
    """A registry of its own for one process, with what Prometheus clients usually tell of a process."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    build = Info("gridgov_build", "Which gridgov this is.", registry=made)
    build.info({"version": VERSION, "revision": REVISION, "process": process})
    return made


class WebMetrics:
    """What the web process tells: HTTP, intake, and how full the journal is."""

    def __init__(
        self,
        into: CollectorRegistry,
        *,
        routes: Sequence[str],
        majors: Iterable[tuple[str, str]],
        stages: Sequence[str],
        reasons: Sequence[str],
        flags: Sequence[str],
    ) -> None:
        kinds = ("repair", "incident")
        methods = ("GET", "POST", "other")
        self.http_requests = Counter(
            "gridgov_http_requests_total",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=into,
        )
        for route in routes:  # so that the first 503 shows in an increase
            method, statuses = ("POST", POST_STATUSES) if route in POSTED else ("GET", GET_STATUSES)
            for status in statuses:
                self.http_requests.labels(method, route, status)
        self.http_seconds = prepared(
            Histogram(
                "gridgov_http_request_duration_seconds",
                "From the request's head to the answer's last byte, as this process sees it.",
                ["method", "route"],
                buckets=HTTP_SECONDS,
                registry=into,
            ),
            methods,
            routes,
        )
        self.http_in_progress = Gauge(
            "gridgov_http_requests_in_progress", "HTTP requests being answered now.", registry=into
        )
        self.reports = Counter(
            "gridgov_reports_total",
            "Reports answered with 202: new ones, and repeats of an accepted id.",
            ["kind", "major", "stage", "result"],
            registry=into,
        )
        for (kind, major), stage, result in product(majors, stages, ("accepted", "duplicate")):
            self.reports.labels(kind, major, stage, result)
        self.rejections = prepared(
            Counter(
                "gridgov_report_rejections_total",
                "Reports and requests refused, by reason code.",
                ["reason"],
                registry=into,
            ),
            reasons,
        )
        self.delay = prepared(
            Histogram(
                "gridgov_report_delay_seconds",
                "From occurred_at to our door: the platform's lateness, not ours.",
                ["kind"],
                buckets=DELAY_SECONDS,
                registry=into,
            ),
            kinds,
        )
        self.flags = prepared(
            Counter("gridgov_report_flags_total", "What was odd about accepted reports.", ["flag"], registry=into),
            flags,
        )
        self.append_seconds = Histogram(
            "gridgov_journal_append_duration_seconds",
            "One group commit of the journal, flush included.",
            buckets=APPEND_SECONDS,
            registry=into,
        )


class FillReader(Protocol):
    """What `JournalCollector` needs of a journal."""

    def fill(self) -> Fill:
        """How full it is."""


class JournalCollector(Collector):
    """How full the journal is, read when scraped; nothing while it cannot be read (then `up` and readiness tell)."""

    def __init__(self, fill: FillReader) -> None:
        self._fill = fill

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One gauge each."""
        try:
            fill = self._fill.fill()
        except JournalError:
            return
        for name, doc, value in (
            ("disk_free_bytes", "Free on the file system of the journal, for anybody.", fill.disk_free),
            ("set_aside", "Corrupt journals set aside and not salvaged yet.", fill.set_aside),
            ("pending_messages", "Accepted reports that Kafka has not acknowledged yet.", fill.pending),
            (
                "oldest_pending_timestamp_seconds",
                "When the oldest pending report was received; 0 = none is pending.",
                (fill.oldest or 0) / 1000,
            ),
            ("size_bytes", "Pages of the journal in use.", fill.used),
            ("limit_bytes", "Room that the journal may take.", fill.limit),
            ("parked_messages", "Reports set aside because Kafka will never take them as they are.", fill.parked),
        ):
            yield GaugeMetricFamily(f"gridgov_journal_{name}", doc, value=value)


class RelayMetrics:
    """What the relay tells: Kafka, the ledger, and who leads."""

    def __init__(self, into: CollectorRegistry, *, topics: Sequence[str]) -> None:
        self.publish_seconds = prepared(
            Histogram(
                "gridgov_kafka_publish_duration_seconds",
                "From handing a message to the producer to Kafka's acknowledgement.",
                ["topic"],
                buckets=PUBLISH_SECONDS,
                registry=into,
            ),
            topics,
        )
        self.ingest_lag = prepared(
            Histogram(
                "gridgov_ingest_lag_seconds",
                "From acceptance (202) to Kafka's acknowledgement.",
                ["topic"],
                buckets=PUBLISH_SECONDS,
                registry=into,
            ),
            topics,
        )
        self.publishes = prepared(
            Counter(
                "gridgov_kafka_publishes_total",
                "Messages that left the pending state, by outcome.",
                ["topic", "outcome"],
                registry=into,
            ),
            topics,
            ("delivered", "parked"),
        )
        self.errors = prepared(
            Counter(
                "gridgov_kafka_publish_errors_total",
                "What went wrong on the way to Kafka, by whose fault it was.",
                ["topic", "error"],
                registry=into,
            ),
            topics,
            ("record", "topic", "producer"),
        )
        self.connected = Gauge("gridgov_kafka_connected", "1 while the cluster answers and we publish.", registry=into)
        self.in_flight = Gauge(
            "gridgov_kafka_in_flight_messages", "Handed to the producer, not yet acknowledged.", registry=into
        )
        self.paused = prepared(
            Gauge("gridgov_kafka_topic_paused", "1 while a topic takes nothing.", ["topic"], registry=into), topics
        )
        self.leader = Gauge("gridgov_relay_leader", "1 in the relay that publishes, 0 in a standby.", registry=into)
        self.heartbeat = Gauge(
            "gridgov_relay_heartbeat_timestamp_seconds", "When the relay's loop last turned.", registry=into
        )
        self.mismatch = Gauge(
            "gridgov_journal_ledger_mismatch",
            "Messages by which accepted = settled + pending + parked is off; 0 unless rows vanish behind our back.",
            registry=into,
        )
