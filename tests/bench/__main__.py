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
from contextlib import ExitStack
from pathlib import Path

import orjson

from tests.bench import closed, load, machine
from tests.bench.contestants import KNOWN, Contestant, Unavailable, elsewhere, gridgov
from tests.bench.figures import TARGETS, Figures, table
from tests.bench.store import Store
from tests.broker import Broker, run_script

ROUNDS = 3
SECONDS, SHORT_SECONDS = 4, 1  # of a cell


def main() -> int:
    chosen = _arguments()
    if (why := load.missing()) is not None:
        print(why, file=sys.stderr)
        return 1
    run_script("prepare")
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="gridgov-bench-", dir=chosen.scratch) as directory:
        scratch = Path(directory)
        print(table(["machine", ""], [list(fact) for fact in machine.facts(scratch)]), end="\n\n", flush=True)
        broker = Broker(scratch / "kafka")
        broker.start()
        try:
            told = _closed(broker, figures, chosen, scratch)
        finally:
            broker.kill()
    for one in told:
        print(one, end="\n\n")
    print(table(["target", "", "bound", "seen", ""], (target.judged(figures) for target in TARGETS)))
    if chosen.json:
        chosen.json.write_bytes(orjson.dumps(figures.plain(), option=orjson.OPT_INDENT_2))
    return 0


def _closed(broker: Broker, figures: Figures, chosen: argparse.Namespace, scratch: Path) -> list[str]:
    contestants, absent = _contestants(chosen)
    store = Store(broker.bootstrap)
    store.create(topic for one in contestants for topic in one.topics)
    ring = closed.Ring(store, broker.pid, figures, SHORT_SECONDS if chosen.short else SECONDS, _say)
    with ExitStack() as stack:
        up = []
        for one in contestants:
            try:
                stack.enter_context(one.running(broker.bootstrap, scratch))
                up.append(one)
            except (Unavailable, AssertionError) as error:
                absent[one.name] = str(error)
        for one in up:
            ring.check(one)
        for number in range(chosen.rounds):
            _say(f"round {number + 1} of {chosen.rounds}")
            ring.round(up, number)
        store.close()
    who = [(one.name, one.about) for one in up] + [(name, f"not available: {why}") for name, why in absent.items()]
    return [table(["contestant", ""], who), *closed.tables(figures, up)]


def _contestants(chosen: argparse.Namespace) -> tuple[list[Contestant], dict[str, str]]:
    """Those asked for; and of those that cannot be had, why."""
    found, absent = [], {}
    for name in chosen.contestants.split(","):
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


def _say(what: str) -> None:
    print(f"[{time.perf_counter() - _STARTED:4.0f} s] {what}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH=…", description=__doc__)
    parser.add_argument("--short", action="store_true", help="two minutes instead of twelve; for a first look")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--contestants", default=",".join(KNOWN), help=f"default: {','.join(KNOWN)}")
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


_STARTED = time.perf_counter()

if __name__ == "__main__":
    sys.exit(main())
