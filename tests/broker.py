"""A real Kafka broker for tests, run by deploy/kafka/broker.py: it can be stopped, killed and started again."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SCRIPT = Path(__file__).parents[1] / "deploy" / "kafka" / "broker.py"
START_TIMEOUT = 90  # seconds; 3–5 on an idle machine, far more where other tests use both cores
STOP_TIMEOUT = 30  # seconds
# All that a directory of somebody's can have in its name and that some part of ours could take for more than a letter.
ODD_NAME = '一网统管 试点, 50% #1 $HOME ${user.name} O\'Brien "x" `id` a\\b [1]* ?q=1&r:2'


def run_script(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run one command of the broker script and return what it printed; its exit code is for the caller."""
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def free_port() -> int:
    """A loopback port nobody listens on, below the range that Linux gives to outgoing connections.

    From that range (which bind(0) uses) a client that retries while the broker is down can be given the
    broker's own port as its source: it connects to itself, and the broker cannot come back.
    Whoever else tests on this machine is not given it either, for as long as this process lives; and nobody the next
    one, where a broker has its controller.
    """
    for port in random.sample(range(15_000, 32_000, 2), 100):
        mark = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe, socket.socket() as beside:
            try:
                mark.bind(f"\0gridgov-test-port-{port}")
                probe.bind(("127.0.0.1", port))
                beside.bind(("127.0.0.1", port + 1))
            except OSError:
                mark.close()
                continue
            _RESERVED.append(mark)
            return port
    raise RuntimeError("no free port found in a hundred tries")


_RESERVED: list[socket.socket] = []  # names of ports in the kernel's own space: gone with the process, whatever ends it


class Kafka(Protocol):
    """What a test that only needs a broker may ask for: where it is."""

    @property
    def bootstrap(self) -> str: ...


@dataclass(frozen=True)
class ExternalKafka:
    """A broker that somebody else runs, named by KAFKA_BOOTSTRAP_SERVERS."""

    bootstrap: str


class Broker:
    """One node on loopback; its port and data stay the same over stops, kills and restarts.

    Start it from a thread that outlives it: Linux kills it when that thread ends, so that a killed pytest
    leaves no Java behind. RuntimeError, with what it printed: it did not start.
    """

    def __init__(self, data_dir: Path, *, heap: str = "512m", settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._controller_port = free_port()
        self._heap = heap
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The broker's process id, for signals. RuntimeError: it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("the broker is not running")
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it answers; nothing happens when it is running."""
        if self.running:
            return
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self._terminal.open("ab") as terminal:
            self._process = subprocess.Popen(self._command(), stdout=terminal, stderr=terminal)
        self._await_answer(self._process)

    def stop(self) -> None:
        """SIGTERM and wait: Kafka hands over and flushes. Nothing happens when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL and wait until it is gone; nothing happens when it is not running."""
        self._end(signal.SIGKILL)

    @property
    def _terminal(self) -> Path:
        return self.data_dir / "terminal.log"

    def _command(self) -> list[str]:
        ports = ["--port", str(self.port), "--controller-port", str(self._controller_port)]
        settings = [word for key, value in self._settings.items() for word in ("--set", f"{key}={value}")]
        serve = ["serve", "--data-dir", str(self.data_dir), "--heap", self._heap, "--die-with-parent"]
        return [sys.executable, str(SCRIPT), *serve, *ports, *settings]

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for a real answer, but not for one of a process that has ended."""
        command = [sys.executable, str(SCRIPT), "wait", "--port", str(self.port), "--timeout", "1"]
        for _ in range(START_TIMEOUT):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
            if process.poll() is not None:
                break
        self.kill()
        raise RuntimeError(f"the broker did not start:\n{self._terminal.read_text(errors='replace')}")

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)  # does nothing to a process already waited for
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise RuntimeError(f"the broker did not end within {STOP_TIMEOUT} s of {number.name}") from None


@contextmanager
def serving(broker: Broker) -> Iterator[Broker]:
    """It runs, its jars fetched before where they were not there; killed in the end.

    RuntimeError, with what was printed: there is no Kafka to test with, and a test that was skipped proves nothing.
    """
    prepared = run_script("prepare")
    if prepared.returncode:
        raise RuntimeError(f"no Kafka to test with:\n{prepared.stderr}")
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
