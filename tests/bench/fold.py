"""`python -m tests.bench.fold`: intake with and without the case fold, in turns, and how far the fold lags."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.bench.contestants import BATCHES, SINGLE
from tests.bench.load import BATCH, drive, requests
from tests.broker import Broker, run_script
from tests.gridgov import Gridgov, until

ROOT = Path(__file__).parents[2]


class Lag:
    """The fold's lag while something runs, asked ten times a second."""

    def __init__(self, gridgov: Gridgov) -> None:
        self._gridgov, self._stop, self.seen = gridgov, threading.Event(), [0.0]
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            self.seen.append(self._gridgov.metrics(self._gridgov.relay_metrics)["gridgov_case_fold_lag_messages"])

    def most(self) -> float:
        self._stop.set()
        self._thread.join()
        return max(self.seen)


def round_of(scratch: Path, kafka: str, number: int, *, fold: bool, chosen: argparse.Namespace) -> tuple[float, float]:
    """Singles and batched reports accepted per second on a new journal."""
    gridgov = Gridgov(scratch / f"{'with' if fold else 'without'}{number}", kafka)
    relay = [sys.executable, "-m", "tests.bench.no_fold"]
    extra = None
    try:
        gridgov.start("web")
        if fold:
            gridgov.start("relay")
        else:
            extra = subprocess.Popen(relay, env=gridgov.environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
        gridgov.ready()
        until(lambda: gridgov.metrics(gridgov.relay_metrics)["gridgov_kafka_connected"] == 1, "Kafka")
        posts = requests(SINGLE, 1, f"s{time.time_ns()}", chosen.singles)
        single = drive(gridgov.port, posts, connections=16)
        gridgov.drained()
        lag = Lag(gridgov) if fold else None
        posts = requests(BATCHES, BATCH, f"b{time.time_ns()}", chosen.batched)
        batched = drive(gridgov.port, posts, connections=4)
        if lag is not None:
            started = time.perf_counter()
            until(lambda: gridgov.metrics(gridgov.relay_metrics)["gridgov_case_fold_lag_messages"] == 0, "folded")
            print(
                f"  fold: at most {lag.most():.0f} of {chosen.batched} reports behind under full intake,"
                f" level {time.perf_counter() - started:.1f} s after the last post"
            )
        gridgov.drained()
        return chosen.singles / single.seconds, chosen.batched / batched.seconds
    finally:
        if extra is not None:
            extra.terminate()
            extra.wait(20)
        gridgov.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=2000)
    parser.add_argument("--batched", type=int, default=10000)
    chosen = parser.parse_args()
    run_script("prepare")
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(Path(directory) / "kafka")
        broker.start()
        try:
            pairs = [
                tuple(
                    round_of(Path(directory), broker.bootstrap, number, fold=fold, chosen=chosen)
                    for fold in (True, False)
                )
                for number in range(chosen.rounds)
            ]
        finally:
            broker.kill()
    for place, what in enumerate(("singles, 16 connections", "batches of 100, 4 connections")):
        with_fold = [pair[0][place] for pair in pairs]
        without = [pair[1][place] for pair in pairs]
        ratio = statistics.median(a / b for a, b in zip(with_fold, without, strict=True))
        print(
            f"{what:30} with the fold {statistics.median(with_fold):7.0f}/s"
            f"   without {statistics.median(without):7.0f}/s   ratio {ratio:.2f} (median of {chosen.rounds} pairs)"
        )


if __name__ == "__main__":
    main()
