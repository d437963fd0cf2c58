"""Rows about Kafka: away for long, some of its brokers gone."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.bench.load import Shape, drive, requests
from tests.bench.reports import reports
from tests.broker import Broker, free_port, run_script
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import MOST_BUSY, WATCH_SECONDS, Kept, Trial, age, cpu_seconds, flowing, relay_sample, trial
from tests.gridgov import Gridgov, peak_memory, until
from tests.system.clients import EVERY_TOPIC

# ---- a long outage ----

CALM_SECONDS = 10.0
RATE, MOST_MEMORY = 2000, 300  # messages a second at least, MiB at most
DRAINED = 100  # pending: what clients that go on posting keep on the way


def backlog(setting: Setting, window: str = "100") -> Seen:
    """Kafka is away while a backlog gathers; a few clients go on posting while it drains."""
    count = 20_000 if setting.short or window == "1" else 200_000
    kafka = Broker(setting.directory / "kafka")
    with trial(setting, kafka, GRIDGOV_RELAY_WINDOW=window) as one, Kept(one.gridgov, "web", "relay") as processes:
        flowing(one.gridgov)
        before = _calm(one, "before")
        kafka.stop()
        _fill(one, count)
        idle = cpu_seconds(processes.pid("relay"))
        time.sleep(5)
        busy = (cpu_seconds(processes.pid("relay")) - idle) / 5
        with one.clients("d", threads=4, pace=0.02) as meanwhile, _pending(one.gridgov) as pending:
            kafka.start()
            until(lambda: pending and pending[-1][0] < DRAINED, "the backlog is gone", seconds=500)
            end = pending[-1][1]
            most, begin = max(pending)
            p99_draining = one.ledger.p99(begin, end)
        p99 = (before + _calm(one, "after")) / 2  # the machine is not the same from one minute to the next
        memory = peak_memory(processes.pid("relay")) / (1 << 20)
        found = one.judged(breaks=1, window=int(window))
    rate = most / (end - begin)
    told = (
        f"{rate:.0f}/s, relay {memory:.0f} MiB, {busy:.0%} of a core while it waits;"
        f" p99 {p99 * 1000:.1f} ms calm, {p99_draining * 1000:.1f} ms draining"
    )
    met = rate >= RATE and memory < MOST_MEMORY and busy < MOST_BUSY and p99_draining < 2 * p99
    met = met and meanwhile.told.keys() == {"accepted"}
    return Seen(found.met and met, f"{told}; {found.figures}")


def _calm(one: Trial, name: str) -> float:
    """The p99 of a few clients while nothing else goes on, in seconds."""
    with one.clients(name, threads=4, pace=0.02) as clients:
        begin = time.monotonic()
        time.sleep(CALM_SECONDS)
        p99 = one.ledger.p99(begin, time.monotonic())
    assert clients.told.keys() == {"accepted"}, clients.told
    return p99


def _fill(one: Trial, count: int) -> None:
    """Post `count` reports in batches, and write down what was promised."""
    prefix, shape = f"{one.prefix}-b", Shape("/v1/reports/batch", begin="[", end="]")
    ids = []
    for body in reports(prefix, count):
        report = orjson.loads(body)
        one.ledger.sent(report)
        ids.append(report["report_id"])
    result = drive(one.gridgov.port, requests(shape, 100, prefix, count), connections=4)
    assert result.statuses == {202: count // 100}, result.statuses  # of a batch: every one was accepted
    for report_id in ids:
        one.ledger.accepted({"report_id": report_id})


@contextmanager
def _pending(gridgov: Gridgov) -> Iterator[list[tuple[float, float]]]:
    """How many messages are pending, with the time (monotonic), looked at twice a second while we are in here.

    Not more often: the scrape of the metrics is work of the very process whose answers are timed.
    """
    seen: list[tuple[float, float]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            seen.append((gridgov.metrics()["gridgov_journal_pending_messages"], time.monotonic()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


# ---- three brokers ----

CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
AWAY_SECONDS = 20.0  # how long the one that was killed is left away


class Node(Broker):
    """One of several, broker or (number 0) controller. It answers once the others do too: `start` does not wait."""

    def __init__(self, data_dir: Path, number: int, controller: str, settings: Mapping[str, str]) -> None:
        super().__init__(data_dir, heap="384m")
        self._number = number
        listeners = f"PLAINTEXT://{self.bootstrap}" if number else f"CONTROLLER://{controller}"
        self._settings = {
            "process.roles": "broker" if number else "controller",
            "listeners": listeners,
            "advertised.listeners": listeners,
            "controller.quorum.voters": f"0@{controller}",
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "min.insync.replicas": "2",
            **settings,
        }

    def wipe(self, *, renamed: bool = True) -> None:
        """Destroy what its disk holds; it must have been killed. `renamed`: Kafka is to take it for another disk."""
        data = self.data_dir / "data"
        label = (data / "meta.properties").read_bytes()
        shutil.rmtree(data)
        if not renamed:
            data.mkdir()
            (data / "meta.properties").write_bytes(label)

    def _command(self) -> list[str]:
        alone = f"{self._number}@127.0.0.1:{self._controller_port}"  # asked for; the setting above is what counts
        many = ["--node-id", str(self._number), "--voters", alone, "--cluster-id", CLUSTER_ID]
        command = super()._command()
        at = command.index("--controller-port")
        return [*command[:at], *command[at + 2 :], *many]

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        pass


class Three:
    """Three brokers below one controller that nobody breaks: the loss of two must not be the loss of the quorum."""

    def __init__(self, directory: Path, **settings: str) -> None:
        controller = f"127.0.0.1:{free_port()}"
        self._nodes = [Node(directory / f"kafka-{number}", number, controller, settings) for number in range(4)]
        self.brokers = self._nodes[1:]
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        """Start what does not run, and wait for all."""
        for node in self._nodes:
            node.start()
        waited = run_script("wait", "--port", str(self.brokers[0].port), "--brokers", "3", "--timeout", "120")
        assert waited.returncode == 0, waited.stderr

    def kill(self) -> None:
        """Kill them all."""
        for node in self._nodes:
            node.kill()

    def shows(self, wanted: Callable[[dict[str, Any]], bool]) -> bool:
        """Whether every partition of our topics is as wanted, as far as the cluster answers."""
        parts = self.partitions()
        return bool(parts) and all(map(wanted, parts))

    def partitions(self) -> list[dict[str, Any]]:
        """Every partition of our topics as the cluster tells it now; none while it does not answer."""
        try:
            with closing(KafkaAdminClient(bootstrap_servers=self.bootstrap)) as admin:
                names = [name for name in admin.list_topics() if name.startswith("gridgov.")]
                return [part for topic in admin.describe_topics(names) for part in topic["partitions"]]
        except KafkaError:
            return []


def one_of_three(setting: Setting, replication: str = "3") -> Seen:
    """A broker is killed under load and loses its disk; later it comes back empty.

    With the only replica its disk keeps its name: of another disk Kafka may lead nothing, and what is gone never shows.
    """
    kafka = Three(setting.directory, **{"min.insync.replicas": "2" if replication == "3" else "1"})
    with trial(setting, kafka, GRIDGOV_TOPIC_REPLICATION=replication) as one, Kept(one.gridgov, "web", "relay"):
        flowing(one.gridgov)
        with one.clients(threads=8, pace=0.02) as clients:
            until(lambda: clients.answered >= 300, "posts flow")
            led = sum(part["leader_id"] == 1 for part in kafka.partitions())
            kafka.brokers[0].kill()
            kafka.brokers[0].wipe(renamed=replication == "3")
            recovered = _last_old(one.gridgov, AWAY_SECONDS)
            kafka.start()
            until(lambda: kafka.shows(_whole(int(replication))), "it has caught up", seconds=60)
            flowing(one.gridgov)
        found = one.judged(breaks=1)
    met = led > 0 and recovered < AWAY_SECONDS / 2 and clients.told.keys() == {"accepted"}
    told = f"led {led} partitions; age ≥ 1 s for the last time after {recovered:.1f} of {AWAY_SECONDS:.0f} s"
    return Seen(found.met and met, f"{told}; {found.figures}")


def two_of_three(setting: Setting, minimum: int = 2) -> Seen:
    """Two brokers are killed, then under load the last one with its disk: it alone must not have been believed.

    Whoever comes back may lead (unclean election), or nothing could show what the last one had taken alone. So the two
    are killed while nothing is on its way: else one of them may lack what Kafka acknowledged with the other.
    """
    kafka = Three(setting.directory, **{"min.insync.replicas": str(minimum), "unclean.leader.election.enable": "true"})
    last, *others = kafka.brokers
    with trial(setting, kafka, GRIDGOV_TOPIC_REPLICATION="3") as one, Kept(one.gridgov, "web", "relay"):
        flowing(one.gridgov)
        with one.clients("before", threads=8, pace=0.02) as before:
            until(lambda: before.answered >= 300, "posts flow")
        one.gridgov.settled()
        for broker in others:
            broker.kill()
        with one.clients(threads=8, pace=0.02) as clients:
            until(lambda: kafka.shows(lambda part: part["isr_nodes"] == [1]), "two are gone", seconds=30)
            time.sleep(WATCH_SECONDS)
            paused = sum("topic_too_few_replicas" in why for why in one.gridgov.get("/readyz")[1]["reasons"])
            delivered, alone = relay_sample(one.gridgov, "gridgov_kafka_publishes_total"), clients.answered
            until(lambda: clients.answered >= alone + 300, "posts flow")
            taken = relay_sample(one.gridgov, "gridgov_kafka_publishes_total") - delivered
            last.kill()
            last.wipe()
            kafka.start()
            until(lambda: kafka.shows(_whole(3)), "all have caught up", seconds=60)
            flowing(one.gridgov)
        found = one.judged(breaks=3)
    told = f"{paused} topics paused, {taken:.0f} acknowledged by one alone, {sum(clients.told.values())} posts"
    met = paused == len(EVERY_TOPIC) and clients.told.keys() == {"accepted"}
    return Seen(found.met and met, f"{told}; {found.figures}")


def _last_old(gridgov: Gridgov, seconds: float) -> float:
    """For so long look at the oldest pending message; after how many seconds it was a second old for the last time."""
    begin, last = time.monotonic(), 0.0
    while (now := time.monotonic() - begin) < seconds:
        last = now if age(gridgov) >= 1 else last
        time.sleep(0.05)
    return last


def _whole(replicas: int) -> Callable[[dict[str, Any]], bool]:
    return lambda part: part["leader_id"] > 0 and len(part["isr_nodes"]) == replicas


ROWS += [
    Row(
        "long outage, then Kafka is back",
        "≥ 2,000/s, relay < 300 MB, p99 < 2x calm, 0 lost",
        backlog,
        partial(backlog, window="1"),
        "a window of one",
    ),
    Row(
        "one of three brokers dies with its disk",
        f"202, flows again within {AWAY_SECONDS / 2:.0f} s without it, 0 lost",
        one_of_three,
        partial(one_of_three, replication="1"),
        "one replica",
    ),
    Row(
        "two of three brokers die, then the last's disk",
        "202, every topic pauses, 0 lost",
        two_of_three,
        partial(two_of_three, minimum=1),
        "min.insync.replicas of one",
    ),
]
