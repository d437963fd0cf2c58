"""`python -m tests.bench.relay`: the processor time that a report costs the relay, thread by thread.

The relay's own parts in this process, while another fills the journal at a pace, as intake would. Kafka is real, or
(`--fake`, for a profile of the rest) a stand-in that costs nothing.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from schemas.catalogue import Catalogue
from service import app
from service import config as configuration
from service.broker.publisher import KafkaPublisher
from service.broker.topics import Cluster
from service.cases.casebook import Casebook
from service.cases.fold import CaseFold
from service.cases.rules import fingerprint, rules_of
from service.domain.meaning import Flag
from service.intake.accept import Intake
from service.intake.keys import LOCAL
from service.journal.journal import SqliteJournal
from service.metrics import relay_metrics, web_metrics
from service.ports import Delivery, Failure, Message, PauseReason, Pending, Publisher, Receipt, State, Topic
from service.relay.relay import Relay
from tests.bench.figures import table
from tests.bench.load import new_prefix
from tests.bench.machine import cpu_seconds
from tests.bench.reports import CYCLE, numbered, templates
from tests.broker import Broker, run_script
from tests.gridgov import until

LOADS: Final = {  # as `make bench` has them: reports/s, in transactions of how many
    "singles": (2_500, 20),
    "batches": (10_000, 400),
    "backlog": (1_000_000, 1_000),  # all at once
}
CATALOGUE: Final = Catalogue.load()
LIMIT: Final = 1 << 34


def messages(count: int) -> list[Message]:
    """What intake makes of the load's reports."""
    made: list[Message] = []

    class Taken:
        def submit(self, messages: Sequence[Message]) -> list[Any]:
            made.extend(messages)
            return [Receipt(m.report_id, m.case_id, m.topic, m.received_at, State.PENDING) for m in messages]

    told = web_metrics(CollectorRegistry(), routes=[], majors=[], stages=[], reasons=[], flags=list(Flag))
    intake = Intake(CATALOGUE, Taken(), told, clock=lambda: int(time.time() * 1000), accept_unknown_minor=False)
    prefix = new_prefix()
    cycle = templates(prefix)
    for n in range(count):
        intake.accept(LOCAL, [orjson.loads(numbered(cycle[n % CYCLE], n))])
    return made


def fill(directory: Path, rate: float, group: int, count: int, ready: Any, go: Any) -> None:
    """In a process of its own: append `count` messages in groups at a pace, once told to."""
    journal, made = SqliteJournal(directory, limit=LIMIT, flush=False), messages(count)
    ready.set()
    go.wait()
    began = time.monotonic()
    for at in range(0, count, group):
        time.sleep(max(0.0, began + at / rate - time.monotonic()))
        now = int(time.time() * 1000)
        journal.append([[replace(m, received_at=now) for m in made[at : at + group]]])


class NoKafka:
    """A publisher that costs nothing: all is acknowledged at once."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._delivered: list[Delivery] = []

    def send(self, message: Pending) -> None:
        self._delivered.append(Delivery(message.seq, 0, message.seq, message.received_at))

    def push(self) -> None:
        self._wake()

    def deliveries(self) -> list[Delivery]:
        told, self._delivered = self._delivered, []
        return told

    def failure(self) -> Failure | None:
        return None

    def close(self) -> None: ...


class Watch:
    """What is known of the topics: asked of a broker once, or made up."""

    reachable = True

    def __init__(self, config: configuration.Config | None) -> None:
        self.topics = {name: Topic(name, 3, 1, 1) for name in CATALOGUE.topics}
        if config is not None:
            cluster = Cluster(config)
            cluster.create(self.topics, partitions=3, replication=1)
            until(lambda: all(topic.pause is None for topic in cluster.describe(self.topics).values()), "topics")
            cluster.close()

    def pause(self, name: str) -> PauseReason | None:
        return None


class Timed(threading.Thread):
    """A thread that tells what it cost; with `profile`, also where."""

    def __init__(self, name: str, work: Any, *, profile: bool) -> None:
        super().__init__(name=name, daemon=True)
        self._work, self._profile, self.seconds = work, profile, 0.0
        self.start()

    def run(self) -> None:
        profiler = cProfile.Profile(time.thread_time) if self._profile else None
        (profiler.runcall if profiler else lambda work: work())(self._work)
        self.seconds = time.thread_time()
        if profiler:
            pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(30)


def round_of(load: str, count: int, kafka: str | None, *, profile: bool) -> tuple[dict[str, float], float]:
    """Microseconds of processor time a report, by thread; reports/s from the first accepted to the last done with."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        ready, go = multiprocessing.Event(), multiprocessing.Event()
        filler = multiprocessing.Process(target=fill, args=(directory, *LOADS[load], count, ready, go))
        filler.start()
        while not ready.wait(0.1):
            assert filler.is_alive(), "it could not make its messages"
        config = configuration.load({"KAFKA_BOOTSTRAP_SERVERS": kafka}) if kafka else None
        journal = SqliteJournal(directory, limit=LIMIT, flush=False)
        rules, stop, wake = rules_of(configuration.load({}), CATALOGUE), threading.Event(), threading.Event()
        fold = CaseFold(
            journal,
            lambda: Casebook.in_files(directory, rules),
            rules,
            fingerprint(CATALOGUE, rules),
            clock=lambda: int(time.time() * 1000),
            strip_after_ms=10**12,
        )
        fold.open()

        def connect() -> Publisher:
            return KafkaPublisher(config, journal_id=journal.journal_id, wake=wake.set) if config else NoKafka(wake.set)

        relay = Relay(
            journal,
            connect,
            Watch(config),
            relay_metrics(CollectorRegistry(), CATALOGUE.topics),
            topics=CATALOGUE.topics,
            window=configuration.load({}).relay_window,
            wake=wake,
            clock=time,
            folded=lambda: fold.folded,
            handed=fold.look,
        )
        began = time.process_time()
        threads = [
            Timed("relay", lambda: relay.run(stop, lambda: None), profile=profile),
            Timed("fold", lambda: fold.run(stop), profile=profile),
        ]
        time.sleep(0.5)
        go.set()
        started = time.perf_counter()
        filler.join()
        until(lambda: journal.totals().pending == 0 and fold.folded == journal.marks()[0], "all done", every=0.05)
        took = time.perf_counter() - started
        stop.set()
        for thread in threads:
            thread.join()
        cost = {thread.name: thread.seconds for thread in threads}
        cost["others"] = time.process_time() - began - sum(cost.values())
        return {name: seconds / count * 1e6 for name, seconds in cost.items()}, count / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--load", choices=LOADS, action="append", default=[])
    parser.add_argument("--fake", action="store_true", help="without Kafka")
    parser.add_argument("--profile", action="store_true", help="print where the time goes; all figures are higher then")
    chosen = parser.parse_args()
    app._take_turns()  # as the relay does
    app._collect_seldom()
    broker = None
    with tempfile.TemporaryDirectory() as scratch:
        if not chosen.fake:
            run_script("prepare")
            broker = Broker(Path(scratch) / "kafka")
            broker.start()
        try:
            rows = []
            for load in (chosen.load or list(LOADS)) * chosen.rounds:
                before = cpu_seconds([broker.pid]) if broker else 0.0
                cost, rate = round_of(
                    load, chosen.reports, broker.bootstrap if broker else None, profile=chosen.profile
                )
                spent = cpu_seconds([broker.pid]) - before if broker else 0.0
                figures = (*cost.values(), sum(cost.values()), spent / chosen.reports * 1e6)
                rows.append([load, *(f"{us:.1f}" for us in figures), f"{rate:,.0f}"])
        finally:
            if broker:
                broker.kill()
    print(table(["CPU µs a report", "relay", "fold", "client", "all", "broker", "reports/s"], rows))


if __name__ == "__main__":
    main()
