"""Rows about Kafka: frozen, away for long, some of its brokers gone, one of its topics forbidden."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
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
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka.errors import KafkaError

from tests.bench.load import drive, reports, request
from tests.broker import Broker, free_port, run_script
from tests.faults.launcher import sabotage
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Kept, Trial, age, cpu_seconds, flowing, relay_sample, trial
from tests.gridgov import Gridgov, until
from tests.system.clients import EVERY_TOPIC, Clients
from tests.system.test_outages import lags

# ---- the broker frozen ----


MOST_BUSY = 0.4  # of a core, for a relay that can do nothing but wait
WATCH_SECONDS = 5.0  # after so long the relay has surely looked at the topics again


def frozen(setting: Setting, rounds: int = 3, **sabotaged: str) -> Seen:
    """SIGSTOP: connections stay, nobody answers. Calm and trouble in turn; the medians of their p99s are compared."""
    seconds = 5.0 if setting.short or sabotaged else 20.0
    kafka = Broker(setting.directory / "kafka")
    with trial(setting, kafka, **sabotaged) as one, Kept(one.gridgov, "web", "relay") as processes:
        flowing(one.gridgov)
        with one.clients(threads=4, pace=0.02) as clients:
            until(lambda: clients.answered >= 100, "posts flow")
            seen = [_freeze(one, kafka, processes.pid("relay"), seconds) for _ in range(rounds)]
        found = one.judged(breaks=rounds)
    calm, trouble, busy, caught_up = map(statistics.median, zip(*seen, strict=True))
    met = trouble < max(2 * calm, calm + 0.01) and caught_up < 10 and busy < MOST_BUSY
    told = (
        f"p99 {calm * 1000:.1f} ms calm, {trouble * 1000:.1f} ms frozen; the relay then takes {busy:.0%} of a core;"
        f" age < 1 s after {caught_up:.1f} s"
    )
    return Seen(found.met and met and clients.told.keys() == {"accepted"}, f"{told}; {found.figures}")


def _freeze(one: Trial, kafka: Broker, relay: int, seconds: float) -> tuple[float, float, float, float]:
    """The p99s of so long a calm and so long a trouble, the relay's share of a core, seconds to catch up."""
    calm = time.monotonic()
    time.sleep(seconds)
    begin, spent = time.monotonic(), cpu_seconds(relay)
    with stopped(kafka):
        time.sleep(seconds)
        end = time.monotonic()
        busy = (cpu_seconds(relay) - spent) / (end - begin)
        p99s = (one.ledger.p99(calm, begin), one.ledger.p99(begin, end))
    until(lambda: age(one.gridgov) < 1, "the backlog is gone", seconds=60)
    return *p99s, busy, time.monotonic() - end


@contextmanager
def stopped(kafka: Broker) -> Iterator[None]:
    """The broker does not run while we are in here."""
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka.pid, signal.SIGCONT)


# ---- a long outage ----

CALM_SECONDS = 10.0
RATE, MOST_MEMORY = 2000, 300  # messages a second at least, MiB at most


def backlog(setting: Setting, window: str = "100") -> Seen:
    """Kafka is away while a backlog gathers; a few clients go on posting while it drains."""
    count = 20_000 if setting.short or window == "1" else 200_000
    kafka = Broker(setting.directory / "kafka")
    with trial(setting, kafka, GRIDGOV_RELAY_WINDOW=window) as one, Kept(one.gridgov, "web", "relay") as processes:
        flowing(one.gridgov)
        with one.clients(threads=4, pace=0.02) as before:
            calm = time.monotonic()
            time.sleep(CALM_SECONDS)
            p99 = one.ledger.p99(calm, time.monotonic())
        kafka.stop()
        _fill(one, count)
        idle = cpu_seconds(processes.pid("relay"))
        time.sleep(5)
        busy = (cpu_seconds(processes.pid("relay")) - idle) / 5
        with one.clients("d", threads=4, pace=0.02) as meanwhile, _pending(one.gridgov) as pending:
            kafka.start()
            until(lambda: age(one.gridgov) < 1, "the backlog is gone", seconds=500)
            end = time.monotonic()
            most, begin = max((waiting, at) for at, waiting in pending)
            p99_draining = one.ledger.p99(begin, end)
        memory = _peak_memory(processes.pid("relay"))
        found = one.judged(breaks=1, window=int(window))
    rate = most / (end - begin)
    told = (
        f"{rate:.0f}/s, relay {memory:.0f} MiB, {busy:.0%} of a core while it waits;"
        f" p99 {p99 * 1000:.1f} ms calm, {p99_draining * 1000:.1f} ms draining"
    )
    accepted = (before.told + meanwhile.told).keys() == {"accepted"}
    met = rate >= RATE and memory < MOST_MEMORY and busy < MOST_BUSY and p99_draining < 2 * p99 and accepted
    return Seen(found.met and met, f"{told}; {found.figures}")


def _fill(one: Trial, count: int) -> None:
    """Post `count` reports in batches, and write down what was promised."""
    bodies = list(reports(f"{one.prefix}-b", count))
    for body in bodies:
        one.ledger.sent(orjson.loads(body))
    groups = [b"\n".join(bodies[at : at + 100]) for at in range(0, count, 100)]
    requests = [request("/v1/reports/batch", group, "application/x-ndjson") for group in groups]
    result = drive(one.gridgov.port, requests, connections=4)
    assert result.statuses == {202: len(groups)}, result.statuses  # of a batch: every one was accepted
    for number in range(count):
        one.ledger.accepted({"report_id": f"{one.prefix}-b-{number}"})


@contextmanager
def _pending(gridgov: Gridgov) -> Iterator[list[tuple[float, float]]]:
    """How many messages are pending, with the time (monotonic), looked at ten times a second while we are in here."""
    seen: list[tuple[float, float]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            seen.append((time.monotonic(), gridgov.metrics()["gridgov_journal_pending_messages"]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _peak_memory(pid: int) -> float:
    """The most that a process ever had in memory, in MiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


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

    def wipe(self) -> None:
        """Destroy its disk; it must have been killed."""
        shutil.rmtree(self.data_dir / "data")

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
    """A broker is killed under load and loses its disk; later it comes back empty."""
    kafka = Three(setting.directory, **{"min.insync.replicas": "2" if replication == "3" else "1"})
    with trial(setting, kafka, GRIDGOV_TOPIC_REPLICATION=replication) as one, Kept(one.gridgov, "web", "relay"):
        flowing(one.gridgov)
        with one.clients(threads=8, pace=0.02) as clients:
            until(lambda: clients.answered >= 300, "posts flow")
            led = sum(part["leader_id"] == 1 for part in kafka.partitions())
            kafka.brokers[0].kill()
            kafka.brokers[0].wipe()
            recovered = _last_old(one.gridgov, AWAY_SECONDS)
            kafka.start()
            until(lambda: kafka.shows(_whole(int(replication))), "it has caught up", seconds=120)
            flowing(one.gridgov)
        found = one.judged(breaks=1)
    met = led > 0 and recovered < AWAY_SECONDS / 2 and clients.told.keys() == {"accepted"}
    told = f"led {led} partitions; age ≥ 1 s for the last time after {recovered:.1f} of {AWAY_SECONDS:.0f} s"
    return Seen(found.met and met, f"{told}; {found.figures}")


def two_of_three(setting: Setting, minimum: int = 2) -> Seen:
    """Two brokers are killed under load, then the last one with its disk: it alone must not have been believed.

    Whoever comes back may lead (unclean election), or nothing could show what the last one had taken alone.
    """
    kafka = Three(setting.directory, **{"min.insync.replicas": str(minimum), "unclean.leader.election.enable": "true"})
    last, *others = kafka.brokers
    with trial(setting, kafka, GRIDGOV_TOPIC_REPLICATION="3") as one, Kept(one.gridgov, "web", "relay"):
        flowing(one.gridgov)
        with one.clients(threads=8, pace=0.02) as clients:
            until(lambda: clients.answered >= 300, "posts flow")
            for broker in others:
                broker.kill()
            until(lambda: kafka.shows(lambda part: part["isr_nodes"] == [1]), "two are gone", seconds=30)
            time.sleep(WATCH_SECONDS)
            paused = sum("topic_too_few_replicas" in why for why in one.gridgov.get("/readyz")[1]["reasons"])
            delivered, alone = relay_sample(one.gridgov, "gridgov_kafka_publishes_total"), clients.answered
            until(lambda: clients.answered >= alone + 300, "posts flow")
            taken = relay_sample(one.gridgov, "gridgov_kafka_publishes_total") - delivered
            last.kill()
            last.wipe()
            kafka.start()
            until(lambda: kafka.shows(_whole(3)), "all have caught up", seconds=120)
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


# ---- a forbidden topic ----

SICK = ("repair", "0499")
SICK_TOPIC = "gridgov.repair.greenery"
OTHERS = [place for place in EVERY_TOPIC if place != SICK]
OURS, THEIRS = "User:ANONYMOUS", "User:somebody-else"


def forbidden_topic(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """The right to a topic is taken away, then only the right to write to it; in between and after it is given back."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    kafka = Broker(setting.directory / "kafka", settings=settings)
    ours, unwritable = _rule(OURS), _rule(OURS, ACLOperation.WRITE, ACLPermissionType.DENY)
    with trial(setting, kafka) as one, Kept(one.gridgov, "web", "relay", broken=broken):
        flowing(one.gridgov)
        with (
            closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as admin,
            one.clients("healthy", threads=4, pace=0.02, where=OTHERS) as healthy,
            one.clients("sick", threads=2, pace=0.02, where=[SICK]) as sick,
        ):
            admin.create_acls([ours, _rule(THEIRS)])  # with a rule for anybody, who has none is refused
            until(lambda: sick.answered >= 50 and healthy.answered >= 200, "posts flow")
            calm, begin = time.time() - 3, time.time()
            admin.delete_acls([ours])
            waited = [_refused_for_a_while(one, sick)]
            admin.create_acls([ours])
            until(lambda: age(one.gridgov) < 1, "it flows again", seconds=60)
            flowing(one.gridgov)
            admin.create_acls([unwritable])
            waited.append(_refused_for_a_while(one, sick))
            end = time.time()
            admin.delete_acls([unwritable])
            until(lambda: age(one.gridgov) < 1, "it flows again", seconds=60)
        found = one.judged(breaks=20)
        receipts = {name: one.gridgov.get(f"/v1/reports/{name}")[1] for name in one.ledger.read()[1]}
    before, trouble = (
        max(lags(receipts, *span, lambda topic: topic != SICK_TOPIC)) for span in ((calm, begin), (begin, end))
    )
    accepted = (healthy.told + sick.told).keys() == {"accepted"}
    told = all(word for _, word in waited)
    met = accepted and told and min(waiting for waiting, _ in waited) > 0 and trouble - before < 1
    figures = (
        f"{' and '.join(str(waiting) for waiting, _ in waited)} waited, told {told}; the others took at most"
        f" {before:.2f} s in the calm, {trouble:.2f} s meanwhile; {found.figures}"
    )
    return Seen(found.met and met, figures)


def _rule(
    principal: str,
    operation: ACLOperation = ACLOperation.ALL,
    permission: ACLPermissionType = ACLPermissionType.ALLOW,
) -> ACL:
    return ACL(principal, "*", operation, permission, ResourcePattern(ResourceType.TOPIC, SICK_TOPIC))


def _refused_for_a_while(one: Trial, sick: Clients) -> tuple[int, bool]:
    """How many reports of the forbidden topic wait when 200 more of them were accepted, and whether that is told."""
    before = sick.answered
    time.sleep(WATCH_SECONDS)
    until(lambda: sick.answered >= before + 200, "they are accepted", seconds=60)
    told = f"topic_unauthorised:{SICK_TOPIC}" in one.gridgov.get("/readyz")[1]["reasons"]
    return int(one.gridgov.status()["pending"]), told


ROWS += [
    Row(
        "broker frozen",
        "p99 < 2x calm or +10 ms; age < 1 s within 10 s after; in order",
        frozen,
        lambda setting: frozen(setting, rounds=1, **sabotage(answers_after_kafka={})),
        "the answer waits for Kafka",
    ),
    Row(
        "long outage, then Kafka is back",
        "≥ 2,000/s, relay < 300 MB, p99 < 2x calm, 0 lost",
        backlog,
        partial(backlog, window="1"),
        "a window of one",
    ),
    Row(
        "forbidden topic",
        "202; it waits and is told; the others' lag < 1 s more",
        forbidden_topic,
        partial(forbidden_topic, broken={"relay": "lanes"}),
        "one line for all topics",
    ),
    Row(
        "one of three brokers dies with its disk",
        f"202, flows again within {AWAY_SECONDS / 2:.0f} s without it, 0 lost",
        one_of_three,
        partial(one_of_three, replication="1"),
        "one replica",
        in_short=False,
    ),
    Row(
        "two of three brokers die, then the last's disk",
        "202, every topic pauses, 0 lost",
        two_of_three,
        partial(two_of_three, minimum=1),
        "min.insync.replicas of one",
        in_short=False,
    ),
]
