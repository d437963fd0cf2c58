"""`make newcomer`: how long it takes whoever sees gridgov for the first time until figures move before his eyes.

python -m tests.bench.newcomer [--warm]     exit code 1 when it takes longer than it should

A fresh clone of this checkout's last commit, `make demo` in it, and a headless browser. Kafka's jars and Debian's
packages are there already; the packages of pip and npm are fetched as by somebody who has none of them (`--warm`: as by
somebody who has). Ctrl-C ends the demo, and the clone goes with it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from tests.bench.figures import table
from tests.broker import run_script
from tests.demo import Demo, shown
from tests.gridgov import until
from tests.system.chromium import visit

ROOT = Path(__file__).parents[2]
MOST: Final = 120.0  # seconds from the clone to the first figure that moves
PATIENCE: Final = 900.0
COLD: Final = {"PIP_NO_CACHE_DIR": "1"}
FIGURE: Final = "未结"  # how many cases are open


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm", action="store_true", help="with the caches of pip and npm that this user has")
    chosen = parser.parse_args()
    run_script("prepare")  # the jars
    with tempfile.TemporaryDirectory(prefix="gridgov-newcomer-") as directory:
        scratch = Path(directory)
        env = {} if chosen.warm else COLD | {"npm_config_cache": str(scratch / "npm")}
        begun = time.monotonic()
        subprocess.run(["git", "clone", "-q", ROOT, scratch / "gridgov"], check=True)
        cloned = time.monotonic() - begun
        with ThreadPoolExecutor() as pool, _demo(scratch, env) as demo:  # who watches ends when the demo does
            times = {"the clone": cloned} | _watched(pool, demo, scratch, begun)
    print(table(["since `git clone`", "s"], ([what, f"{took:.0f}"] for what, took in times.items())))
    good = max(times.values()) <= MOST
    print(f"\n{'met' if good else 'missed'}: figures move within {MOST:.0f} s of the clone")
    return 0 if good else 1


@contextmanager
def _demo(scratch: Path, env: dict[str, str]) -> Iterator[Demo]:
    """`make demo` as typed into a terminal, and Ctrl-C in the end, which must leave nothing."""
    demo, log = Demo(scratch / "gridgov"), scratch / "log"
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of the `make` that has started us
        os.environ.pop(name, None)
    demo.start(["make", "demo"], log, env)
    try:
        yield demo
    finally:
        print(log.read_text(encoding="utf-8"), file=sys.stderr)
        with suppress(ProcessLookupError):
            os.killpg(demo.process.pid, signal.SIGINT)
        demo.process.wait(60)
        until(lambda: not demo.family(), "nothing of it is left", seconds=60)


def _watched(pool: ThreadPoolExecutor, demo: Demo, scratch: Path, begun: float) -> dict[str, float]:
    """How long after `begun` each thing was there, in the order in which they usually come."""
    things: dict[str, Callable[[], object]] = {
        "the virtual environment": (demo.checkout / ".venv" / ".done").exists,
        "the guide": (demo.checkout / "service" / "docs" / "site" / ".done").exists,
        "the first report is accepted": lambda: demo.figure('sum(gridgov_reports_total{result="accepted"})'),
        "the first report in Kafka": lambda: _first_record(demo),
        "the page is built": demo.is_drawn,
    }

    def reached(check: Callable[[], object], what: str) -> float:
        until(lambda: demo.process.poll() is not None or check(), what, seconds=PATIENCE, every=0.1)
        if demo.process.poll() is not None:
            raise SystemExit("`make demo` has ended by itself")
        return time.monotonic() - begun

    waits = {what: pool.submit(reached, check, what) for what, check in things.items()}
    found = {what: wait.result() for what, wait in waits.items()}
    first = until(lambda: _seen(demo, scratch), "a figure in the browser", seconds=PATIENCE)
    found["the first figure in the browser"] = time.monotonic() - begun
    until(lambda: _seen(demo, scratch) not in (None, first), "it moves there", seconds=PATIENCE)
    return found | {"it has moved there": time.monotonic() - begun}


def _first_record(demo: Demo) -> bool:
    """Whether Kafka hands out a record to somebody who asks for all there are."""
    settings: dict[str, Any] = {"bootstrap_servers": demo.kafka, "auto_offset_reset": "earliest"}
    try:
        with_all: Any = KafkaConsumer(**settings, consumer_timeout_ms=2000, bootstrap_timeout_ms=2000)
    except KafkaError:
        return False
    try:
        with_all.subscribe(pattern=r"^gridgov\.")
        return next(with_all, None) is not None
    except KafkaError:
        return False
    finally:
        with_all.close()


def _seen(demo: Demo, scratch: Path) -> str | None:
    """The figure as a browser that opens the page has it."""
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as profile:
        return shown(visit(f"{demo.page}/d/gridgov-wall", Path(profile), budget=6000).dom, FIGURE)


if __name__ == "__main__":
    sys.exit(main())
