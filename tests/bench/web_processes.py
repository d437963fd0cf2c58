"""What a second web process on the same journal brings, where gridgov has the option; without relay, broker at rest."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.closed import CELLS, Cell
from tests.bench.contestants import Ours, gridgov
from tests.bench.figures import Figures, shown, table
from tests.bench.growth import ROOM
from tests.bench.load import closed, new_prefix

OPTION: Final = "GRIDGOV_WEB_PROCESSES"
COUNTS: Final = (1, 2)
MEASURED: Final = CELLS[2:]


def _name(count: int) -> str:
    return f"web x {count}"


ROWS: Final = {str(n): _name(n) for n in COUNTS}


def offered(checkout: Path) -> bool:
    """Whether this gridgov has the option."""
    told = subprocess.run([checkout / ".venv/bin/gridgov", "config"], capture_output=True, text=True, check=False)
    return OPTION in told.stdout


@dataclass
class Processes:
    """One gridgov for each number of web processes, in turn."""

    kafka: str
    figures: Figures
    scratch: Path
    seconds: int
    say: Callable[[str], None]

    def run(self, rounds: int) -> None:
        with ExitStack() as stack:
            made = self.made(stack)
            for one in made:
                stack.enter_context(one.running(self.kafka, self.scratch))
                self._load(one, CELLS[-1], 1)
            for number in range(rounds):
                self._round(made if number % 2 == 0 else made[::-1])

    def made(self, stack: ExitStack) -> list[Ours]:
        """Those that are compared."""
        return [gridgov(_name(n), env=ROOM | {OPTION: str(n)}, commands=("web",)) for n in COUNTS]

    def _round(self, made: Sequence[Ours]) -> None:
        for cell in MEASURED:
            for one in made:
                before = one.cpu()["web"]
                taken, rate = self._load(one, cell, self.seconds)
                cost = 1000 * (one.cpu()["web"] - before) / max(taken, 1)
                self.figures.add(one.name, cell.name, rate=rate, web=cost)
                self.say(f"{cell.head:28} {one.name:20} {rate:9,.0f}/s  {cost:.4f} ms CPU a report")

    def _load(self, one: Ours, cell: Cell, seconds: int) -> tuple[int, float]:
        seen = closed(one.port, cell.shape(one), cell.size, new_prefix(), cell.connections, seconds)
        return seen.taken * cell.size, seen.taken * cell.size / seen.seconds


def tables(figures: Figures, head: str = "web processes, no relay", names: Mapping[str, str] = ROWS) -> Iterator[str]:
    """Rates and processor time, by number of processes."""
    yield table(
        [head, *(f"{cell.head}: {what}" for cell in MEASURED for what in ("/s", "ms CPU"))],
        (
            [
                row,
                *(shown(figures.median(name, cell.name, measure)) for cell in MEASURED for measure in ("rate", "web")),
            ]
            for row, name in names.items()
        ),
    )
