"""`make bench`: how fast reports are accepted and published, singly and in batches, on this machine, all in one run.

Everything real: processes, disk, Kafka. Several rounds in turn (A B A B …), medians and the ratio told; the load
generator, the service and the broker share the machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.load import Result, drive, reports, request
from tests.broker import Broker, run_script
from tests.gridgov import Gridgov, running, until

SINGLE_CONNECTIONS = (1, 32)
BATCH = 100


def singles(gridgov: Gridgov, prefix: str, count: int, connections: int) -> Result:
    return drive(
        gridgov.port,
        [request("/v1/reports", body) for body in reports(prefix, count)],
        connections=connections,
    )


def batches(gridgov: Gridgov, prefix: str, count: int, connections: int) -> Result:
    bodies = list(reports(prefix, count))
    groups = [b"\n".join(bodies[at : at + BATCH]) for at in range(0, count, BATCH)]
    return drive(
        gridgov.port,
        [request("/v1/reports/batch", group, "application/x-ndjson") for group in groups],
        connections=connections,
    )


def drained(gridgov: Gridgov) -> float:
    """Seconds until nothing is pending."""
    started = time.perf_counter()
    until(lambda: gridgov.metrics()["gridgov_journal_pending_messages"] == 0, "drained", seconds=300)
    return time.perf_counter() - started


def measure(name: str, run: Callable[[str], Result], gridgov: Gridgov, count: int, rounds: int) -> None:
    accepted, published, p50, p99 = [], [], [], []
    for _ in range(rounds):
        result = run(f"b{time.time_ns()}")
        assert set(result.statuses) == {202}, result.statuses
        rest = drained(gridgov)
        accepted.append(count / result.seconds)
        published.append(count / (result.seconds + rest))
        p50.append(result.quantile(0.5))
        p99.append(result.quantile(0.99))
    print(
        f"{name:28} accepted {statistics.median(accepted):8.0f}/s   accepted and published"
        f" {statistics.median(published):8.0f}/s   p50 {statistics.median(p50) * 1000:6.1f} ms"
        f"   p99 {statistics.median(p99) * 1000:6.1f} ms   (median of {rounds}, {count} reports each)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=3000)
    parser.add_argument("--batched", type=int, default=20000)
    chosen = parser.parse_args()
    run_script("prepare")
    with tempfile.TemporaryDirectory() as scratch:
        broker = Broker(Path(scratch) / "kafka")
        broker.start()
        try:
            with running(Gridgov(Path(scratch) / "var", broker.bootstrap)) as gridgov:
                gridgov.post({"report_id": "warm"})
                until(lambda: gridgov.metrics(gridgov.relay_metrics)["gridgov_kafka_connected"] == 1, "Kafka")
                singles(gridgov, "warm", 500, 8)
                drained(gridgov)
                for connections in SINGLE_CONNECTIONS:
                    measure(
                        f"single, {connections} connections",
                        lambda prefix, c=connections: singles(gridgov, prefix, chosen.singles, c),  # type: ignore[misc]
                        gridgov,
                        chosen.singles,
                        chosen.rounds,
                    )
                measure(
                    f"batches of {BATCH}, 4 connections",
                    lambda prefix: batches(gridgov, prefix, chosen.batched, 4),
                    gridgov,
                    chosen.batched,
                    chosen.rounds,
                )
        finally:
            broker.kill()


if __name__ == "__main__":
    main()
