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
from dataclasses import dataclass
from pathlib import Path
from typing import Final
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
    it answers before Kafka has the reports.
    """

    name: str
    about: str
    single: Shape
    batch: Shape
    topics: Sequence[str] = ()
    port: int = 0
    queues: bool = False

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
        return {"web": machine.cpu_seconds([self.pid, *machine.below(self.pid)])}


@dataclass
class Ours(Contestant):
    """gridgov from a checkout, in that checkout's virtual environment, as `gridgov run` starts it."""

    checkout: Path = ROOT
    gridgov: Gridgov | None = None

    @contextmanager
    def running(self, kafka: str, scratch: Path) -> Iterator[None]:
        binary = self.checkout / ".venv" / "bin" / "gridgov"
        if not binary.exists():
            raise Unavailable(f"{binary} is not there: `make .venv/.done` in that checkout")
        self.gridgov = one = Gridgov(scratch / self.name, kafka, binary=str(binary))
        self.port = one.port
        try:
            one.start()
            one.ready()
            until(lambda: one.metrics(one.relay_metrics)["gridgov_kafka_connected"] == 1, "Kafka")
            yield
        finally:
            one.stop()

    def cpu(self) -> Mapping[str, float]:
        assert self.gridgov is not None
        found = {"web": 0.0, "relay": 0.0}
        for pid in machine.below(self.gridgov.processes[0].pid):
            role = machine.command(pid).rpartition(" ")[2]
            if role in found:
                found[role] += machine.cpu_seconds([pid])
        return found

    def await_published(self) -> None:
        assert self.gridgov is not None
        self.gridgov.drained()


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
        "forty lines: Flask, marshmallow, `send().get()` with acks=all; on granian with the same threads",
        Shape("/reports"),
        Shape("/reports/batch", **ARRAY),
        [f"naive.{major}" for major in MAJORS],
        command=[sys.executable, "-m", "tests.bench.serve", "tests.bench.naive", "{port}"],
    )


def mq_bridge() -> Contestant:
    """A pipe in Rust from PyPI, in an environment of its own: 100 MB that nothing else here needs."""
    return Program(
        "mq-bridge",
        f"{PIPE.read_text().partition(' ')[0]} from PyPI: HTTP in, Kafka out, acks=all; no validation, no dedupe",
        Shape("/", "application/x-ndjson"),
        Shape("/", "application/x-ndjson", between="\n"),
        ["mq-bridge"],
        command=[str(_environment(PIPE)), str(HERE / "pipe.py"), "{port}", "{kafka}"],
    )


def gridgov(name: str = "gridgov", checkout: Path = ROOT) -> Contestant:
    """This one, or another state of it."""
    return Ours(
        name,
        "journal, dedupe, receipts, cases; an answer means: it is on the disk",
        SINGLE,
        BATCHES,
        Catalogue.load().topics,
        queues=True,
        checkout=checkout,
    )


def elsewhere(name: str, url: str, template: Path) -> Contestant:
    """A gateway on this machine that somebody else has started; `template` is TOML, see the README."""
    told = tomllib.loads(template.read_text(encoding="utf-8"))
    return Contestant(name, url, Shape(**told["single"]), Shape(**told["batch"]), port=urlsplit(url).port or 80)


KNOWN: Final[Mapping[str, Callable[[], Contestant]]] = {
    "echo": echo,
    "naive": naive,
    "mq-bridge": mq_bridge,
    "gridgov": gridgov,
}


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
