"""An open loop of singles: calm, while Kafka is stopped, and while what has gathered drains; each rate in turn.

Latency counts from when a request was due (`load.drive`), so a service that stalls is told so by every request that had
to wait. A broker of its own, as it is stopped and started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench import machine
from tests.bench.contestants import Ours
from tests.bench.figures import Figures, shown, table
from tests.bench.load import BATCH, Seen, drive, new_prefix, requests
from tests.broker import Broker
from tests.gridgov import until

RATES: Final = (300, 1000, 2000)  # singles a second
CONDITIONS: Final = ("calm", "Kafka stopped", "draining")
CALM_ROUNDS: Final = 3  # one hiccup of the machine would spoil what all else is compared with
CONNECTIONS: Final = 64
FILLERS: Final = 8  # connections that fill the journal
HEARD_SECONDS: Final = 120  # for Kafka to be back, and for a backlog to go


@dataclass
class Timetable:
    """One gridgov that is up, on a broker that may be stopped. `backlog`: how many are pending when Kafka is back."""

    one: Ours
    broker: Broker
    figures: Figures
    seconds: int
    backlog: int
    say: Callable[[str], None]

    def run(self, rates: tuple[int, ...] = RATES) -> None:
        """Each rate under each condition; then the journal is empty again."""
        drive(self.one.port, requests(self.one.single, 1, new_prefix(), 500), connections=8)
        for rate in rates:
            for _ in range(CALM_ROUNDS):
                self._post(rate, "calm")
            self.broker.stop()
            self._post(rate, "Kafka stopped")
            self._fill()
            self.broker.start()
            self._drain(rate)
        self.figures.add(self.one.name, "open", memory=max(machine.most_memory_mib(pid) for pid in self._relay()))

    def _post(self, rate: int, condition: str) -> Seen:
        count = rate * self.seconds
        seen = drive(
            self.one.port, requests(self.one.single, 1, new_prefix(), count), connections=CONNECTIONS, rate=float(rate)
        )
        self.figures.add(
            self.one.name,
            f"{rate} {condition}",
            p50=1000 * seen.quantile(0.5),
            p99=1000 * seen.quantile(0.99),
            most=1000 * max(seen.latencies),
            refused=count - seen.taken,
        )
        self.say(f"{rate:5}/s  {condition:14} {self.one.name:20} p99 {1000 * seen.quantile(0.99):8.1f} ms")
        return seen

    def _fill(self) -> None:
        """Have `backlog` pending."""
        missing = int(self.backlog - self.one.pending()) // BATCH * BATCH
        if missing > 0:
            drive(self.one.port, requests(self.one.batch, BATCH, new_prefix(), missing), connections=FILLERS)

    def _drain(self, rate: int) -> None:
        """Post while the backlog goes, then wait for the rest: how fast with posts beside it, how fast alone."""
        full = self.one.pending()
        until(lambda: self.one.pending() < full, "Kafka takes messages again", seconds=HEARD_SECONDS, every=0.1)
        before, began = self.one.pending(), time.perf_counter()
        seen = self._post(rate, "draining")
        left, then = self.one.pending(), time.perf_counter()
        self.figures.add(self.one.name, f"{rate} draining", drained=(before + seen.taken - left) / (then - began))
        self.one.await_published()
        if left > self.backlog / 20:  # else it was gone too soon to tell
            self.figures.add(self.one.name, "open", drained=left / (time.perf_counter() - then))

    def _relay(self) -> list[int]:
        return self.one.pids("relay")


def tables(figures: Figures, names: list[str]) -> Iterator[str]:
    """Latencies by rate and condition; what the relay did meanwhile."""
    yield table(
        ["singles at a fixed rate", "condition", "p50 ms", "p99 ms", "max ms", "not accepted", "drained/s meanwhile"],
        (
            [
                f"{name} at {rate}/s",
                condition,
                *(
                    shown(figures.median(name, f"{rate} {condition}", measure))
                    for measure in ("p50", "p99", "most", "refused", "drained")
                ),
            ]
            for name in names
            for rate in RATES
            for condition in CONDITIONS
            if figures.rounds(name, f"{rate} {condition}", "p99")
        ),
    )
    yield table(
        ["relay", "drained/s, nothing posted", "memory at most, MiB"],
        (
            [name, *(shown(figures.median(name, "open", measure)) for measure in ("drained", "memory"))]
            for name in names
        ),
    )
