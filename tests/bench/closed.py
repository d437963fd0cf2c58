"""Closed loops by wrk: singles over 1, 8 and 64 connections, batches of 100 over 8; every contestant in turn, by round.

All of them are up all the time, and the one that is measured alone has work. A cell ends when what was accepted is in
Kafka: then the relay's processor time is told, and what is stored is compared with what was acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from schemas.plain import Doubt
from schemas.report import PLAIN
from tests.bench import machine
from tests.bench.contestants import Contestant
from tests.bench.figures import Figures, shown, table
from tests.bench.load import BATCH, Shape, closed, drive, new_prefix, requests
from tests.bench.reports import CYCLE, reports
from tests.bench.store import Store, between


class Cell(NamedTuple):
    """One load. `size`: reports in a request."""

    name: str
    size: int
    connections: int
    head: str

    def shape(self, one: Contestant) -> Shape:
        return one.single if self.size == 1 else one.batch


SINGLES: Final = tuple(Cell(str(n), 1, n, f"{n} conn") for n in (1, 8, 64))
CELLS: Final = (*SINGLES, Cell("batch", BATCH, 8, f"batches of {BATCH}, 8 conn"))
ROLES: Final = ("web", "relay", "broker")
CHECKED: Final = {"64": 2_000, "batch": 10_000}  # reports of which each one is looked for in Kafka
LEFT_BEHIND_SECONDS: Final = 0.1  # for requests that wrk let go of when its time was up


@dataclass
class Ring:
    """Where the contestants meet. `broker`: Kafka's process id; `seconds`: how long a cell lasts."""

    store: Store
    broker: int
    figures: Figures
    seconds: int
    say: Callable[[str], None]

    def check(self, one: Contestant) -> None:
        """A fixed number of reports, every answer read: is each that was acknowledged in Kafka? Warms it up too."""
        begins, taken = self.store.ends(one.topics), 0
        for cell in CELLS:
            if count := CHECKED.get(cell.name):
                posts = requests(cell.shape(one), cell.size, new_prefix(), count)
                taken += drive(one.port, posts, connections=cell.connections).taken * cell.size
        one.await_published()
        ends = self.store.ends(one.topics)
        self.figures.add(one.name, "check", taken=taken, distinct=self.store.distinct(begins, ends))
        self.say(f"warm: {one.name}")

    def round(self, contestants: Sequence[Contestant], number: int) -> None:
        """Each cell, each contestant in turn; who comes first changes from round to round."""
        first = number % len(contestants)
        for cell in CELLS:
            for one in (*contestants[first:], *contestants[:first]):
                self.measure(one, cell)

    def measure(self, one: Contestant, cell: Cell) -> None:
        """One cell. Its web's time ends with the load: later it only answers our questions."""
        begins, before, broker = self.store.ends(one.topics), one.cpu(), machine.cpu_seconds([self.broker])
        started = time.perf_counter()
        seen = closed(one.port, cell.shape(one), cell.size, new_prefix(), cell.connections, self.seconds)
        web = one.cpu()
        one.await_published()
        took = time.perf_counter() - started if one.queues else seen.seconds
        after = {**one.cpu(), **{role: spent for role, spent in web.items() if role == "web"}}
        spent = {role: seconds - before[role] for role, seconds in after.items()}
        spent["broker"] = machine.cpu_seconds([self.broker]) - broker
        time.sleep(LEFT_BEHIND_SECONDS)
        taken = seen.taken * cell.size
        stored = between(begins, self.store.ends(one.topics)) * (1 if one.splits else cell.size)
        self.figures.add(
            one.name,
            cell.name,
            rate=taken / seen.seconds,
            published=taken / took,
            p99=seen.p99,
            taken=taken,
            failed=seen.refused + seen.broken,
            stored=stored,
            **{role: 1000 * seconds / max(taken, 1) for role, seconds in spent.items()},
        )
        self.say(f"{cell.head:28} {one.name:20} {taken / seen.seconds:9,.0f}/s  p99 {seen.p99 * 1000:6.1f} ms")


# ---- told ----


def tables(figures: Figures, contestants: Sequence[Contestant]) -> Iterator[str]:
    """Rates, ratios, processor time, and what became of what was acknowledged."""
    names, heads = [one.name for one in contestants], [cell.head for cell in CELLS]
    yield table(["reports/s", *heads, "… and in Kafka"], ([name, *_rates(figures, name)] for name in names))
    for other in ("naive", "echo"):
        yield table(
            [f"of {other}", *heads, "… and in Kafka"], ([name, *_ratios(figures, name, other)] for name in names)
        )
    yield table(
        ["ms CPU a report", "role", *heads],
        (
            [name, role, *(shown(figures.median(name, cell.name, role)) for cell in CELLS)]
            for name in names
            for role in ROLES
            if figures.median(name, "64", role) is not None
        ),
    )
    yield table(["kept its word", *_PROMISE], (_promise(figures, one) for one in contestants if one.topics))
    plain = sum(_plain(one) for one in reports("plain", CYCLE))
    yield f"Of the {CYCLE} reports that the load repeats, gridgov takes {plain} without marshmallow's walk."


def _rates(figures: Figures, name: str) -> Iterator[str]:
    yield from (shown(figures.median(name, cell.name, "rate")) for cell in CELLS)
    yield shown(figures.median(name, "batch", "published"))


def _ratios(figures: Figures, name: str, other: str) -> Iterator[str]:
    yield from (shown(figures.ratio(name, other, cell.name, "rate")) for cell in CELLS)
    yield shown(figures.ratio(name, other, "batch", "published", over="rate"))


def _plain(report: bytes) -> bool:
    try:
        PLAIN(orjson.loads(report))
    except Doubt:
        return False
    return True


_PROMISE: Final = (
    "looked for",
    "found in Kafka",
    "acknowledged to wrk",
    "stored",
    "stored − acknowledged",
    "failed requests",
)


def _promise(figures: Figures, one: Contestant) -> list[str]:
    taken, stored, failed = (
        sum(sum(figures.rounds(one.name, cell.name, measure)) for cell in CELLS)
        for measure in ("taken", "stored", "failed")
    )
    looked = figures.median(one.name, "check", "taken")
    found = figures.median(one.name, "check", "distinct")
    whole = [looked or 0, found or 0, taken, stored, stored - taken, failed]
    return [one.name, *(f"{value:,.0f}" for value in whole)]
