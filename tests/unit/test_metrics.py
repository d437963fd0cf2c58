"""Every metric by name: what dashboards, rules and alerts are written against, and what a scrape finds at start."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from schemas.catalogue import Catalogue
from schemas.reasons import Reason
from service.domain.meaning import Flag
from service.journal.journal import SqliteJournal
from service.metrics import Histogram, JournalCollector, registry
from service.ports import Fill, JournalUnavailable
from tests.metrics import exposed
from tests.unit.messages import NOW, message
from tests.unit.test_journal import append

CATALOGUE = Catalogue.load()

# name without the prefix, type, labels. Renaming one breaks somebody's dashboard: that is what this table is for.
METRICS = {
    "build": ("info", "process revision version"),
    "http_requests": ("counter", "method route status"),
    "http_request_duration_seconds": ("histogram", "method route"),
    "http_requests_in_progress": ("gauge", ""),
    "reports": ("counter", "kind major result stage"),
    "report_rejections": ("counter", "reason"),
    "report_delay_seconds": ("histogram", "kind"),
    "report_flags": ("counter", "flag"),
    "journal_append_duration_seconds": ("histogram", ""),
    "audit_unwritten_events": ("gauge", ""),
    "quarantine_reports": ("counter", "result"),
    "journal_pending_messages": ("gauge", ""),
    "journal_oldest_pending_timestamp_seconds": ("gauge", ""),
    "journal_size_bytes": ("gauge", ""),
    "journal_limit_bytes": ("gauge", ""),
    "journal_disk_free_bytes": ("gauge", ""),
    "journal_set_aside": ("gauge", ""),
    "journal_parked_messages": ("gauge", ""),
    "journal_ledger_mismatch": ("gauge", ""),
    "keys_stale": ("gauge", ""),
    "kafka_publish_duration_seconds": ("histogram", "topic"),
    "kafka_publishes": ("counter", "outcome topic"),
    "kafka_publish_errors": ("counter", "error topic"),
    "ingest_lag_seconds": ("histogram", "topic"),
    "kafka_connected": ("gauge", ""),
    "kafka_in_flight_messages": ("gauge", ""),
    "kafka_topic_paused": ("gauge", "topic"),
    "kafka_topic_weaknesses": ("gauge", "topic"),
    "relay_leader": ("gauge", ""),
    "relay_heartbeat_timestamp_seconds": ("gauge", ""),
    "case_flags": ("counter", "flag"),
    "case_fold_lag_messages": ("gauge", ""),
    "case_fold_failures": ("counter", ""),
    "case_fold_gap_messages": ("counter", ""),
    "case_arrival_seconds": ("histogram", "kind major"),
    "case_completion_seconds": ("histogram", "kind major"),
    "cases_reported": ("counter", "kind major"),
    "cases_approved": ("counter", "kind major"),
    "case_standard": ("counter", "kind major outcome standard"),
    "case_standard_corrections": ("counter", "kind major standard to"),
    "cases_open": ("gauge", "kind major phase"),
    "cases_open_supervised": ("gauge", "kind supervision"),
    "cases_overdue": ("gauge", "kind major standard"),
    "cases_due_soon": ("gauge", "kind major standard"),
    "case_oldest_open_timestamp_seconds": ("gauge", "kind"),
    "case_standard_limit_seconds": ("gauge", "kind standard"),
    "case_reopenings": ("counter", "kind major"),
    "case_tracker_last_run_timestamp_seconds": ("gauge", ""),
    "sink_records": ("counter", "result"),
    "sink_gap_offsets": ("counter", ""),
    "sink_overtaken_partitions": ("counter", ""),
    "sink_transactions": ("counter", ""),
    "sink_lag_records": ("gauge", "partition topic"),
    "sink_last_transaction_timestamp_seconds": ("gauge", ""),
    "sink_turned_timestamp_seconds": ("gauge", ""),
}
BUCKETS = {
    "http_request_duration_seconds": "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0 2.5 5.0 10.0",
    "report_delay_seconds": "1.0 5.0 15.0 60.0 300.0 900.0 3600.0 86400.0",
    "journal_append_duration_seconds": "0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0",
    "kafka_publish_duration_seconds": "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0 2.5 5.0 10.0 30.0 60.0 300.0",
    "ingest_lag_seconds": "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0 2.5 5.0 10.0 30.0 60.0 300.0",
    "case_arrival_seconds": "60.0 120.0 300.0 600.0 900.0 1200.0 1500.0 1800.0 2700.0 3600.0 7200.0 14400.0",
    "case_completion_seconds": (
        "300.0 600.0 900.0 1200.0 1500.0 1800.0 3600.0 7200.0 14400.0 28800.0 36000.0 43200.0 64800.0 86400.0 "
        "129600.0 172800.0 259200.0"
    ),
}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Metric]:
    """All of web, relay and sink, before anything has happened, by name without the prefix."""
    told = exposed(tmp_path_factory.mktemp("metrics"), CATALOGUE)
    return {metric.name.removeprefix("gridgov_"): metric for metric in told.collect() if "gridgov_" in metric.name}


def labels_of(metric: Metric) -> set[str]:
    return {name for sample in metric.samples for name in sample.labels} - {"le"}


def series(metric: Metric, *labels: str) -> set[tuple[str, ...]]:
    return {tuple(sample.labels[label] for label in labels) for sample in metric.samples}


def test_the_names_types_and_labels_are_the_published_ones(families: dict[str, Metric]) -> None:
    assert {name: (metric.type, " ".join(sorted(labels_of(metric)))) for name, metric in families.items()} == METRICS


def test_the_buckets_are_the_published_ones(families: dict[str, Metric]) -> None:
    found = {
        name: [*dict.fromkeys(sample.labels["le"] for sample in metric.samples if "le" in sample.labels)]
        for name, metric in families.items()
        if metric.type == "histogram"
    }

    assert found == {name: [*edges.split(), "+Inf"] for name, edges in BUCKETS.items()}


def test_every_metric_says_what_it_is(families: dict[str, Metric]) -> None:
    for name, metric in families.items():
        assert len(metric.documentation) > 15, name
        assert metric.documentation[0].isupper() or metric.documentation[0].isdigit(), name
        assert metric.documentation.endswith("."), name


def test_names_end_in_their_unit(families: dict[str, Metric]) -> None:
    for name, metric in families.items():
        if metric.type == "histogram":
            assert name.endswith("_seconds"), name
        if "timestamp" in name:
            assert name.endswith("_timestamp_seconds"), name


def test_no_series_beside_each_counter_for_when_it_was_made(families: dict[str, Metric]) -> None:
    assert not [s.name for metric in families.values() for s in metric.samples if s.name.endswith("_created")]


def test_everything_starts_at_nothing(families: dict[str, Metric]) -> None:
    begun = {
        name
        for name, metric in families.items()
        for sample in metric.samples
        if sample.value and metric.type in ("counter", "histogram")
    }

    assert begun == set()


KINDS_AND_MAJORS = set(CATALOGUE.majors)
KINDS = {kind for kind, _ in CATALOGUE.majors}
POSTED = ("/v1/reports", "/v1/reports/batch")
POST_STATUSES = ["202", "207", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"]
GOT = (
    *("/v1/reports/<report_id>", "/v1/cases", "/v1/cases/<case_id>", "/v1/catalogue", "/openapi.json", "/docs"),
    *("/docs/assets/<path:filename>", "/docs/<language>/<path:filename>", "/metrics", "/livez", "/readyz", "unmatched"),
)
STANDARDS = {(one.kind, one.standard) for one in CATALOGUE.standards}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        (
            "reports",
            "kind major stage result",
            {(*p, s, r) for p, s, r in product(KINDS_AND_MAJORS, CATALOGUE.stages, ("accepted", "duplicate"))},
        ),
        (
            "http_requests",
            "method route status",
            {
                *(("POST", route, status) for route, status in product(POSTED, POST_STATUSES)),
                *(("GET", route, status) for route, status in product(GOT, ("200", "500", "503"))),
            },
        ),
        ("http_request_duration_seconds", "method route", set(product(("GET", "POST", "other"), (*POSTED, *GOT)))),
        ("report_rejections", "reason", {(str(reason),) for reason in Reason}),
        ("report_flags", "flag", {(str(flag),) for flag in Flag}),
        ("report_delay_seconds", "kind", {(kind,) for kind in KINDS}),
        ("kafka_publishes", "topic outcome", set(product(CATALOGUE.topics, ("delivered", "parked")))),
        ("kafka_publish_errors", "topic error", set(product(CATALOGUE.topics, ("record", "topic", "producer")))),
        ("kafka_publish_duration_seconds", "topic", {(topic,) for topic in CATALOGUE.topics}),
        ("ingest_lag_seconds", "topic", {(topic,) for topic in CATALOGUE.topics}),
        ("kafka_topic_paused", "topic", {(topic,) for topic in CATALOGUE.topics}),
        ("kafka_topic_weaknesses", "topic", {(topic,) for topic in CATALOGUE.topics}),
        ("cases_reported", "kind major", KINDS_AND_MAJORS),
        ("cases_approved", "kind major", KINDS_AND_MAJORS),
        ("case_completion_seconds", "kind major", KINDS_AND_MAJORS),
        (
            "case_standard",
            "kind major standard outcome",
            {
                (kind, major, standard, outcome)
                for (kind, major), outcome in product(KINDS_AND_MAJORS, ("met", "breached"))
                for judged, standard in STANDARDS
                if judged == kind
            },
        ),
        ("case_standard_limit_seconds", "kind standard", STANDARDS),
    ],
)
def test_every_series_is_there_from_the_start(
    families: dict[str, Metric], name: str, labels: str, expected: set[tuple[str, ...]]
) -> None:
    assert series(families[name], *labels.split()) == expected


def test_an_incident_is_not_judged_by_its_arrival(families: dict[str, Metric]) -> None:
    for name in ("case_standard", "case_standard_corrections", "cases_overdue", "cases_due_soon"):
        assert ("incident", "arrival") not in series(families[name], "kind", "standard")


def test_the_limits_are_the_catalogues(families: dict[str, Metric]) -> None:
    shown = {
        (sample.labels["kind"], sample.labels["standard"]): sample.value
        for sample in families["case_standard_limit_seconds"].samples
    }

    assert shown == {("repair", "arrival"): 900, ("repair", "completion"): 86_400, ("incident", "completion"): 1_500}


# ---- the journal, read when scraped ----


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path, limit=1 << 24, flush=False)
    yield made
    made.close()


def test_the_journal_is_read_with_each_scrape(journal: SqliteJournal) -> None:
    told = CollectorRegistry()
    told.register(JournalCollector(journal))
    assert told.get_sample_value("gridgov_journal_oldest_pending_timestamp_seconds") == 0

    append(journal, message("r-1"), message("r-2", received_at=NOW + 1))

    assert told.get_sample_value("gridgov_journal_pending_messages") == 2
    assert told.get_sample_value("gridgov_journal_oldest_pending_timestamp_seconds") == NOW / 1000
    assert told.get_sample_value("gridgov_journal_limit_bytes") == 1 << 24
    used = told.get_sample_value("gridgov_journal_size_bytes")
    assert used is not None
    assert 0 < used < 1 << 24


class Unreadable:
    """A journal on a bad day."""

    def fill(self) -> Fill:
        raise JournalUnavailable("locked")


def test_a_journal_that_cannot_be_read_leaves_gaps_not_zeroes() -> None:
    told = CollectorRegistry()
    told.register(JournalCollector(Unreadable()))

    assert told.get_sample_value("gridgov_journal_pending_messages") is None
    assert list(told.collect()) == []


# ---- the process ----


@given(st.lists(st.sampled_from((0.0, 0.5, 1.0, 1.5, 2.0, 99.0)) | st.floats(0, 3)))
def test_amounts_taken_in_one_go_count_as_one_by_one(amounts: list[float]) -> None:
    together, each = (Histogram("seconds", "…", buckets=(0.5, 1, 2), registry=CollectorRegistry()) for _ in range(2))
    together.observe_all(amounts)
    for amount in amounts:
        each.observe(amount)

    told, expected = (
        {(sample.name, *sample.labels.values()): sample.value for one in metric.collect() for sample in one.samples}
        for metric in (together, each)
    )
    assert told == pytest.approx(expected)


def test_each_process_says_which_gridgov_it_is() -> None:
    told = registry("relay")

    [build] = [metric for metric in told.collect() if metric.name == "gridgov_build"]
    assert build.samples[0].labels["process"] == "relay"
    assert build.samples[0].labels["version"]
    assert told.get_sample_value("process_open_fds")
