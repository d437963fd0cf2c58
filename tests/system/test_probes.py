"""What a process tells about itself, and to whom: probes and metrics, with Kafka and without."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.gridgov import Gridgov, report, until


def probe(gridgov: Gridgov, port: int, path: str) -> tuple[int, Any]:
    answer = gridgov.http.request("GET", f"http://127.0.0.1:{port}{path}")
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status, orjson.loads(answer.data)


def until_told(gridgov: Gridgov, port: int, readiness: dict[str, Any]) -> None:
    until(lambda: probe(gridgov, port, "/readyz") == (200, readiness), f"port {port} says {readiness}")


def ports(gridgov: Gridgov) -> tuple[int, int, int]:
    return gridgov.port, gridgov.web_metrics, gridgov.relay_metrics


def test_live_and_ready_on_every_port(shared: Gridgov) -> None:
    for port in ports(shared):
        until_told(shared, port, {"status": "ready", "reasons": []})
        assert probe(shared, port, "/livez") == (200, {"status": "live"})


def test_the_api_port_and_the_webs_own_port_tell_the_same_metrics(shared: Gridgov) -> None:
    names = [set(shared.metrics(port)) for port in (shared.port, shared.web_metrics)]
    assert names[0] <= names[1]  # the second scrape also sees the first
    assert 'gridgov_build_info{process="web",revision="' in "".join(sorted(names[0]))


def test_metrics_are_text_that_prometheus_knows(shared: Gridgov) -> None:
    for port in ports(shared):
        answer = shared.http.request("GET", f"http://127.0.0.1:{port}/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        told = answer.data.decode()
        assert "# HELP gridgov_" in told
        assert "# TYPE gridgov_" in told


def test_a_traced_post_can_be_found_from_the_metrics(shared: Gridgov) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert shared.post(report("traced"), traceparent=f"00-{trace}-00f067aa0ba902b7-01")[0] == 202
    url, accept = f"http://127.0.0.1:{shared.web_metrics}/metrics", {"Accept": "application/openmetrics-text"}
    assert f'# {{trace_id="{trace}"}}' in shared.http.request("GET", url, headers=accept).data.decode()


def test_the_metrics_ports_serve_nothing_else(shared: Gridgov) -> None:
    for port in (shared.web_metrics, shared.relay_metrics):
        for path in ("/v1/reports/r-1", "/v1/catalogue", "/"):
            answer = shared.http.request("GET", f"http://127.0.0.1:{port}{path}")
            assert (answer.status, answer.data) == (404, b"")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ('application/openmetrics-text;version="1.0.0"', "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=0.0.1", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain", "text/plain; version=0.0.4"),
        ("text/plain; version=x", "text/plain; version=0.0.4"),
        ("nonsense" * 1000, "text/plain; version=0.0.4"),
        ("text/pläin", "text/plain; version=0.0.4"),
        ("", "text/plain; version=0.0.4"),
    ],
)
def test_every_port_tells_its_metrics_whatever_is_asked_for(shared: Gridgov, accept: str, form: str) -> None:
    for port in ports(shared):
        answer = shared.http.request("GET", f"http://127.0.0.1:{port}/metrics?name[]=x", headers={"Accept": accept})
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"{form}; charset=utf-8")
        assert b"gridgov_build_info" in answer.data


def test_other_methods_are_told_which_there_are(shared: Gridgov) -> None:
    for port, form in zip(ports(shared), ("application/problem+json", "text/plain", "text/plain"), strict=True):
        for path in ("/metrics", "/livez", "/readyz"):
            answer = shared.http.request("POST", f"http://127.0.0.1:{port}{path}", body=b"{}")
            assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (405, form)
            assert {one.strip() for one in answer.headers["Allow"].split(",")} == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("sent", [b"GET / HTTP/9.9", b"\x16\x03\x01", b"GET /" + b"x" * 70_000 + b" HTTP/1.1"])
def test_no_port_has_a_page_for_what_is_no_http(shared: Gridgov, sent: bytes) -> None:
    for port in ports(shared):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(sent + b"\r\n\r\n")
            answer = client.makefile("rb").read()
        assert b"<" not in answer


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A gridgov whose Kafka is a port where nobody listens."""
    own = Gridgov(tmp_path_factory.mktemp("cut-off") / "var", "127.0.0.1:1")
    try:
        own.start()
        yield own.ready()
    finally:
        for process in own.processes:
            process.kill()  # how it stops while Kafka is away is another test's question
        own.stop()


def test_without_kafka_it_is_ready_but_degraded_and_says_why(cut_off: Gridgov) -> None:
    for port in ports(cut_off):
        until_told(cut_off, port, {"status": "degraded", "reasons": ["kafka_unreachable"]})
        assert probe(cut_off, port, "/livez") == (200, {"status": "live"})


def test_without_kafka_reports_are_accepted_and_pending(cut_off: Gridgov) -> None:
    status, receipt, headers = cut_off.post(report("cut-off"))
    assert (status, receipt["state"]) == (202, "pending")
    assert cut_off.get(headers["Location"]) == (200, receipt)
    told = cut_off.metrics()
    assert told["gridgov_journal_pending_messages"] == cut_off.status()["pending"] == 1
    assert told["gridgov_journal_oldest_pending_timestamp_seconds"] > 1_600_000_000
    until(lambda: cut_off.metrics(cut_off.relay_metrics)["gridgov_kafka_connected"] == 0, "the relay knows")


def test_without_a_relay_it_is_ready_but_degraded_and_says_why(tmp_path: Path) -> None:
    own = Gridgov(tmp_path / "var", "127.0.0.1:1")
    try:
        own.start("web")
        until(lambda: probe(own, own.web_metrics, "/readyz")[0] == 200, "it says that it is ready", every=0.002)
        assert own.post(report("alone"))[0] == 202  # at once: who is told so must not be refused
        degraded = (200, {"status": "degraded", "reasons": ["relay_silent"]})
        assert [probe(own, port, "/readyz") for port in (own.port, own.web_metrics)] == [degraded] * 2
    finally:
        own.stop()


@pytest.mark.parametrize("command", ["web", "relay"])
def test_a_journal_of_a_newer_version_ends_the_process_with_one_line(tmp_path: Path, command: str) -> None:
    gridgov = Gridgov(tmp_path / "data", "127.0.0.1:1")
    gridgov.data_dir.mkdir()
    with closing(sqlite3.connect(gridgov.data_dir / "journal.sqlite3")) as newer:
        newer.execute("PRAGMA user_version=99")
    assert gridgov.start(command).wait(30) != 0
    [told] = [line for line in gridgov.log.splitlines() if '"level":"CRITICAL"' in line]
    assert orjson.loads(told)["error"] == "schema 99, this version of gridgov knows 2"
    assert "Traceback" not in gridgov.log
