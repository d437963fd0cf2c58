"""`make demo`: figures move in what the page asks, wherever the checkout lies; and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from tests.broker import ODD_NAME, free_port
from tests.gridgov import die_with_parent, listens, until

ROOT = Path(__file__).parents[2]
PORTS = (
    *("DEMO_PORT", "GRIDGOV_PORT", "GRIDGOV_WEB_METRICS_PORT", "GRIDGOV_RELAY_METRICS_PORT"),
    *("OWN_KAFKA_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT"),
)
HTTP = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10))


@dataclass
class Demo:
    """A demo in a checkout of an odd name. Its page is not built: that takes npm, and is looked at by hand."""

    checkout: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})

    def start(self, log: Path) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_B")}
        env |= {name: str(port) for name, port in self.ports.items()} | {"DEMO_PAGE": "no"}
        command = [sys.executable, "-m", "deploy.demo"]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=self.checkout, env=env, stdout=out, stderr=out, preexec_fn=die_with_parent
            )

    def asked(self, path: str, **fields: str) -> Any:
        """What the page is told: posted with `fields`, else got. OSError: Prometheus is not there yet."""
        url = f"http://127.0.0.1:{self.ports['DEMO_PORT']}{path}"
        body = urlencode(fields).encode() if fields else None
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = HTTP.request("POST" if body else "GET", url, body=body, headers=form)
        if answer.status in {502, 503}:
            raise OSError(answer.data.decode())
        assert answer.status == 200, answer.data
        return answer.json()

    def figure(self, expr: str) -> float | None:
        """What Prometheus answers through the page's own origin; None: nothing yet."""
        found = self.asked("/prometheus/api/v1/query", query=expr)["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def family(self) -> set[int]:
        """The pids of whatever runs for it: their command lines or environments name its ports."""
        marks = [f"DEMO_PORT={self.ports['DEMO_PORT']}".encode(), f"127.0.0.1:{self.ports['OWN_KAFKA_PORT']}".encode()]
        return {pid for pid in pids() if any(mark in said(pid) for mark in marks)} - {os.getpid()}


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def said(pid: int) -> bytes:
    """Its command line and environment; empty when it is gone."""
    try:
        return b"".join(Path(f"/proc/{pid}/{what}").read_bytes() for what in ("cmdline", "environ"))
    except OSError:
        return b""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    checkout = tmp_path / ODD_NAME
    checkout.mkdir()
    (checkout / "deploy").symlink_to(ROOT / "deploy")
    made = Demo(checkout)
    made.start(tmp_path / "log")
    yield made
    if made.process.poll() is None:
        made.process.terminate()
        made.process.wait(60)


def test_figures_move_and_nothing_is_left(demo: Demo, tmp_path: Path) -> None:
    told = 'sum(gridgov_reports_total{result="accepted"})'
    first = until(lambda: demo.figure(told), "a first figure", seconds=90, every=0.2)
    until(lambda: (demo.figure(told) or 0) > first, "a figure that moves")
    until(lambda: demo.figure("sum(gridgov_kafka_publishes_total)"), "Kafka has some of it")
    until(lambda: (demo.figure("count(gridgov:cases_open:max)") or 0) > 0, "the rules are worked out")

    setting = demo.asked("/boards/gridgov-wall")
    for panel in setting["board"]["panels"]:
        for target in panel.get("targets", []):
            assert demo.asked("/prometheus/api/v1/query", query=target["expr"])["status"] == "success", panel["title"]
    assert until(lambda: demo.asked("/told"), "Alertmanager tells somebody", seconds=60)[0]["receiver"]
    family = demo.family()
    assert len(family) >= 7  # we, run, web and its worker, relay, broker, Prometheus, Alertmanager, the simulation

    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(60) == 0, (tmp_path / "log").read_text()
    assert demo.family() == set()
    assert [port for port in demo.ports.values() if listens(port)] == []
    assert [path.name for path in demo.checkout.iterdir()] == ["deploy"]


def test_a_port_that_somebody_has_is_told_in_one_line(demo: Demo, tmp_path: Path) -> None:
    until(lambda: listens(demo.ports["DEMO_PORT"]), "the first demo is there", seconds=60)
    second = Demo(demo.checkout, demo.ports)

    second.start(tmp_path / "second")

    assert second.process.wait(30) == 1
    [line] = (tmp_path / "second").read_text().splitlines()
    assert f"{demo.ports['DEMO_PORT']} (DEMO_PORT)" in line
