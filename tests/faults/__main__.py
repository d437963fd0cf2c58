"""`make faults`: tries every fault with its negative control, and ends with a table of demand and result.

python -m tests.faults [--short] [--only REGEX] [--seed N]     exit code 1 when anything is not as demanded
"""

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
from pathlib import Path

import tests.faults
from tests.faults.rows import ROWS, Row, Seen, Setting, missing

NOT_ROWS = ("rows", "__main__")
BROKE = Seen(met=False, figures="broke: see above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the cheap rows, small numbers: what CI runs")
    parser.add_argument("--only", default="", help="rows whose name this regular expression finds")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = parser.parse_args()
    rows = [row for row in every_row() if re.search(chosen.only, row.name) and (row.in_short or not chosen.short)]
    print(f"seed {chosen.seed}, {len(rows)} rows", flush=True)
    started = time.monotonic()
    lines = [line for row in rows for line in tried(row, chosen.seed, short=chosen.short)]
    print(f"\n{'':4} {'fault':44} {'demand':52} result")
    for good, name, demand, result in lines:
        print(f"{'ok' if good else 'FAIL':4} {name:44} {demand:52} {result}")
    failed = sum(not good for good, *_ in lines)
    print(f"\n{len(lines) - failed} passed, {failed} failed")
    print(f"in {time.monotonic() - started:.0f} s, seed {chosen.seed}")
    sys.exit(1 if failed else 0)


def every_row() -> list[Row]:
    """The rows of all modules."""
    for module in pkgutil.iter_modules(tests.faults.__path__):
        if module.name not in NOT_ROWS:
            importlib.import_module(f"tests.faults.{module.name}")
    return ROWS


def tried(row: Row, seed: int, *, short: bool) -> list[tuple[bool, str, str, str]]:
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
    with tempfile.TemporaryDirectory(prefix="gridgov-faults-") as directory:
        try:
            assert callable(run)
            seen = run(Setting(Path(directory), seed, short))
            assert isinstance(seen, Seen)
        except Exception:  # noqa: BLE001 - what breaks has failed, a control too, and the others go on
            traceback.print_exc()
            seen = BROKE
    print(f"    {seen.figures}  ({time.monotonic() - started:.0f} s)", flush=True)
    return seen


if __name__ == "__main__":
    main()
