"""What was measured: kept by round, told as medians; and what the service promises itself, judged by that."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

OURS: Final = "gridgov"


class Figures:
    """Values by contestant, cell and measure, one for each round.

    A ratio is the median of the rounds' own ratios: what was measured within seconds of each other is compared, so a
    machine that is busier from one minute to the next is busier for both.
    """

    def __init__(self) -> None:
        self._rounds: dict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, contestant: str, cell: str, **measures: float) -> None:
        """One round's."""
        for measure, value in measures.items():
            self._rounds[contestant, cell, measure].append(value)

    def rounds(self, contestant: str, cell: str, measure: str) -> Sequence[float]:
        return self._rounds.get((contestant, cell, measure), ())

    def median(self, contestant: str, cell: str, measure: str) -> float | None:
        """None: it was not measured."""
        rounds = self.rounds(contestant, cell, measure)
        return statistics.median(rounds) if rounds else None

    def ratio(self, contestant: str, other: str, cell: str, measure: str, *, over: str | None = None) -> float | None:
        """How many times the other's; `over`: compared with another measure of the other."""
        pairs = zip(self.rounds(contestant, cell, measure), self.rounds(other, cell, over or measure), strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return statistics.median(ratios) if ratios else None

    def plain(self) -> list[dict[str, object]]:
        """For a file."""
        return [
            {"contestant": contestant, "cell": cell, "measure": measure, "rounds": rounds}
            for (contestant, cell, measure), rounds in self._rounds.items()
        ]


@dataclass(frozen=True)
class Target:
    """A bound on one figure: at least `bound`, or `at_most`."""

    number: int
    what: str
    bound: float
    unit: str
    figure: Callable[[Figures], float | None]
    at_most: bool = False

    @property
    def part(self) -> str:
        """The part of the bench that measures it."""
        parts = {4: "open", 5: "growth", 6: "processes", 7: "sink", 8: "edge", 9: "postgresql"}
        return parts.get(self.number, "closed")

    def judged(self, figures: Figures) -> tuple[str, ...]:
        """Its row: number, what, bound, figure, verdict."""
        seen = self.figure(figures)
        bound = f"{'≤' if self.at_most else '≥'} {shown(self.bound)} {self.unit}"
        if seen is None:
            return (str(self.number), self.what, bound, "–", "not measured")
        met = seen <= self.bound if self.at_most else seen >= self.bound
        off = abs(seen - self.bound) / self.bound
        verdict = f"met, {off:.0%} to spare" if met else f"missed by {off:.0%}"
        return (str(self.number), self.what, bound, f"{shown(seen)} {self.unit}", verdict)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, the first column flush left, padded to be read as it is."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    padded = ["| " + " | ".join(_padded(line, widths)) + " |" for line in lines]
    rule = "|".join("-" * (width + 1) + (":" if n else "-") for n, width in enumerate(widths))
    return "\n".join([padded[0], f"|{rule}|", *padded[1:]])


def shown(value: float | None, digits: int = 3) -> str:
    """A figure to three digits, whole from 100 on; '–' when there is none."""
    if value is None:
        return "–"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _padded(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for n, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.rjust(width) if n else cell.ljust(width)


# ---- the targets ----

Figure = Callable[[Figures], float | None]


def _of(other: str, cell: str, measure: str = "rate", over: str | None = None) -> Figure:
    """Times the other's, of the same round."""
    return lambda figures: figures.ratio(OURS, other, cell, measure, over=over)


def _own(cell: str, measure: str) -> Figure:
    return lambda figures: figures.median(OURS, cell, measure)


def _calmed(rate: int, condition: str) -> Figure:
    """The p99 under a condition, of the calm one at that rate."""

    def figure(figures: Figures) -> float | None:
        calm, there = (figures.median(OURS, f"{rate} {how}", "p99") for how in ("calm", condition))
        return there / calm if there is not None and calm else None

    return figure


def _grown(state: str) -> Figure:
    return lambda figures: figures.ratio(state, "empty", "growth", "cost")


def _second(cell: str, measure: str) -> Figure:
    return lambda figures: figures.ratio("web x 2", "web x 1", cell, measure)


def _more(way: str, cell: str) -> Figure:
    """By how much it is more than what costs nothing: the median of the rounds' own differences."""

    def figure(figures: Figures) -> float | None:
        pairs = zip(figures.rounds(way, cell, "cost"), figures.rounds(OPEN, cell, "cost"), strict=True)
        return statistics.median(differences) if (differences := [there - here for there, here in pairs]) else None

    return figure


OPEN: Final = "open"  # intake in the part `edge`
GUARDED: Final = "key, limits, masking"


def _served(cell: str) -> Figure:
    return lambda figures: figures.ratio("on postgresql", "on sqlite", cell, "rate")


DATABASES: Final = ("sqlite", "postgresql")
CALM_MS: Final = {300: 15, 1000: 25, 2000: 50}

TARGETS: Final = (
    *(Target(1, f"singles, {n} connections", 2.5, "× naive", _of("naive", f"{n}")) for n in (64, 8)),
    *(Target(1, f"singles, {n} connections", 0.50, "× echo", _of("echo", f"{n}")) for n in (64, 8)),
    Target(1, "singles, 1 connection", 1.5, "× naive", _of("naive", "1")),
    Target(2, "batches accepted", 4, "× naive", _of("naive", "batch")),
    Target(2, "batches accepted and in Kafka", 3, "× naive", _of("naive", "batch", "published", "rate")),
    Target(3, "web, singles at 64", 0.20, "ms CPU a report", _own("64", "web"), at_most=True),
    Target(3, "web, batches", 0.030, "ms CPU a report", _own("batch", "web"), at_most=True),
    Target(3, "relay with fold, singles at 64", 0.10, "ms CPU a report", _own("64", "relay"), at_most=True),
    Target(3, "relay with fold, batches", 0.045, "ms CPU a report", _own("batch", "relay"), at_most=True),
    *(Target(4, f"p99 at {n}/s, calm", ms, "ms", _own(f"{n} calm", "p99"), at_most=True) for n, ms in CALM_MS.items()),
    *(
        Target(4, f"p99 at {n}/s, {how}", 2, "× calm", _calmed(n, how), at_most=True)
        for how in ("Kafka stopped", "draining")
        for n in CALM_MS
    ),
    Target(4, "a backlog drains", 10_000, "messages/s", _own("open", "drained")),
    Target(4, "the relay's memory", 200, "MiB", _own("open", "memory"), at_most=True),
    Target(5, "with the ids remembered", 1.25, "× CPU when empty", _grown("remembered"), at_most=True),
    Target(5, "with the closed cases", 1.25, "× CPU when empty", _grown("closed"), at_most=True),
    Target(5, "with the backlog", 1.25, "× CPU when empty", _grown("backlog"), at_most=True),
    Target(6, "two web processes, batches accepted", 1.0, "× one", _second("batch", "rate")),
    Target(6, "two web processes, singles at 64", 1.0, "× one", _second("64", "rate")),
    Target(6, "what two cost a report, batches", 1.10, "× CPU of one", _second("batch", "web"), at_most=True),
    Target(6, "what two cost a report, singles at 64", 1.10, "× CPU of one", _second("64", "web"), at_most=True),
    *(
        Target(8, f"{GUARDED}: {cell}", 15, "µs more a report", _more(GUARDED, cell), at_most=True)
        for cell in ("singles", "batches")
    ),
    *(Target(7, f"gridgov sink into {name}", 5_000, "reports/s", _own(f"sink {name}", "rate")) for name in DATABASES),
    Target(9, "on PostgreSQL, singles at 64", 0.6, "× SQLite", _served("64")),
    Target(9, "on PostgreSQL, batches", 0.5, "× SQLite", _served("batch")),
)
