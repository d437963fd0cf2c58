"""What happens when something breaks, shown on real processes and a real Kafka that are killed for it.

The promise is the same in every case: no 202 is missing from Kafka, each report is there once for a consumer that
follows the watermark rule, each case in order; clients need nothing but to repeat what was not answered.
Figures are logged: `pytest tests/system/test_outages.py --log-cli-level=INFO`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.broker import Broker, run_script
from tests.gridgov import Gridgov, report, running, until
from tests.system.checker import Json, Ledger, Verdict, check, read_topics
from tests.system.clients import EVERY_TOPIC, Clients, case_of
from tests.system.sick_topic import (
    OTHERS,
    ROOMY,
    SICK,
    SICK_TOPIC,
    SMALL_LIMIT,
    lags,
    milliseconds,
    post_big,
    set_limit,
    states,
)

log = logging.getLogger("outages")

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "10"))  # how long the broker is away in the first test
MOST_KILLS = 6  # until one falls into the middle of a post: most fall between two
WINDOW = 50  # GRIDGOV_RELAY_WINDOW of these tests: what one break may have sent twice, per topic


@dataclass(frozen=True)
class Trial:
    """A gridgov, the broker to break, and the book of what clients were promised; `prefix` begins every id."""

    gridgov: Gridgov
    kafka: Broker
    ledger: Ledger
    prefix: str

    def clients(self, name: str = "c", **options: Any) -> Clients:
        return Clients(self.gridgov.url, self.ledger, f"{self.prefix}-{name}", **options)

    def receipts(self) -> dict[str, Json]:
        """What the service says now of every report that it promised."""
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda one: self.gridgov.get(f"/v1/reports/{one}"), self.ledger.read()[1])
            return {body["report_id"]: body for status, body in answers if status == 200}

    def judged(self, *, breaks: int, excused: Sequence[str] = ()) -> Verdict:
        """Wait for the drain, then hold all receipts, early and late, against Kafka. `breaks` may have cost copies."""
        status = self.gridgov.settled()
        receipts = self.receipts()
        for receipt in receipts.values():
            self.ledger.accepted(receipt)
        records = read_topics(self.kafka.bootstrap, self.prefix)
        verdict = check(self.ledger, records, excused=set(excused))
        log.info("%s distinct, copies %s, %s", verdict.distinct, dict(verdict.duplicates), status)
        assert verdict.problems == []
        assert status["mismatch"] == 0
        assert receipts.keys() == self.ledger.read()[1].keys()
        assert {one["state"] for one in receipts.values()} == {"settled"}
        assert max(verdict.duplicates.values(), default=0) <= WINDOW * breaks
        return verdict


@pytest.fixture
def trial(breakable_kafka: Broker, tmp_path: Path) -> Iterator[Trial]:
    """Nothing runs yet but the broker."""
    gridgov = Gridgov(tmp_path / "var", breakable_kafka.bootstrap, {"GRIDGOV_RELAY_WINDOW": str(WINDOW)})
    yield Trial(gridgov, breakable_kafka, Ledger(tmp_path / "promised.ndjson"), f"t{uuid.uuid4().hex[:8]}")
    gridgov.stop()


@pytest.fixture
def flowing(trial: Trial) -> Trial:
    """`gridgov run`, connected to Kafka with every topic there."""
    trial.gridgov.start()
    until(lambda: readiness(trial.gridgov) == ("ready", []), "all is well", seconds=60)
    return trial


def readiness(gridgov: Gridgov) -> tuple[str, list[str]]:
    status, body = gridgov.get("/readyz")
    assert status == 200, body
    return body["status"], body["reasons"]


def accepted(gridgov: Gridgov) -> float:
    """Reports accepted by this web worker, repeats not counted."""
    samples = gridgov.metrics().items()
    return sum(value for name, value in samples if "gridgov_reports_total" in name and '"accepted"' in name)


def delivered(gridgov: Gridgov) -> float:
    """Messages that Kafka has acknowledged to this relay."""
    samples = gridgov.metrics(gridgov.relay_metrics).items()
    return sum(value for name, value in samples if "publishes_total" in name and '"delivered"' in name)


def test_a_broker_killed_during_a_replay(flowing: Trial, tmp_path: Path) -> None:
    gridgov = flowing.gridgov
    cases = [case_of(f"{flowing.prefix}-replay-{n}", *EVERY_TOPIC[n % len(EVERY_TOPIC)]) for n in range(1000)]
    reports = [
        one for block in range(0, 1000, 50) for stage in zip(*cases[block : block + 50], strict=True) for one in stage
    ]
    file = tmp_path / "reports.ndjson"
    file.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in reports))
    for one in reports:
        flowing.ledger.sent(one)

    replay = gridgov.start("replay", str(file), "--batch", "10")
    until(lambda: accepted(gridgov) >= 500 and delivered(gridgov) >= 100, "the replay is under way")
    flowing.kafka.kill()
    down = time.monotonic()
    assert replay.poll() is None, "killed too late to show anything"
    log.info("killed at %d accepted, %s", accepted(gridgov), gridgov.status())
    with flowing.clients(threads=2, pace=0.05) as clients:
        assert replay.wait(60) == 0
        assert "accepted 5000  duplicate 0  refused 0" in gridgov.log
        for one in reports:
            flowing.ledger.accepted({"report_id": one["report_id"]})
        until(lambda: "kafka_unreachable" in readiness(gridgov)[1], "the outage is told")
        until(lambda: time.monotonic() - down >= OUTAGE_SECONDS, "the outage is over", seconds=OUTAGE_SECONDS)
        assert clients.told.keys() == {"accepted"}
    waiting = gridgov.status()["pending"]
    flowing.kafka.start()
    up = time.monotonic()
    gridgov.settled()
    log.info(
        "down %.1f s, %d waited, drained %.1f s after the broker answered", up - down, waiting, time.monotonic() - up
    )
    assert waiting > 3000
    assert flowing.judged(breaks=1).distinct == 5000 + clients.answered


def test_started_without_a_broker(trial: Trial) -> None:
    trial.kafka.stop()
    with running(trial.gridgov) as gridgov:
        with trial.clients(threads=4, pace=0.01) as clients:
            until(lambda: readiness(gridgov) == ("degraded", ["kafka_unreachable"]), "the outage is told")
            until(lambda: clients.answered >= 500, "reports are accepted")
            trial.kafka.start()
            until(lambda: readiness(gridgov)[0] == "ready", "all is well")
        assert clients.told.keys() == {"accepted"}
        assert trial.judged(breaks=0).distinct == clients.answered


def repeated_give_the_first_receipt(trial: Trial) -> None:
    """Post everything promised once more, under the same ids."""
    sent, promised = trial.ledger.read()
    for report_id, (first, *_) in promised.items():
        status, receipt, _ = trial.gridgov.post(sent[report_id])
        told = ("report_id", "case_id", "topic", "received_at")
        assert (status, receipt["duplicate"]) == (202, True)
        assert {name: receipt[name] for name in told} == {name: first[name] for name in told}


@pytest.mark.parametrize("victim", ["worker", "web", "relay"])
def test_a_process_killed_in_the_middle_of_posts(flowing: Trial, victim: str) -> None:
    gridgov, kills = flowing.gridgov, 0
    with flowing.clients() as clients:
        until(lambda: clients.answered >= 300, "posts flow")
        while kills == 0 or (victim != "relay" and clients.told["broken"] == 0 and kills < MOST_KILLS):
            kill_amid(clients, gridgov, victim)
            kills += 1
    assert clients.told["broken"] > 0 or victim == "relay"
    repeated_give_the_first_receipt(flowing)
    assert flowing.judged(breaks=kills).distinct == clients.answered


def kill_amid(clients: Clients, gridgov: Gridgov, victim: str) -> None:
    """Kill it under load, and wait until all is as before."""
    pid = gridgov.child(victim)
    os.kill(pid, signal.SIGKILL)
    killed, before = time.monotonic(), clients.answered
    until(lambda: clients.answered >= before + 300, "posts flow again")
    log.info("%s: %.1f s until 300 more were answered, %s", victim, time.monotonic() - killed, clients.told)
    until(lambda: child(gridgov, victim) not in (pid, None), "it was started again")


def child(gridgov: Gridgov, name: str) -> int | None:
    """The child's pid while there is one."""
    try:
        return gridgov.child(name)
    except (AssertionError, FileNotFoundError):
        return None


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def gone(pid: int) -> bool:
    """Whether a process has ended, be it as a zombie that nobody has asked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_gridgov_run_killed_in_the_middle_of_posts(flowing: Trial) -> None:
    kills = 0
    with flowing.clients() as clients:
        until(lambda: clients.answered >= 300, "posts flow")
        while clients.told["broken"] == 0 and kills < MOST_KILLS:
            kill_all_amid(clients, flowing.gridgov)
            kills += 1
    assert clients.told["broken"] > 0
    repeated_give_the_first_receipt(flowing)
    assert flowing.judged(breaks=kills).distinct == clients.answered


def kill_all_amid(clients: Clients, gridgov: Gridgov) -> None:
    """Kill the one above all others under load: they end with it, and a new one carries on."""
    ports = (gridgov.port, gridgov.web_metrics, gridgov.relay_metrics)
    below = [gridgov.child(name) for name in ("worker", "web", "relay")]
    gridgov.processes[-1].kill()
    killed = time.monotonic()
    until(lambda: all(refused(port) for port in ports), "no orphan answers")
    log.info("run: nobody answers after %.3f s, %s", time.monotonic() - killed, clients.told)
    until(lambda: all(gone(pid) for pid in below), "no orphan is left")
    before = clients.answered
    gridgov.start()
    until(lambda: clients.answered >= before + 300, "a new one carries on")


def test_no_orphan_is_left_by_a_kill_during_the_start(trial: Trial) -> None:
    """The worst moment: the worker is forked and has not asked the kernel yet to die with its parent."""
    for _ in range(6):
        web = trial.gridgov.start("web")
        children = Path(f"/proc/{web.pid}/task/{web.pid}/children")
        end = time.monotonic() + 30
        while not (below := children.read_text().split()) and time.monotonic() < end:
            pass  # milliseconds count here
        web.kill()
        web.wait()
        until(partial(gone, int(below[0])), "no orphan is left")


def test_a_child_that_keeps_dying_ends_the_whole(trial: Trial, tmp_path: Path) -> None:
    pair = {name: Gridgov(tmp_path / name, trial.kafka.bootstrap) for name in ("web", "relay")}
    with socket.socket() as first, socket.socket() as second:
        for taken, port in ((first, pair["web"].web_metrics), (second, pair["relay"].relay_metrics)):
            taken.bind(("127.0.0.1", port))
            taken.listen()
        runs = {name: gridgov.start() for name, gridgov in pair.items()}
        for name, run in runs.items():
            assert run.wait(180) == 1
            assert f"gave up: {name} ended" in pair[name].log
    assert refused(pair["web"].relay_metrics)
    assert refused(pair["relay"].port)


def tool(trial: Trial, name: str, *arguments: str) -> None:
    """One of Kafka's own programs."""
    done = run_script(name, "--", "--bootstrap-server", trial.kafka.bootstrap, *arguments)
    assert done.returncode == 0, done.stderr


def kept_up(receipts: dict[str, Json], calm: float, begin: float, end: float) -> None:
    """Healthy topics must not wait for a sick one: of the trouble from `begin` to `end` no report took a third more
    than the slowest of the calm from `calm` on (which is what others leave us of this machine)."""
    before, trouble = (
        sorted(lags(receipts, *interval, lambda topic: topic != SICK_TOPIC))
        for interval in ((calm, begin), (begin, end))
    )
    log.info("calm: %d reports, longest %.3f s", len(before), before[-1])
    log.info("trouble: %d, median %.3f s, longest %.3f s", len(trouble), trouble[len(trouble) // 2], trouble[-1])
    assert len(trouble) > 100
    assert trouble[-1] - before[-1] < (end - begin) / 3


def test_a_deleted_topic_waits_while_the_others_flow(trial: Trial) -> None:
    trial.gridgov.env = {**trial.gridgov.env, "GRIDGOV_CREATE_TOPICS": "no"}
    until(lambda: trial.gridgov.run("topics", "--apply").returncode == 0, "every topic is there")
    gridgov = trial.gridgov
    gridgov.start()
    until(lambda: readiness(gridgov) == ("ready", []), "all is well", seconds=60)
    try:
        with (
            trial.clients("healthy", threads=4, pace=0.02, where=OTHERS) as others,
            trial.clients("sick", threads=2, pace=0.02, where=[SICK]) as sick,
        ):
            until(lambda: others.answered >= 100, "posts flow")
            calm = time.time()
            until(lambda: sick.answered >= 50 and others.answered >= 200, "posts flow")
            begin = time.time()
            tool(trial, "topics", "--delete", "--topic", SICK_TOPIC)
            until(lambda: f"topic_missing:{SICK_TOPIC}" in readiness(gridgov)[1], "the missing topic is told")
            noticed, before = time.time(), sick.answered
            until(lambda: sick.answered >= before + 200, "its reports are still accepted")
            assert gridgov.status()["pending"] >= 200
            tool(trial, "topics", "--create", "--topic", SICK_TOPIC, "--partitions", "3", "--replication-factor", "1")
            created = time.time()
            until(lambda: readiness(gridgov) == ("ready", []), "all is well again")
            end = time.time()
        gridgov.settled()
        log.info("recreated, then %.1f s until drained", time.time() - created)
    finally:
        until(lambda: gridgov.run("topics", "--apply").returncode == 0, "every topic is there")
    receipts = trial.receipts()
    gone = [
        report_id
        for report_id, one in receipts.items()
        if one["topic"] == SICK_TOPIC and milliseconds(one["settled_at"]) <= noticed * 1000
    ]
    log.info("%d reports had been acknowledged by the topic that was deleted", len(gone))
    verdict = trial.judged(breaks=2, excused=gone)
    assert verdict.distinct >= others.answered + sick.answered - len(gone)
    kept_up(receipts, calm, begin, end)


def takes_big_ones(trial: Trial) -> bool:
    """Whether a large report reaches Kafka now."""
    one = post_big(trial.gridgov, trial.ledger, trial.prefix, 1)
    until(lambda: states(trial.gridgov, one) != {("pending", None)}, "it is not pending any more")
    return states(trial.gridgov, one) == {("settled", None)}


@pytest.mark.parametrize("refused_by", ["relay", "broker"])
def test_too_large_messages_are_parked_and_requeued(flowing: Trial, refused_by: str) -> None:
    gridgov = flowing.gridgov
    with (
        flowing.clients("healthy", threads=4, pace=0.02, where=OTHERS) as others,
        flowing.clients("small", threads=2, pace=0.02, where=[SICK]) as small,
    ):
        until(lambda: others.answered >= 100, "posts flow")
        calm = time.time()
        until(lambda: small.answered >= 50 and others.answered >= 200, "posts flow")
        begin = time.time()
        try:
            big = big_ones_parked(flowing, refused_by)
            before = small.answered
            until(lambda: small.answered >= before + 50, "small ones pass")
            until(lambda: gridgov.status()["pending"] < 50, "and reach Kafka")
            end = time.time()
        finally:
            set_limit(flowing.kafka.bootstrap, ROOMY)
    assert readiness(gridgov)[1] == ["messages_parked"]

    new_seqs: set[int] = set()

    def requeued() -> bool:
        """Once more if the relay did not know yet that the limit was raised."""
        moves = [line.split(" -> ") for line in gridgov.run("journal", "requeue", "--all").stdout.splitlines()]
        assert all(int(new) > int(old) for old, new in moves)
        new_seqs.update(int(new) for _, new in moves)
        return bool(gridgov.settled()["parked"] == 0)

    until(requeued, "nothing is parked any more")
    receipts = flowing.receipts()
    flowing.judged(breaks=1 + len(big))  # a message that the broker refuses may cost a producer
    records = read_topics(flowing.kafka.bootstrap, flowing.prefix)
    assert {one.seq for one in records if one.report_id in big} <= new_seqs
    kept_up(receipts, calm, begin, end)


def big_ones_parked(trial: Trial, refused_by: str) -> list[str]:
    """Lower the limit and post until one was refused by the relay's own look, or by the broker; all that are parked.

    The relay looks at the limits every two seconds, so it is a matter of luck who refuses first.
    """
    if refused_by == "relay":
        config = ["--entity-type", "topics", "--entity-name", SICK_TOPIC, "--add-config"]
        tool(trial, "configs", "--alter", *config, f"max.message.bytes={SMALL_LIMIT}")
    big: list[str] = []
    for _ in range(5):
        if refused_by == "broker":
            set_limit(trial.kafka.bootstrap, ROOMY)
            until(lambda: takes_big_ones(trial), "the relay knows")
            set_limit(trial.kafka.bootstrap, SMALL_LIMIT)
        big += post_big(trial.gridgov, trial.ledger, trial.prefix, 3)
        parked = {("parked", "record_too_large")}
        until(lambda: states(trial.gridgov, big) == parked, "they are parked")  # noqa: B023 - waited for right here
        listed = trial.gridgov.run("journal", "parked").stdout
        assert all(f"report {one} of local" in listed for one in big)
        if {"relay": "with framing", "broker": "MessageSizeTooLargeError"}[refused_by] in listed:
            return big
    raise AssertionError(f"never refused by the {refused_by}:\n{listed}")


def test_a_row_taken_from_the_journal_by_hand_is_noticed(flowing: Trial) -> None:
    gridgov = flowing.gridgov
    flowing.kafka.kill()
    with flowing.clients(threads=2) as clients:
        until(lambda: clients.answered >= 40, "reports wait in the journal")
    lost = list(flowing.ledger.read()[1])[20]
    with closing(sqlite3.connect(gridgov.data_dir / "journal.sqlite3")) as db, db:
        assert db.execute("DELETE FROM messages WHERE settled=0 AND report_id=?", (lost,)).rowcount == 1

    def told() -> bool:
        return gridgov.metrics(gridgov.relay_metrics)["gridgov_journal_ledger_mismatch"] == 1

    until(told, "the relay tells")
    status = gridgov.run("journal", "status")
    assert (status.returncode, "the ledger is off by 1" in status.stderr) == (1, True)
    flowing.kafka.start()
    gridgov.settled()
    verdict = check(flowing.ledger, read_topics(flowing.kafka.bootstrap, flowing.prefix))
    assert verdict.problems == [f"{lost}: promised and missing"]  # our judge sees the loss too
    until(told, "the relay still tells")


def system_calls(trace: Path) -> Iterator[str]:
    """The lines of `strace -f -o` in the order in which the calls ended."""
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        thread, _, call = line.partition(" ")
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>")
        elif "resumed>" in call:
            yield begun.pop(thread) + call.partition("resumed>")[2]
        else:
            yield call


def test_the_flush_comes_before_the_answer(flowing: Trial, tmp_path: Path) -> None:
    assert flowing.gridgov.post(report("first"))[0] == 202  # a new WAL's header is flushed in any case
    trace = tmp_path / "trace"
    options = ["-y", "-s", "40", "-tt", "-e", "trace=fdatasync,fsync,pwrite64,write,writev,sendto"]
    command = ["strace", "-f", "-p", str(flowing.gridgov.child("worker")), *options, "-o", str(trace)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        assert "attached" in (line := strace.stderr.readline()), line
        assert flowing.gridgov.get("/v1/catalogue")[0] == 200
        assert flowing.gridgov.post(report("second"))[0] == 202
        strace.terminate()
    calls = list(system_calls(trace))
    [begin] = [n for n, call in enumerate(calls) if "HTTP/1.1 200" in call]
    [answer] = [n for n, call in enumerate(calls) if "HTTP/1.1 202" in call]
    wal = [call for call in calls[begin:answer] if "journal.sqlite3-wal>" in call]
    log.info("%s", "\n".join([calls[begin], *wal, calls[answer]]))
    assert " pwrite64(" in wal[0]
    assert re.search(r" (fdatasync|fsync)\(.*\) += 0", wal[-1]), "written, and answered before it was flushed"


def test_a_standby_relay_takes_over(flowing: Trial) -> None:
    first = flowing.gridgov
    second = Gridgov(first.data_dir, first.kafka, first.env)
    try:
        second.start("relay")
        until(lambda: second.metrics(second.relay_metrics)["gridgov_relay_leader"] == 0, "it stands by")
        assert first.metrics(first.relay_metrics)["gridgov_relay_leader"] == 1
        with flowing.clients(pace=0.01) as clients:
            until(lambda: clients.answered >= 300, "posts flow")
            os.kill(first.child("relay"), signal.SIGKILL)
            killed = time.monotonic()
            until(lambda: second.metrics(second.relay_metrics)["gridgov_relay_leader"] == 1, "it leads")
            log.info("leads after %.2f s", time.monotonic() - killed)
            before = clients.answered
            until(lambda: clients.answered >= before + 300, "posts flow")
        until(lambda: first.metrics(first.relay_metrics)["gridgov_relay_leader"] == 0, "the first stands by now")
        assert clients.told.keys() == {"accepted"}
        assert flowing.judged(breaks=1).distinct == clients.answered
    finally:
        second.stop()


def test_a_polite_stop_under_load(flowing: Trial) -> None:
    gridgov = flowing.gridgov
    with flowing.clients() as clients:
        until(lambda: clients.answered >= 300, "posts flow")
        [run] = gridgov.processes
        run.terminate()
        assert run.wait(30) == 0
        assert all(refused(port) for port in (gridgov.port, gridgov.web_metrics, gridgov.relay_metrics))
        before = clients.answered
        log.info("stopped: %s, %s", clients.told, gridgov.status())
        gridgov.start()
        until(lambda: clients.answered >= before + 300, "the next one carries on")
    repeated_give_the_first_receipt(flowing)
    assert flowing.judged(breaks=1).distinct == clients.answered
