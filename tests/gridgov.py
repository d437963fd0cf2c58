"""The service as an operator runs it: real processes, with ports and data of their own. Imports nothing of ours."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import urllib3

from tests.broker import free_port

GRIDGOV = str(Path(sys.executable).parent / "gridgov")
PR_SET_PDEATHSIG = 1
NO_KAFKA = "127.0.0.1:9"  # for who needs none


def until(check: Callable[[], Any], what: str, *, seconds: float = 60.0, every: float = 0.02) -> Any:
    """Ask again and again until `check` gives something true, and return that; fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := check():
                return found
        except (OSError, urllib3.exceptions.HTTPError):
            pass
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)


@dataclass
class Gridgov:
    """One gridgov on one data directory; `kafka` is its bootstrap server. Nothing runs until it is started."""

    data_dir: Path
    kafka: str
    env: Mapping[str, str] = field(default_factory=dict)
    binary: str = GRIDGOV  # another checkout's, to compare with

    def __post_init__(self) -> None:
        self.port, self.web_metrics, self.relay_metrics = free_port(), free_port(), free_port()
        self.http = urllib3.PoolManager(maxsize=64, retries=False, timeout=urllib3.Timeout(30))
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything its processes wrote."""
        return (self.data_dir.parent / f"{self.data_dir.name}.log").read_text(encoding="utf-8")

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRIDGOV_", "KAFKA_"))}
        return clean | {
            "GRIDGOV_DATA_DIR": str(self.data_dir),
            "GRIDGOV_ALLOW_VOLATILE": "yes",
            "GRIDGOV_CREATE_TOPICS": "yes",
            "GRIDGOV_PORT": str(self.port),
            "GRIDGOV_WEB_METRICS_PORT": str(self.web_metrics),
            "GRIDGOV_RELAY_METRICS_PORT": str(self.relay_metrics),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            **self.env,
        }

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start `gridgov COMMAND` (default: run). It dies with this test process."""
        with (self.data_dir.parent / f"{self.data_dir.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [self.binary, *(command or ("run",))],
                env=self.environment(),
                cwd=Path(self.binary).parents[2] if self.binary != GRIDGOV else None,  # the server imports from there
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        self.processes.append(process)
        return process

    def ready(self) -> Gridgov:
        """Wait until the API accepts."""
        until(lambda: self.http.request("GET", f"{self.url}/readyz").status == 200, "the API is ready")
        return self

    def stop(self) -> None:
        """End every process it started, politely at first."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def run(
        self, *command: str, timeout: float = 60.0, check: bool = False, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `gridgov COMMAND` to its end; `given` is its standard input."""
        return subprocess.run(
            [self.binary, *command],
            env=self.environment(),
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=check,
        )

    def post(
        self, report: Any, path: str = "/v1/reports", **headers: str
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        """Post a value as JSON, or bytes as they are: status, body, headers."""
        body = report if isinstance(report, bytes) else orjson.dumps(report)
        answer = self.http.request(
            "POST",
            f"{self.url}{path}",
            body=body,
            headers={"Content-Type": "application/json", **{n.replace("_", "-"): v for n, v in headers.items()}},
        )
        return answer.status, orjson.loads(answer.data), answer.headers

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Get a path: status and body."""
        answer = self.http.request(
            "GET", f"{self.url}{path}", headers={n.replace("_", "-"): v for n, v in headers.items()}
        )
        return answer.status, orjson.loads(answer.data)

    def metrics(self, port: int | None = None) -> dict[str, float]:
        """The samples of a metrics port (default: the web's), by their full name with labels."""
        text = self.http.request("GET", f"http://127.0.0.1:{port or self.web_metrics}/metrics").data.decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def status(self) -> dict[str, Any]:
        """`gridgov journal status`."""
        found: dict[str, Any] = orjson.loads(self.run("journal", "status", "--json").stdout)
        return found

    def settled(self, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until nothing is pending; the status then."""
        found: dict[str, Any] = until(
            lambda: (now := self.status())["pending"] == 0 and now, "the journal is drained", seconds=seconds
        )
        return found

    def drained(self, seconds: float = 300.0) -> None:
        """Wait until nothing is pending, as the web's metrics tell; not often, for that is work of the web's."""
        pending = "gridgov_journal_pending_messages"
        until(lambda: self.metrics()[pending] == 0, "the journal is drained", seconds=seconds, every=0.1)

    def consumed(self, *, duplicates: bool = False) -> list[dict[str, Any]]:
        """Everything that is on the topics now, read with `gridgov consume`."""
        more = ["--duplicates"] if duplicates else []
        done = self.run("consume", "--from-beginning", "--no-follow", "--json", *more, timeout=120, check=True)
        return [orjson.loads(line) for line in done.stdout.splitlines()]

    def child(self, name: str) -> int:
        """The pid of the youngest `web` worker (`worker`), `web` or `relay` process below the ones we started."""
        wanted = {"web": "service.cli web", "relay": "service.cli relay"}
        for pid in _descendants([process.pid for process in self.processes]):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if name in wanted and line.endswith(wanted[name]) and _parent_line(pid) != line:
                return pid
            if name == "worker" and line.endswith((wanted["web"], "gridgov web")) and _parent_line(pid) == line:
                return pid
        raise AssertionError(f"no {name} process")


@contextmanager
def running(gridgov: Gridgov) -> Iterator[Gridgov]:
    """`gridgov run`, ready; stopped at the end whatever happens."""
    try:
        gridgov.start()
        yield gridgov.ready()
    finally:
        gridgov.stop()


@contextmanager
def alone(gridgov: Gridgov) -> Iterator[Gridgov]:
    """Its web process alone, ready; stopped at the end whatever happens. What it accepts stays in the journal."""
    try:
        gridgov.start("web")
        yield gridgov.ready()
    finally:
        gridgov.stop()


def report(number: int | str, **changes: Any) -> dict[str, Any]:
    """A valid report; `changes` replace fields, None removes one."""
    made = {
        "report_id": f"r-{number}",
        "case_id": f"20201104{number}",
        "kind": "repair",
        "category": "0211",
        "stage": "reported",
        "occurred_at": "2020-11-04T08:00:00+08:00",
        "location": {"address": "杨树浦路 × 秦皇岛路"},
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def peak_memory(pid: int) -> int:
    """The most that a process ever had in memory, in bytes."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def listens(port: int) -> bool:
    """Whether anybody accepts connections at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def die_with_parent() -> None:
    """For `preexec_fn`: Linux ends the process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _descendants(pids: list[int]) -> list[int]:
    found: list[int] = []
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            below = [int(child) for child in task.read_text().split()]
            found += below + _descendants(below)
    return found


def _parent_line(pid: int) -> str:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return Path(f"/proc/{fields[1]}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
