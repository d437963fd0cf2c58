"""From a broken Kafka to the person who is told: gridgov, Kafka, Prometheus and Alertmanager, all real."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.alerting import Alertmanager, Prometheus, Receivers
from tests.broker import Broker
from tests.gridgov import Gridgov, report, running, until

BASE = {"gridgov-web": "gridgov_http_requests_in_progress", "gridgov-relay": "gridgov_case_standard_total"}


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    told = Receivers()
    yield told
    told.close()


@dataclass(frozen=True)
class Watched:
    """A gridgov that is watched, and what watches it."""

    gridgov: Gridgov
    kafka: Broker
    prometheus: Prometheus
    receivers: Receivers


@pytest.fixture
def watched(breakable_kafka: Broker, tmp_path: Path, receivers: Receivers) -> Iterator[Watched]:
    gridgov = Gridgov(tmp_path / "var", breakable_kafka.bootstrap)
    with ExitStack() as stack:
        alertmanager = stack.enter_context(Alertmanager(tmp_path, receivers.port).running())
        stack.enter_context(running(gridgov))
        targets = {"gridgov-web": gridgov.web_metrics, "gridgov-relay": gridgov.relay_metrics}
        prometheus = stack.enter_context(Prometheus(tmp_path, targets, alertmanager.port).running())
        until(lambda: all(prometheus.series(name) for name in BASE.values()), "both are scraped", seconds=60)
        until(lambda: 1 in prometheus.series("gridgov_kafka_connected").values(), "Kafka is connected", seconds=60)
        yield Watched(gridgov, breakable_kafka, prometheus, receivers)


def named(sample: str) -> frozenset[tuple[str, str]]:
    """A line of an exposition, without its value, as Prometheus names the series."""
    name, _, labels = sample.partition("{")
    return frozenset({("__name__", name), *re.findall(r'(\w+)="([^"]*)"', labels)})


def missing(watched: Watched, job: str, port: int) -> set[frozenset[tuple[str, str]]]:
    """What a process exposes and Prometheus does not have."""
    exposed = {named(sample) for sample in watched.gridgov.metrics(port)}
    assert len(exposed) > 500
    ours = {("job", job), ("instance", f"127.0.0.1:{port}")}
    return exposed - {labels - ours for labels in watched.prometheus.series(f'{{job="{job}"}}')}


def test_everything_that_is_exposed_arrives_and_every_rule_can_be_evaluated(watched: Watched) -> None:
    gridgov, prometheus = watched.gridgov, watched.prometheus
    assert gridgov.post(report("seen"))[0] == 202
    gridgov.settled()
    until(lambda: not missing(watched, "gridgov-web", gridgov.web_metrics), "all that web exposes has arrived")
    until(lambda: not missing(watched, "gridgov-relay", gridgov.relay_metrics), "all that the relay exposes has")
    until(lambda: prometheus.series("gridgov:slo_burn:ratio28d"), "the last group was evaluated")
    assert prometheus.sick_rules() == []


def test_a_stopped_broker_is_told_and_so_is_its_return(watched: Watched) -> None:
    assert "KafkaDisconnected" not in watched.prometheus.firing()
    assert watched.receivers.told("pager", "KafkaDisconnected", "firing") == []

    watched.kafka.stop()
    assert watched.gridgov.post(report("waiting"))[0] == 202
    [first, *_] = until(lambda: watched.receivers.told("pager", "KafkaDisconnected", "firing"), "the pager is told")
    until(lambda: watched.receivers.told("duty-wall", "KafkaDisconnected", "firing"), "and the wall")
    assert first["labels"] == {
        "alertname": "KafkaDisconnected",
        "severity": "page",
        "job": "gridgov-relay",
        "instance": f"127.0.0.1:{watched.gridgov.relay_metrics}",
    }
    assert first["annotations"]["runbook_url"].endswith("/KafkaDisconnected.md")
    assert "{{" not in "".join(first["annotations"].values())
    assert watched.receivers.told("pager", "KafkaDisconnected", "resolved") == []
    assert watched.receivers.told("dispatch-desk", "KafkaDisconnected", "firing") == []

    watched.kafka.start()
    until(lambda: "KafkaDisconnected" not in watched.prometheus.firing(), "Prometheus sees it cleared", seconds=60)
    until(lambda: watched.receivers.told("pager", "KafkaDisconnected", "resolved"), "the pager is told", seconds=60)
    assert watched.gridgov.settled()["mismatch"] == 0

    watched.gridgov.stop()
    until(lambda: len(watched.receivers.told("pager", "TargetDown", "firing")) >= 2, "both processes are missed")


def test_a_process_that_is_gone_is_told_and_silences_the_rest(tmp_path: Path, receivers: Receivers) -> None:
    with Alertmanager(tmp_path, receivers.port).running() as alertmanager:
        alertmanager.post(
            {"alertname": "ErrorBudgetBurn", "severity": "page", "slo": "published", "window": "1h"},
            {"alertname": "ErrorBudgetBurn", "severity": "page", "slo": "published", "window": "6h"},
            {"alertname": "KafkaDisconnected", "severity": "page"},
            {"alertname": "JournalGrowing", "severity": "wall"},
            {"alertname": "CasesDueSoon", "severity": "desk"},
        )
        until(lambda: receivers.told("dispatch-desk", "CasesDueSoon", "firing"), "the desk is told")
        until(lambda: receivers.told("pager", "ErrorBudgetBurn", "firing"), "the pager is told")
        assert receivers.told("pager", "CasesDueSoon", "firing") == []
        alone = {
            "ErrorBudgetBurn1h": "active",
            "ErrorBudgetBurn6h": "suppressed",
            "KafkaDisconnected": "active",
            "JournalGrowing": "suppressed",
            "CasesDueSoon": "active",
        }
        until(lambda: alertmanager.states() == alone, "only what is explained by another alert is held back")
        alertmanager.post({"alertname": "TargetDown", "severity": "page", "job": "gridgov-relay"})
        until(lambda: receivers.told("pager", "TargetDown", "firing"), "the pager is told of what matters")
        below = {**dict.fromkeys(alone, "suppressed"), "TargetDown": "active"}
        until(lambda: alertmanager.states() == below, "and of nothing else")
