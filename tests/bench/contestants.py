"""Who is measured. To add one: write a `Program` and name it in `known`.

Its command gets `{port}` and `{kafka}` filled in and must serve until it is ended. Of a gateway that somebody else has
started, `elsewhere` reads all there is to know from a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from schemas.catalogue import Catalogue
from tests.bench import machine
from tests.bench.load import Shape
from tests.bench.reports import PLACES
from tests.broker import free_port
from tests.gridgov import Gridgov, die_with_parent, listens, until

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
ARRAY: Final = {"begin": "[", "end": "]"}
SINGLE, BATCHES = Shape("/v1/reports"), Shape("/v1/reports/batch", **ARRAY)  # as gridgov takes them
MAJORS: Final = sorted({f"{kind}.{category[:2]}" for kind, category in PLACES})
PIPE: Final = HERE / "mq-bridge.txt"


class Unavailable(Exception):
    """Why a contestant cannot be had here."""


@dataclass
class Contestant:
    """One that is measured; as it stands, one that somebody else has started.

    `topics` are what it publishes to: empty when it publishes nothing, or nowhere that we can look. `queues`: whether
    it answers before Kafka has the reports. `splits`: whether each report of a batch becomes a record of its own.
    """

    name: str
    about: str
    single: Shape
    batch: Shape
    topics: Sequence[str] = ()
    port: int = 0
    queues: bool = False
    splits: bool = True

    @contextmanager
    def running(self, kafka: str, scratch: Path) -> Iterator[None]:
        """Keep it going, with its log and data in `scratch`. Raises `Unavailable`."""
        yield

    def cpu(self) -> Mapping[str, float]:
        """Processor seconds so far, by role."""
        return {}

    def await_published(self) -> None:
        """Return once all it has accepted is in Kafka: at once where an answer means that it is."""


@dataclass
class Program(Contestant):
    """One that a command starts."""

    command: Sequence[str] = ()
    pid: int = 0

    @contextmanager
    def running(self, kafka: str, scratch: Path) -> Iterator[None]:
        self.port, log = free_port(), scratch / f"{self.name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [word.format(port=self.port, kafka=kafka) for word in self.command],
                env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka},
                cwd=ROOT,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        self.pid = process.pid
        try:
            until(lambda: process.poll() is not None or listens(self.port), f"{self.name} listens")
            if process.poll() is not None:
                raise Unavailable(f"it ended at once: {log.read_text(errors='replace')[-300:]}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def cpu(self) -> Mapping[str, float]:
        return {"web": machine.cpu_seconds(pid for pid, _ in machine.roles(self.pid))}


@dataclass
class Ours(Contestant):
    """gridgov from a checkout, in that checkout's virtual environment, as `gridgov run` starts it.

    `env`: options beside the usual; `commands`: what to start instead. Its data is in a directory of its name.
    """

    checkout: Path = ROOT
    env: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ("run",)
    _gridgov: Gridgov | None = None

    @contextmanager
    def running(self, kafka: str, scratch: Path) -> Iterator[None]:
        binary = self.checkout / ".venv" / "bin" / "gridgov"
        if not binary.exists():
            raise Unavailable(f"{binary} is not there: `make .venv/.done` in that checkout")
        self._gridgov = one = Gridgov(scratch / self.name, kafka, self.env, str(binary))
        self.port = one.port
        try:
            for command in self.commands:
                one.start(command)
            one.ready()
            if "web" not in self.commands:
                until(lambda: self.metric("gridgov_kafka_connected", one.relay_metrics) == 1, "Kafka")
            yield
        finally:
            one.stop()

    def cpu(self) -> Mapping[str, float]:
        return {role: machine.cpu_seconds(self.pids(role)) for role in ("web", "relay")}

    def await_published(self) -> None:
        self._up.drained()

    def pids(self, role: str) -> list[int]:
        """Every process of `web` or of `relay`."""
        return [pid for process in self._up.processes for pid, found in machine.roles(process.pid) if found == role]

    def pending(self) -> float:
        """Accepted, and not in Kafka yet."""
        return self.metric("gridgov_journal_pending_messages", self._up.web_metrics)

    def unfolded(self) -> float:
        """Accepted, and not in the cases yet."""
        return self.metric("gridgov_case_fold_lag_messages", self._up.relay_metrics)

    def metric(self, name: str, port: int) -> float:
        """What a metrics port tells."""
        return self._up.metrics(port)[name]

    @property
    def _up(self) -> Gridgov:
        assert self._gridgov is not None, "it is not running"
        return self._gridgov


def echo() -> Contestant:
    """The ceiling of whoever serves with Flask."""
    return Program(
        "echo",
        "bare Flask on granian: orjson in, orjson out, nothing is kept",
        Shape("/reports"),
        Shape("/reports", **ARRAY),
        command=[sys.executable, "-m", "tests.bench.serve", "tests.bench.echo", "{port}"],
    )


def naive() -> Contestant:
    """What anybody would write first."""
    return Program(
        "naive",
        "forty lines: Flask, marshmallow, `send().get()` with acks=all; on granian with a thread for each connection",
        Shape("/reports"),
        Shape("/reports/batch", **ARRAY),
        [f"naive.{major}" for major in MAJORS],
        command=[sys.executable, "-m", "tests.bench.serve", "tests.bench.naive", "{port}"],
    )


def mq_bridge() -> Contestant:
    """A pipe in Rust from PyPI, in an environment of its own: 100 MB that nothing else here needs."""
    return _pipe("mq-bridge", "each report a record", Shape("/lines", "application/x-ndjson", between="\n"))


def mq_bridge_whole() -> Contestant:
    """The same, a whole batch as one record: as far as bytes can be carried without a look at them."""
    return _pipe("mq-bridge-whole", "a batch is one record", Shape("/one", **ARRAY), splits=False)


def _pipe(name: str, how: str, batch: Shape, *, splits: bool = True) -> Contestant:
    return Program(
        name,
        f"{PIPE.read_text().partition(' ')[0]} from PyPI, acks=all, {how}; no validation, no dedupe",
        Shape("/one"),
        batch,
        ["mq-bridge"],
        splits=splits,
        command=[str(_environment(PIPE)), str(HERE / "pipe.py"), "{port}", "{kafka}"],
    )


def gridgov(name: str = "gridgov", checkout: Path = ROOT, **more: Any) -> Ours:
    """This one, or another state of it; `more` as `Ours` has it."""
    return Ours(
        name,
        "journal, dedupe, receipts, cases; an answer means: it is on the disk",
        SINGLE,
        BATCHES,
        Catalogue.load().topics,
        queues=True,
        checkout=checkout,
        **more,
    )


def elsewhere(name: str, url: str, template: Path) -> Contestant:
    """A gateway on this machine that somebody else has started; `template` is TOML, see the README."""
    told = tomllib.loads(template.read_text(encoding="utf-8"))
    return Contestant(name, url, Shape(**told["single"]), Shape(**told["batch"]), port=urlsplit(url).port or 80)


KNOWN: Final[Mapping[str, Callable[[], Contestant]]] = {
    "echo": echo,
    "naive": naive,
    "mq-bridge": mq_bridge,
    "mq-bridge-whole": mq_bridge_whole,
    "gridgov": gridgov,
}
USUAL: Final = ("echo", "naive", "mq-bridge", "gridgov")


def _environment(requirements: Path) -> Path:
    """The Python of a virtual environment with these requirements, made at the first run and kept in the cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridgov" / "bench"
    home = base / requirements.read_text().partition(" ")[0]
    if not (home / "done").exists():
        venv.create(home, with_pip=True, clear=True)
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        told = subprocess.run([*pip, "-r", str(requirements)], capture_output=True, text=True, check=False)
        if told.returncode:
            raise Unavailable(f"pip could not install {home.name}: {told.stderr.strip()[-200:]}")
        (home / "done").touch()
    return home / "bin" / "python"
