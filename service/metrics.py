"""Every metric of gridgov, declared once, with its help, labels and buckets; each process owns the group it exposes.

A group is a dataclass whose fields are its metrics, and `expose` makes it. All label sets are closed and made at start
with value 0, so that a rate over a series never misses its first step. Never in a label: an id, a path, a person, free
text.
"""

import collections
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any, Protocol, TypeVar, get_type_hints

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Info, disable_created_metrics
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


class Histogram(prometheus_client.Histogram):
    """The client's, which can take many amounts in one go: one by one, each costs a search and two locks."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """As `observe` of each."""
        if len(amounts) == 1:
            self.observe(amounts[0])
            return
        places = [bisect_left(self._upper_bounds, amount) for amount in amounts]
        for place, count in collections.Counter(places).items():
            self._buckets[place].inc(count)
        self._sum.inc(sum(amounts))


G = TypeVar("G")
M = TypeVar("M", bound=MetricWrapperBase)
Closed = Mapping[str, Iterable[tuple[str, ...]]]  # labels → every set of values they can have


def _metric(name: str, doc: str, labels: str = "", buckets: Sequence[float] = ()) -> Any:
    return field(metadata={"name": name, "doc": doc, "labels": tuple(labels.split()), "buckets": buckets})


@dataclass(frozen=True, slots=True)
class WebMetrics:
    """What the web process tells: HTTP, intake, and the journal's commits."""

    http_requests: Counter = _metric("http_requests_total", "HTTP requests answered.", "method route status")
    http_seconds: Histogram = _metric(
        "http_request_duration_seconds",
        "From the request's head to the answer's last byte, as this process sees it.",
        "method route",
        HTTP_SECONDS,
    )
    http_in_progress: Gauge = _metric("http_requests_in_progress", "HTTP requests being answered now.")
    reports: Counter = _metric(
        "reports_total",
        "Reports answered with 202: new ones, and repeats of an accepted id.",
        "kind major stage result",
    )
    rejections: Counter = _metric("report_rejections_total", "Reports and requests refused, by reason code.", "reason")
    delay: Histogram = _metric(
        "report_delay_seconds",
        "From occurred_at to our door: the platform's lateness, not ours.",
        "kind",
        DELAY_SECONDS,
    )
    flags: Counter = _metric("report_flags_total", "What was odd about accepted reports.", "flag")
    keys_stale: Gauge = _metric(
        "keys_stale", "1 while the key file cannot be read, and the keys it had before are good still."
    )
    append_seconds: Histogram = _metric(
        "journal_append_duration_seconds",
        "One group commit of the journal, flush included.",
        buckets=APPEND_SECONDS,
    )
    quarantine: Counter = _metric(
        "quarantine_reports_total", "Refused reports of known senders, by whether they were kept.", "result"
    )
    audit_unwritten: Gauge = _metric(
        "audit_unwritten_events", "Refusals that the audit log has not taken yet; 0 unless its disk is full or ill."
    )


@dataclass(frozen=True, slots=True)
class RelayMetrics:
    """What the relay tells: Kafka, the ledger, and who leads."""

    publish_seconds: Histogram = _metric(
        "kafka_publish_duration_seconds",
        "From handing a message to the producer to Kafka's acknowledgement.",
        "topic",
        PUBLISH_SECONDS,
    )
    ingest_lag: Histogram = _metric(
        "ingest_lag_seconds", "From acceptance (202) to Kafka's acknowledgement.", "topic", PUBLISH_SECONDS
    )
    publishes: Counter = _metric(
        "kafka_publishes_total", "Messages that left the pending state, by outcome.", "topic outcome"
    )
    errors: Counter = _metric(
        "kafka_publish_errors_total", "What went wrong on the way to Kafka, by whose fault it was.", "topic error"
    )
    connected: Gauge = _metric("kafka_connected", "1 while the cluster answers and we publish.")
    in_flight: Gauge = _metric("kafka_in_flight_messages", "Handed to the producer, not yet acknowledged.")
    paused: Gauge = _metric("kafka_topic_paused", "1 while a topic takes nothing.", "topic")
    weaknesses: Gauge = _metric(
        "kafka_topic_weaknesses",
        "What about a topic loses messages or their order; `gridgov topics` names it.",
        "topic",
    )
    leader: Gauge = _metric("relay_leader", "1 in the relay that publishes, 0 in a standby.")
    heartbeat: Gauge = _metric("relay_heartbeat_timestamp_seconds", "When the relay's loop last turned.")
    mismatch: Gauge = _metric(
        "journal_ledger_mismatch",
        "Messages by which accepted = settled + pending + parked is off; 0 unless rows vanish behind our back.",
    )


def web_metrics(
    into: CollectorRegistry,
    *,
    routes: Sequence[str],
    majors: Iterable[tuple[str, str]],
    stages: Iterable[str],
    reasons: Iterable[str],
    flags: Iterable[str],
) -> WebMetrics:
    """The group with its label sets; each status of a route too, as the first 503 must show in an increase."""
    posted, got = ([one for one in routes if (one in POSTED) is post] for post in (True, False))
    closed: Closed = {
        "method route status": [*product(["POST"], posted, POST_STATUSES), *product(["GET"], got, GET_STATUSES)],
        "method route": list(product(("GET", "POST", "other"), routes)),
        "kind major stage result": [
            (*place, *rest) for place, *rest in product(majors, stages, ("accepted", "duplicate"))
        ],
        "reason": [(one,) for one in reasons],
        "result": [("kept",), ("dropped",)],
        "kind": [("repair",), ("incident",)],
        "flag": [(one,) for one in flags],
    }
    return expose(WebMetrics, into, closed)


def relay_metrics(into: CollectorRegistry, topics: Sequence[str]) -> RelayMetrics:
    """The group with its label sets."""
    closed: Closed = {
        "topic": [(topic,) for topic in topics],
        "topic outcome": list(product(topics, ("delivered", "parked"))),
        "topic error": list(product(topics, ("record", "topic", "producer"))),
    }
    return expose(RelayMetrics, into, closed)


def expose(group: type[G], into: CollectorRegistry, closed: Closed) -> G:
    """A group made and registered; `closed` has every set of label values there can be, by the labels' names."""
    kinds, made = get_type_hints(group), {}
    for one in fields(group):  # type: ignore[arg-type]  # a dataclass
        declared = one.metadata
        shape = {"buckets": declared["buckets"]} if declared["buckets"] else {}
        name, labels = f"gridgov_{declared['name']}", declared["labels"]
        metric = made[one.name] = kinds[one.name](name, declared["doc"], labels, registry=into, **shape)
        for values in closed[" ".join(labels)] if labels else ():
            metric.labels(*values)
    return group(**made)


def registry(process: str, *, counted: CollectorRegistry | None = None) -> CollectorRegistry:
    """A registry of its own for one process, with what Prometheus clients usually tell of a process.

    What of that is to be added up over several processes goes into `counted`, if there is such a one.
    """
    made = CollectorRegistry()
    ProcessCollector(registry=counted or made)
    PlatformCollector(registry=made)
    build = Info("gridgov_build", "Which gridgov this is.", registry=made)
    build.info({"version": VERSION, "revision": REVISION, "process": process})
    return made


class Bound(dict[tuple[str, ...], M]):
    """The children of a metric by their label values, each looked up once: `labels()` costs six times as much."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, values: tuple[str, ...]) -> M:
        child = self[values] = self._metric.labels(*values)
        return child


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
            if value is not None:  # the disk of a database server is not ours to look at
                yield GaugeMetricFamily(f"gridgov_journal_{name}", doc, value=value)
