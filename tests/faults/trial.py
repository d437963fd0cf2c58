"""What the rows about processes and brokers share: processes kept going as systemd would, the verdict."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

from tests.broker import Broker
from tests.faults.rows import Setting
from tests.gridgov import Gridgov, until
from tests.system.checker import Json, Ledger, Record, Verdict, check, read_topics
from tests.system.clients import Clients

ROOT = Path(__file__).parents[2]
WINDOW = 50  # GRIDGOV_RELAY_WINDOW of these rows: what one break may send again, per topic
LOOK_SECONDS = 0.02
WATCH_SECONDS = 5.0  # after so long the relay has surely looked at the topics again
PATIENCE = 600.0  # seconds for a number of answers, while things are killed on a machine that others use too
MOST_BUSY = 0.4  # of a core, for a relay that can do nothing but wait
PR_SET_PDEATHSIG = 1


class Cluster(Protocol):
    """What a trial needs of one broker or of several."""

    @property
    def bootstrap(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


class Stopwatch(Ledger):
    """A client's book that also notes how long each report took from its first post to its 202."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._begun: dict[str, float] = {}
        self._took: list[tuple[float, float]] = []  # when it was begun (monotonic), and the seconds

    def sent(self, report: Json) -> None:
        super().sent(report)
        self._begun[report["report_id"]] = time.monotonic()

    def accepted(self, receipt: Json) -> None:
        if (begun := self._begun.pop(receipt["report_id"], None)) is not None:
            self._took.append((begun, time.monotonic() - begun))
        super().accepted(receipt)

    def p99(self, begin: float, end: float) -> float:
        """In seconds, of the reports first posted from `begin` to `end` (monotonic); unanswered ones at their age.

        Of fewer than a hundred it is the slowest; where none was posted, as all wait for an answer, of those.
        """
        now = time.monotonic()
        unanswered = [(begun, now - begun) for begun in list(self._begun.values())]
        posted = [took for begun, took in [*self._took, *unanswered] if begin <= begun <= end]
        times = sorted(posted or [age for begun, age in unanswered if begun < begin])
        assert times, "nothing was posted"
        return times[len(times) * 99 // 100]


class Kept:
    """Plays systemd with Restart=always: `gridgov NAME` is started, and again whenever it ends.

    `broken`: for a name, the protection that `tests.faults.unprotected` takes away from it.
    """

    def __init__(self, gridgov: Gridgov, *names: str, broken: Mapping[str, str] | None = None) -> None:
        self._gridgov, self._broken = gridgov, broken or {}
        self._processes: dict[str, subprocess.Popen[bytes] | None] = dict.fromkeys(names)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep)  # the processes die with the thread that started them

    def __enter__(self) -> Kept:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def signal(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to `web`, `relay`, or the `worker` forked by web; waits for there to be one; its pid."""

        def sent() -> int | None:
            if pid := self._pid(name):
                os.kill(pid, number)
            return pid

        found: int = until(sent, f"{name} runs", seconds=60)
        return found

    def end(self, name: str) -> None:
        """SIGTERM to `web` or `relay`; returns when another one runs in its place."""
        pid = self.signal(name, signal.SIGTERM)
        until(lambda: self._pid(name) not in (pid, None), f"another {name} runs", seconds=60)

    def pid(self, name: str) -> int:
        """The process's id. AssertionError: it does not run."""
        pid = self._pid(name)
        assert pid, f"{name} does not run"
        return pid

    def _pid(self, name: str) -> int | None:
        process = self._processes["web" if name == "worker" else name]
        if process is None or process.poll() is not None:
            return None
        if name != "worker":
            return process.pid
        return next(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()), None)

    def _keep(self) -> None:
        log_file = self._gridgov.data_dir.parent / f"{self._gridgov.data_dir.name}.log"
        with log_file.open("ab") as log:
            while not self._stop.wait(LOOK_SECONDS):
                for name, process in self._processes.items():
                    if process is None or process.poll() is not None:
                        self._processes[name] = self._start(name, log)
            self._end()

    def _start(self, name: str, log: Any) -> subprocess.Popen[bytes]:
        module = ["tests.faults.unprotected", self._broken[name]] if name in self._broken else ["service.cli"]
        return subprocess.Popen(
            [sys.executable, "-m", *module, name],
            env=self._gridgov.environment(),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            preexec_fn=partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, int(signal.SIGKILL)),
        )

    def _end(self) -> None:
        running = [process for process in self._processes.values() if process is not None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True)
class Trial:
    """A gridgov, the brokers to break, and the book of what clients were promised; `prefix` begins every report_id."""

    gridgov: Gridgov
    ledger: Stopwatch
    prefix: str = "t"

    def clients(self, name: str = "c", **options: Any) -> Clients:
        return Clients(self.gridgov.url, self.ledger, f"{self.prefix}-{name}", **options)

    def judged(self, *, breaks: int, window: int = WINDOW, excused: Collection[str] = ()) -> Finding:
        """Wait for the drain, then hold the receipts against a full read of the topics.

        `excused`: reports that were in Kafka when somebody deleted them there.
        """
        status = self.gridgov.settled(300)
        records = read_topics(self.gridgov.kafka, self.prefix)
        verdict = check(self.ledger, records, excused=excused)
        return Finding(verdict, len(records), resent(records), status, breaks, window, len(excused))


@contextmanager
def trial(setting: Setting, kafka: Cluster | None = None, **env: str) -> Iterator[Trial]:
    """A started broker, or the cluster given, and a gridgov of which nothing runs yet."""
    kafka = kafka or Broker(setting.directory / "kafka")
    with ExitStack() as stack:
        stack.callback(kafka.kill)
        kafka.start()
        gridgov = Gridgov(setting.directory / "var", kafka.bootstrap, {"GRIDGOV_RELAY_WINDOW": str(WINDOW), **env})
        stack.callback(gridgov.stop)
        yield Trial(gridgov, Stopwatch(setting.directory / "promised.ndjson"))


def flowing(gridgov: Gridgov) -> None:
    """Wait until the API accepts, and the relay can publish to every topic."""
    until(lambda: gridgov.get("/readyz")[1] == {"status": "ready", "reasons": []}, "all is well", seconds=90)


def age(gridgov: Gridgov) -> float:
    """Seconds since the oldest pending report was received; 0 when none is pending."""
    oldest = gridgov.metrics()["gridgov_journal_oldest_pending_timestamp_seconds"]
    return max(0.0, time.time() - oldest) if oldest else 0.0


def cpu_seconds(pid: int) -> float:
    """What a process has spent of the processors, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def relay_sample(gridgov: Gridgov, name: str) -> float:
    """The sum of a relay metric over its labels."""
    samples = gridgov.metrics(gridgov.relay_metrics).items()
    return sum(value for sample, value in samples if sample.partition("{")[0] == name)


def each(clients: Clients, reports: int, times: int, dice: Random, act: Callable[[int], object]) -> None:
    """`act` `times` times while `reports` are answered, evenly over the answers and each a little later by chance."""
    for number in range(times):
        mark = (number + 1) * reports // (times + 1)
        until(lambda mark=mark: clients.answered >= mark, f"{mark} reports are answered", seconds=PATIENCE)  # type: ignore[misc]
        time.sleep(dice.uniform(0, 0.05))
        act(number)


@dataclass(frozen=True)
class Finding:
    """What the judge found after a row; `met` is what every row demands."""

    verdict: Verdict
    records: int
    resent: Mapping[tuple[str, int], list[int]]
    status: Mapping[str, Any]
    breaks: int
    window: int
    deleted: int = 0  # reports that Kafka had, and somebody deleted there

    @property
    def lost(self) -> int:
        return sum(one.endswith("promised and missing") for one in self.verdict.problems)

    @property
    def disorder(self) -> int:
        return sum("out of order" in one or "more than one partition" in one for one in self.verdict.problems)

    @property
    def copies(self) -> int:
        return self.verdict.duplicates.total()

    @property
    def bounded(self) -> bool:
        """Whether no break has sent more than a window again: in a partition as often as breaks, each time so much."""
        times = max(map(len, self.resent.values()), default=0)
        most = max((length for one in self.resent.values() for length in one), default=0)
        return times <= self.breaks and most <= self.window

    @property
    def exact(self) -> bool:
        """Whether the ledger adds up and knows as many reports as Kafka holds, or held."""
        return bool(self.status["mismatch"] == 0 and self.status["accepted"] == self.verdict.distinct + self.deleted)

    @property
    def met(self) -> bool:
        for problem in self.verdict.problems[:5]:
            print(f"    {problem}"[:300], flush=True)
        return not self.verdict.problems and self.bounded and self.exact

    @property
    def figures(self) -> str:
        other = len(self.verdict.problems) - self.lost - self.disorder
        most = max((length for one in self.resent.values() for length in one), default=0)
        return (
            f"{self.verdict.distinct} reports, {self.lost} lost, {self.disorder} out of order, {other} otherwise wrong;"
            f" {self.copies} copies ({self.copies / max(1, self.records):.1%}), at most {most} at a time;"
            f" ledger {'exact' if self.exact else 'knows ' + str(self.status['accepted'])}"
        )


def resent(records: Iterable[Record]) -> dict[tuple[str, int], list[int]]:
    """By partition, for each time its seqs go back: how many records come again before they go back once more."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    before: Counter[tuple[str, int]] = Counter()
    highest: Counter[tuple[str, int]] = Counter()
    for one in sorted(records, key=lambda record: record.place):
        place = (one.topic, one.partition)
        if one.seq <= before[place]:
            found[place].append(0)
        if one.seq <= highest[place]:
            found[place][-1] += 1
        before[place] = one.seq
        highest[place] = max(highest[place], one.seq)
    return dict(found)
