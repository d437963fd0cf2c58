"""`make bench`: gridgov beside those it is compared with, in one run on one machine; prints what is met.

Everything is real: processes, disk, a Kafka of our own. Load, service and broker share the machine, so that a figure
means nothing by itself; the ratios do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from tests.bench import closed, edge, growth, journals, latency, load, machine, sink, web_processes
from tests.bench.contestants import KNOWN, ROOT, USUAL, Contestant, Ours, Unavailable, elsewhere, gridgov
from tests.bench.figures import OURS, TARGETS, Figures, table
from tests.bench.store import Store
from tests.broker import Broker, serving


@dataclass(frozen=True)
class Plan:
    """How long and how much. Seconds are those of one load."""

    rounds: int
    closed_seconds: int
    rates: tuple[int, ...]
    open_seconds: int
    backlog: int  # messages
    growth_seconds: int
    growth_rounds: int
    scale: growth.Scale
    sunk: int  # reports


WHOLE: Final = Plan(5, 2, latency.RATES, 5, 200_000, 3, 3, growth.Scale(), 60_000)
SHORT: Final = Plan(2, 1, latency.RATES[1:2], 2, 10_000, 1, 1, growth.Scale(100_000, 10_000, 10 << 20), 20_000)


class Bench:
    """One run: its parts share a broker, a scratch directory and the figures."""

    def __init__(self, broker: Broker, scratch: Path, chosen: argparse.Namespace) -> None:
        self.figures = Figures()
        self._broker, self._scratch, self._chosen = broker, scratch, chosen
        self._plan = SHORT if chosen.short else WHOLE
        self._rounds = chosen.rounds or self._plan.rounds

    def closed(self) -> Iterator[str]:
        """Closed loops, every contestant."""
        contestants, absent = _contestants(self._chosen)
        store = Store(self._broker.bootstrap)
        store.create(topic for one in contestants for topic in one.topics)
        ring = closed.Ring(store, self._broker.pid, self.figures, self._plan.closed_seconds, _say)
        with ExitStack() as stack:
            up = []
            for one in contestants:
                try:
                    stack.enter_context(one.running(self._broker.bootstrap, self._scratch))
                    up.append(one)
                except (Unavailable, AssertionError) as error:
                    absent[one.name] = str(error)
            for one in up:
                ring.check(one)
            for number in range(self._rounds):
                _say(f"round {number + 1} of {self._rounds}")
                ring.round(up, number)
        store.close()
        who = {one.name: one.about for one in up} | {name: f"not available: {why}" for name, why in absent.items()}
        yield table(["contestant", ""], who.items())
        yield from closed.tables(self.figures, up)

    def open(self) -> Iterator[str]:
        """An open loop on each gridgov."""
        ours = [one for one in _contestants(self._chosen)[0] if isinstance(one, Ours)]
        for one in ours:
            with one.running(self._broker.bootstrap, self._scratch / "open"):
                plan = self._plan
                loop = latency.Timetable(one, self._broker, self.figures, plan.open_seconds, plan.backlog, _say)
                loop.run(plan.rates)
        yield from latency.tables(self.figures, [one.name for one in ours])

    def growth(self) -> Iterator[str]:
        """What a report costs once there is much."""
        grown = growth.Growth(self._broker, self.figures, self._scratch / "growth", self._plan.growth_seconds, _say)
        grown.build(self._chosen.scale or self._plan.scale)
        for number in range(self._plan.growth_rounds):
            grown.round(number)
        yield from growth.tables(self.figures)

    def processes(self) -> Iterator[str]:
        """Several web processes, once there is such an option."""
        if not web_processes.offered(ROOT):
            yield f"{web_processes.OPTION}: this gridgov has no such option yet"
            return
        scratch, seconds = self._scratch / "processes", self._plan.closed_seconds
        web_processes.Processes(self._broker.bootstrap, self.figures, scratch, seconds, _say).run(self._rounds)
        yield from web_processes.tables(self.figures)

    def postgresql(self) -> Iterator[str]:
        """On PostgreSQL, beside SQLite."""
        scratch, seconds = self._scratch / "postgresql", self._plan.closed_seconds
        journals.Journals(self._broker.bootstrap, self.figures, scratch, seconds, _say).run(self._rounds)
        yield from journals.tables(self.figures)

    def sink(self) -> Iterator[str]:
        """Into the sub-centre's tables; it reads all that is in the topics, so from a broker of its own."""
        with serving(Broker(self._scratch / "sink" / "kafka")) as broker:
            backlog = sink.Backlog(broker, self.figures, self._scratch / "sink", self._plan.sunk, _say)
            backlog.fill()
            for number in range(min(self._rounds, 3)):
                backlog.round(number)
        yield from sink.tables(self.figures)

    def edge(self) -> Iterator[str]:
        """What keys, limits and masking cost."""
        doors = edge.Doors(self.figures, self._scratch / "edge", _say)
        for _ in range(self._rounds * edge.TURNS):
            doors.round()
        yield from edge.tables(self.figures)


PARTS: Final[dict[str, Callable[[Bench], Iterator[str]]]] = {
    "closed": Bench.closed,
    "open": Bench.open,
    "growth": Bench.growth,
    "processes": Bench.processes,
    "sink": Bench.sink,
    "edge": Bench.edge,
    "postgresql": Bench.postgresql,
}


def main() -> int:
    chosen = _arguments()
    if (why := load.missing()) is not None:
        print(why, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="gridgov-bench-", dir=chosen.scratch) as directory:
        scratch = Path(directory)
        _tell(table(["machine", ""], machine.facts(scratch)))
        with serving(Broker(scratch / "kafka")) as broker:
            bench = Bench(broker, scratch, chosen)
            for part in chosen.parts:
                (scratch / part).mkdir()
                for told in PARTS[part](bench):
                    _tell(told)
    judged = (target.judged(bench.figures) for target in TARGETS if target.part in chosen.parts)
    _tell(table(["target", "", "bound", OURS, ""], judged))
    if chosen.json:
        chosen.json.write_bytes(orjson.dumps(bench.figures.plain(), option=orjson.OPT_INDENT_2))
    return 0


def _contestants(chosen: argparse.Namespace) -> tuple[list[Contestant], dict[str, str]]:
    """Those asked for; and of those that cannot be had, why."""
    found, absent = [], {}
    for name in chosen.contestants:
        try:
            found.append(KNOWN[name]())
        except Unavailable as error:
            absent[name] = str(error)
    found += [gridgov(f"gridgov@{_state(path)}", path) for path in chosen.gridgov]
    for told, template in zip(chosen.gateway, chosen.template, strict=True):
        name, _, url = told.partition("=")
        found.append(elsewhere(name, url, template))
    return found, absent


def _state(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.stdout.strip() or checkout.name


def _tell(what: str) -> None:
    print(what, end="\n\n", flush=True)


def _say(what: str) -> None:
    print(f"[{time.perf_counter() - _STARTED:4.0f} s] {what}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH=…", description=__doc__)
    parser.add_argument("--short", action="store_true", help="two minutes instead of twelve; for a first look")
    parser.add_argument(
        "--rounds", type=int, help=f"of the closed loops; default: {WHOLE.rounds}, or {SHORT.rounds} when short"
    )
    parser.add_argument(
        "--parts", type=_some(PARTS), default=list(PARTS), help=f"some of {','.join(PARTS)}, with commas; default: all"
    )
    parser.add_argument(
        "--contestants", type=_some(KNOWN), default=USUAL, help=f"some of {','.join(KNOWN)}; default: {','.join(USUAL)}"
    )
    parser.add_argument(
        "--scale",
        type=_scale,
        metavar="IDS,CASES,MIB",
        help="what there is in the part `growth`; 10000000,1000000,1024",
    )
    parser.add_argument(
        "--gridgov",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="another checkout of gridgov with its own .venv, to compare with; repeatable",
    )
    parser.add_argument(
        "--gateway",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a gateway that runs on this machine; repeatable, each with a --template",
    )
    parser.add_argument(
        "--template",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="how that gateway wants its reports, TOML; see tests/bench/README.md",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there too")
    parser.add_argument("--scratch", type=Path, help="where journals and Kafka's data go meanwhile; default: TMPDIR")
    chosen = parser.parse_args()
    if len(chosen.gateway) != len(chosen.template):
        parser.error("each --gateway needs its --template")
    return chosen


def _some(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    def parse(told: str) -> list[str]:
        if unknown := set(told.split(",")) - known.keys():
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
        return told.split(",")

    return parse


def _scale(told: str) -> growth.Scale:
    ids, cases, mebibytes = (int(part) for part in told.split(","))
    return growth.Scale(ids, cases, mebibytes << 20)


_STARTED = time.perf_counter()

if __name__ == "__main__":
    sys.exit(main())
