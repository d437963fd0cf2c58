"""A real Prometheus and a real Alertmanager on the rules of deploy/prometheus, with time made short; and who is told.

Time is made short mechanically: every duration of the three configurations (`for`, ranges, offsets, intervals, waits)
is divided by `FASTER`, so two minutes become four seconds and a scrape comes twice a second. Numbers stay as they are.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3
import yaml

from deploy.demo.faster import shortened
from tests.broker import free_port
from tests.gridgov import until
from tests.prometheus import program
from tests.rules import HOME, RULES

FASTER = 30
Json = dict[str, Any]


# ---- configurations, as shipped but for addresses and time ----


def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _write(file: Path, value: Any) -> Path:
    file.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    return file


def prometheus_config(directory: Path, targets: Mapping[str, int], alertmanager: int) -> Path:
    """The shipped configuration for other ports, by job, with the shipped rules beside it."""
    config: Json = shortened(_read(HOME / "prometheus.yml"), FASTER)
    (directory / "rules").mkdir()
    for file in RULES:
        _write(directory / "rules" / file.name, shortened(_read(file), FASTER))
    assert {job["job_name"] for job in config["scrape_configs"]} == targets.keys()
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
    return _write(directory / "prometheus.yml", config)


def alertmanager_config(directory: Path, webhooks: int) -> Path:
    """The shipped configuration, its receivers at `/NAME` of a port of ours."""
    config: Json = shortened(_read(HOME / "alertmanager.yml"), FASTER)
    for receiver in config["receivers"]:
        for hook in receiver["webhook_configs"]:
            assert ".invalid/" in hook["url"]
            hook["url"] = f"http://127.0.0.1:{webhooks}/{receiver['name']}"
    return _write(directory / "alertmanager.yml", config)


# ---- who is told ----


class Receivers:
    """Takes Alertmanager's webhooks; remembers every alert it was told of, by receiver."""

    def __init__(self) -> None:
        told: dict[str, list[Json]] = {}

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.setdefault(self.path.strip("/"), []).extend(body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._told = told
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Hook)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def told(self, receiver: str, alert: str, status: str) -> list[Json]:
        """What a receiver was told: `firing` or `resolved` messages of an alert."""
        return [
            one
            for one in self._told.get(receiver, [])
            if (one["labels"]["alertname"], one["status"]) == (alert, status)
        ]

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()


# ---- the two servers ----


@contextmanager
def server(command: list[str], ready: str, log: Path) -> Iterator[None]:
    """A process that answers at `ready`; ended on the way out."""
    http = urllib3.PoolManager(retries=False)
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent)
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            return http.request("GET", ready).status == 200

        until(answers, f"{ready} answers", seconds=60)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Alertmanager:
    """Debian's Alertmanager on the shipped routes."""

    def __init__(self, directory: Path, webhooks: int) -> None:
        self.port = free_port()
        self._url, self._log = f"http://127.0.0.1:{self.port}", directory / "alertmanager.log"
        self._http = urllib3.PoolManager(retries=False)
        self._command = [
            program("prometheus-alertmanager"),
            f"--config.file={alertmanager_config(directory, webhooks)}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]

    @contextmanager
    def running(self) -> Iterator[Alertmanager]:
        """Start it, and end it on the way out."""
        with server(self._command, f"{self._url}/-/ready", self._log):
            yield self

    def post(self, *alerts: Mapping[str, str]) -> None:
        """Tell it of alerts, each by its labels."""
        body = [{"labels": dict(labels)} for labels in alerts]
        assert self._http.request("POST", f"{self._url}/api/v2/alerts", json=body).status == 200

    def states(self) -> dict[str, str]:
        """`active` or `suppressed`, by the name of the alert and its `window`, if any."""
        found = json.loads(self._http.request("GET", f"{self._url}/api/v2/alerts").data)
        return {one["labels"]["alertname"] + one["labels"].get("window", ""): one["status"]["state"] for one in found}


class Prometheus:
    """Debian's Prometheus on the shipped rules; `targets` are ports by job."""

    def __init__(self, directory: Path, targets: Mapping[str, int], alertmanager: int) -> None:
        self._log = directory / "prometheus.log"
        self._url = f"http://127.0.0.1:{free_port()}"
        self._http = urllib3.PoolManager(retries=False)
        self._command = [
            program("prometheus"),
            f"--config.file={prometheus_config(directory, targets, alertmanager)}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
        ]

    @contextmanager
    def running(self) -> Iterator[Prometheus]:
        """Start it, and end it on the way out."""
        with server(self._command, f"{self._url}/-/ready", self._log):
            yield self

    def series(self, expr: str) -> dict[frozenset[tuple[str, str]], float]:
        """The value of each series of an expression now, by all its labels, its name too."""
        found = self._ask("query", query=expr)["result"]
        return {frozenset(one["metric"].items()): float(one["value"][1]) for one in found}

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {dict(labels)["alertname"] for labels in self.series('ALERTS{alertstate="firing"}')}

    def sick_rules(self) -> list[Json]:
        """Rules that could not be evaluated; empty before the first round is over."""
        groups = self._ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] == "err"]

    def _ask(self, what: str, **fields: str) -> Json:
        answer: Json = json.loads(self._http.request("GET", f"{self._url}/api/v1/{what}", fields=fields).data)
        assert answer["status"] == "success", answer
        found: Json = answer["data"]
        return found
