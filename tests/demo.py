"""A running `make demo`: its ports, what its page asks, whatever runs for it. Imports nothing of ours."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from tests.broker import free_port
from tests.gridgov import die_with_parent

PORTS = (
    *("DEMO_PORT", "GRIDGOV_PORT", "GRIDGOV_WEB_METRICS_PORT", "GRIDGOV_RELAY_METRICS_PORT"),
    *("OWN_KAFKA_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT"),
)
HTTP = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10))


@dataclass
class Demo:
    """A demo in a checkout, on ports of its own. Nothing runs until it is started."""

    checkout: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})

    def start(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """In a process group of its own, as a terminal would: Ctrl-C is `os.killpg`."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_B")}
        clean |= {**{name: str(port) for name, port in self.ports.items()}, **env}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=self.checkout,
                env=clean,
                stdout=out,
                stderr=out,
                process_group=0,
                preexec_fn=die_with_parent,
            )

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.ports['DEMO_PORT']}"

    @property
    def kafka(self) -> str:
        return f"127.0.0.1:{self.ports['OWN_KAFKA_PORT']}"

    def asked(self, path: str, **fields: str) -> Any:
        """What the page is told: posted with `fields`, else got. OSError: Prometheus is not there yet."""
        body = urlencode(fields).encode() if fields else None
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = HTTP.request("POST" if body else "GET", f"{self.page}{path}", body=body, headers=form)
        if answer.status in {502, 503}:
            raise OSError(answer.data.decode())
        assert answer.status == 200, answer.data
        return answer.json()

    def figure(self, expr: str) -> float | None:
        """What Prometheus answers through the page's own origin; None: nothing yet."""
        found = self.asked("/prometheus/api/v1/query", query=expr)["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def is_drawn(self) -> bool:
        """Whether the page is there, and not only the one that says that it is being built."""
        answer = HTTP.request("GET", f"{self.page}/d/gridgov-wall")
        return answer.status == 200 and b"/bundle/live.js" in answer.data

    def family(self) -> set[int]:
        """The pids of whatever runs for it: their command lines or environments name its ports."""
        marks = [f"DEMO_PORT={self.ports['DEMO_PORT']}".encode(), self.kafka.encode()]
        return {pid for pid in _pids() if any(mark in _said(pid) for mark in marks)} - {os.getpid()}


def shown(dom: str, title: str) -> str | None:
    """The figure that stands under a title in the drawn page; None: there is none, or no such title."""
    found = re.search(rf"(?:^| ){re.escape(title)} +(\d\S*)", _TAGS.sub(" ", dom))
    return found and found[1]


_TAGS = re.compile(r"<(style|script).*?</\1>|<[^>]*>|\s+", re.DOTALL)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _said(pid: int) -> bytes:
    """Its command line and environment; empty when it is gone."""
    try:
        return b"".join(Path(f"/proc/{pid}/{what}").read_bytes() for what in ("cmdline", "environ"))
    except OSError:
        return b""
