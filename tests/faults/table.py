"""Tries the rows of a suite, each with its negative control, and ends with a table of demand and result."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import random
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from tests.faults.rows import Row, Seen, Setting, missing

BROKE = Seen(met=False, figures="broke: see above")
Line = tuple[bool, str, str, str]  # good, name, demand, result


def main(suite: ModuleType, rows: list[Row], told: str | None, *, at_once: int) -> None:
    """Ends the process. `told` is its help; `at_once`: how many rows of the short form."""
    name = suite.__name__.rpartition(".")[2]
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the cheap rows, small numbers: what CI runs")
    parser.add_argument("--only", default="", help="rows whose name this regular expression finds")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = parser.parse_args()
    wanted = [
        row for row in every_row(suite, rows) if re.search(chosen.only, row.name) and (row.in_short or not chosen.short)
    ]
    if not wanted:
        parser.error(f"no row of this form has {chosen.only!r} in its name")
    print(f"seed {chosen.seed}, {len(wanted)} rows", flush=True)
    started = time.monotonic()
    lines = list(_lines(wanted, chosen.seed, short=chosen.short, at_once=at_once if chosen.short else 1))
    print(f"\n{'':4} {name.removesuffix('s'):44} {'demand':52} result")
    for good, what, demand, result in lines:
        print(f"{'ok' if good else 'FAIL':4} {what:44} {demand:52} {result}")
    failed = sum(not good for good, *_ in lines)
    print(f"\n{len(lines) - failed} passed, {failed} failed")
    print(f"in {time.monotonic() - started:.0f} s, seed {chosen.seed}")
    sys.exit(1 if failed else 0)


def every_row(suite: ModuleType, rows: list[Row]) -> list[Row]:
    """The rows of all modules of `suite`, which add them to `rows`."""
    for module in pkgutil.iter_modules(suite.__path__):
        if module.name != "__main__":
            importlib.import_module(f"{suite.__name__}.{module.name}")
    return rows


def _lines(rows: list[Row], seed: int, *, short: bool, at_once: int) -> Iterator[Line]:
    if at_once == 1:  # in this very thread: it outlives what the rows start
        for row in rows:
            yield from tried(row, seed, short=short)
        return
    with ThreadPoolExecutor(at_once) as pool:
        for lines in pool.map(lambda row: tried(row, seed, short=short), rows):
            yield from lines


def tried(row: Row, seed: int, *, short: bool) -> list[Line]:
    """The row, then its control, each on a directory of its own."""
    if lacking := missing(row):
        fails = os.environ.get("CI") == "true" and row.in_short
        return [(not fails, row.name, row.demand, f"not tried: no {', '.join(lacking)} here")]
    seen = _one(row.name, row.run, seed, short)
    lines = [(seen.met, row.name, row.demand, seen.figures)]
    if row.control is not None:
        control = _one(f"{row.name}, control", row.control, seed, short)
        fails = not control.met and control is not BROKE  # to break is not to show what the protection is good for
        lines.append((fails, f"  control: {row.control_is}", "must fail", control.figures))
    return lines


def _one(name: str, run: object, seed: int, short: bool) -> Seen:
    print(f"--- {name}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gridgov-row-") as directory:
        try:
            assert callable(run)
            seen = run(Setting(Path(directory), seed, short))
            assert isinstance(seen, Seen)
        except Exception:  # noqa: BLE001 - what breaks has failed, a control too, and the others go on
            traceback.print_exc()
            seen = BROKE
    print(f"    {name}: {seen.figures}  ({time.monotonic() - started:.0f} s)", flush=True)
    return seen
