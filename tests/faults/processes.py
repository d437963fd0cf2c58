"""Rows about our own processes: killed, stopped, doubled, and stormed by clients that repeat everything."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import orjson
import urllib3

from tests.broker import Broker
from tests.faults.launcher import sabotage
from tests.faults.probes import flowing_from_start, on_lasting_broker, pause, repeated, told
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import PATIENCE, Kept, Trial, each, flowing, relay_sample, trial
from tests.gridgov import Gridgov, report, until
from tests.system.checker import Json, Record, read_topics
from tests.system.clients import Clients

# ---- crash loop ----


@dataclass(frozen=True)
class Kills:
    """How many reports at least, how often what is killed meanwhile, and a client's pause between reports (seconds)."""

    reports: int
    web: int
    relay: int
    broker: int
    pace: float


def crash_loop(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """Everything is killed in turn, at random moments; clients repeat what was not answered."""
    plan = Kills(1000, 10, 3, 2, 0.05) if setting.short or broken else Kills(10_000, 200, 20, 20, 0.2)
    kafka = Broker(setting.directory / "kafka")
    with trial(setting, kafka) as one, Kept(one.gridgov, "web", "relay", broken=broken) as processes:
        flowing(one.gridgov)
        with one.clients(threads=32, pace=plan.pace) as clients:
            _kill_everything(plan, setting.seed, clients, processes, kafka)
        found = one.judged(breaks=plan.relay + plan.broker)
    kills = f"{plan.web} web kills, {plan.relay} relay kills, {plan.broker} broker stops"
    repeats = f"{clients.told['broken']} posts cut off, {clients.told['duplicate']} known when repeated"
    return Seen(found.met and clients.told["broken"] > 0, f"{kills}: {found.figures}; {repeats}")


def _kill_everything(plan: Kills, seed: int, clients: Clients, processes: Kept, kafka: Broker) -> None:
    """Three at the same time; the broker on this thread, as it dies with the one that starts it."""
    dice = {name: Random(f"{seed} {name}") for name in ("web", "relay", "broker")}

    def kill_web(number: int) -> None:
        processes.signal(("worker", "web")[number % 2])

    def break_broker(number: int) -> None:
        (kafka.stop, kafka.kill)[number % 2]()
        time.sleep(dice["broker"].uniform(0, 2))
        kafka.start()

    with ThreadPoolExecutor(2) as pool:
        web = pool.submit(each, clients, plan.reports, plan.web, dice["web"], kill_web)
        relay = pool.submit(each, clients, plan.reports, plan.relay, dice["relay"], lambda _: processes.signal("relay"))
        each(clients, plan.reports, plan.broker, dice["broker"], break_broker)
        web.result()
        relay.result()
    until(lambda: clients.answered >= plan.reports, "the rest is answered", seconds=PATIENCE)


# ---- relay kills, and what a consumer makes of them ----


def relay_kills(setting: Setting, *, watermark: bool = True) -> Seen:
    """The broker is frozen for a moment, so that messages are in flight for certain when the relay is killed."""
    kills = 100 if watermark and not setting.short else 5
    kafka, dice = Broker(setting.directory / "kafka"), Random(setting.seed)
    with trial(setting, kafka) as one, Kept(one.gridgov, "web", "relay") as processes:
        flowing(one.gridgov)
        with one.clients(threads=8, pace=0.02) as clients:
            for _ in range(kills):
                kill_relay_with_messages_in_flight(one.gridgov, clients, processes, kafka, dice)
        found = one.judged(breaks=kills)
        consumed = one.gridgov.consumed(duplicates=not watermark)
    sent, _ = one.ledger.read()
    rank = {name: number for number, name in enumerate(sent)}
    kept = [(line["headers"]["ce_id"], line["key"], line["topic"]) for line in consumed]
    cases: dict[tuple[str, str], list[int]] = defaultdict(list)
    for name, case, topic in kept:
        cases[case, topic].append(rank[name])
    exactly = sorted(name for name, _, _ in kept) == sorted(sent)
    ordered = all(ranks == sorted(ranks) for ranks in cases.values())
    figures = f"{kills} kills: {found.figures}; consumer kept {len(kept)} of {len(sent)}, order {ordered}"
    return Seen(found.met and found.copies > 0 and exactly and ordered, figures)


def kill_relay_with_messages_in_flight(
    gridgov: Gridgov, clients: Clients, processes: Kept, kafka: Broker, dice: Random
) -> None:
    until(lambda: relay_sample(gridgov, "gridgov_kafka_publishes_total") > 20, "this relay publishes", seconds=60)
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        until(lambda: relay_sample(gridgov, "gridgov_kafka_in_flight_messages") > 0, "messages are in flight")
        time.sleep(dice.uniform(0, 0.2))
        processes.signal("relay")
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    until(lambda before=clients.answered: clients.answered >= before + 20, "posts flow")  # type: ignore[misc]


# ---- two relays ----


def two_relays(setting: Setting) -> Seen:
    """A hot standby beside `gridgov run`; the leader is killed, the next one too, the third is stopped (SIGSTOP)."""
    with trial(setting) as one:
        run = one.gridgov
        run.start()
        flowing(run)
        other = Gridgov(run.data_dir, run.kafka, run.env)
        with Kept(other, "relay") as standby, one.clients(threads=8, pace=0.02) as clients:
            until(partial(_leads, other, no=True), "it stands by")
            seconds = [
                _leader_lost(clients, other, partial(os.kill, run.child("relay"), signal.SIGKILL)),
                _leader_lost(clients, run, partial(standby.signal, "relay")),
                _leader_lost(clients, other, partial(os.kill, run.child("relay"), signal.SIGSTOP)),
            ]
            until(partial(_leads, run, no=True), "the stopped one was killed, and started again")
        found = one.judged(breaks=3)
    accepted = clients.told.keys() == {"accepted"}
    told = f"led again after {seconds[0]:.1f} s, {seconds[1]:.1f} s (killed), {seconds[2]:.1f} s (stopped)"
    return Seen(found.met and accepted, f"{told}; {found.figures}")


def _leads(gridgov: Gridgov, *, no: bool = False) -> bool:
    return (relay_sample(gridgov, "gridgov_relay_leader") == 1) is not no


def _leader_lost(clients: Clients, heir: Gridgov, strike: Callable[[], object]) -> float:
    """Seconds from the strike until the other relay leads, and 200 more reports were answered meanwhile."""
    until(partial(_leads, heir, no=True), "it stands by", seconds=60)
    before = clients.answered
    until(lambda: clients.answered >= before + 100, "posts flow")
    strike()
    begin = time.monotonic()
    until(partial(_leads, heir), "the other one leads", seconds=60)
    seconds = time.monotonic() - begin
    until(lambda: clients.answered >= before + 200, "posts flow")
    return seconds


def two_leaders(setting: Setting) -> Seen:
    """Two relays that both believe to lead; nothing is killed, so nothing may be sent twice."""
    with trial(setting) as one:
        other = Gridgov(one.gridgov.data_dir, one.gridgov.kafka, one.gridgov.env)
        with (
            Kept(one.gridgov, "web", "relay", broken={"relay": "leadership"}),
            Kept(other, "relay", broken={"relay": "leadership"}),
        ):
            flowing(one.gridgov)
            until(lambda: _leads(one.gridgov) and _leads(other), "both lead")
            with one.clients(threads=8, pace=0.02) as clients:
                until(lambda: clients.answered >= 600, "posts flow", seconds=60)
            found = one.judged(breaks=0)
    return Seen(found.met, found.figures)


# ---- retry storm ----

IDS, THREADS, POSTS = 100, 500, 20


@dataclass(frozen=True)
class Answer:
    """What one post of the storm got; the receipt is that of a 202."""

    report_id: str
    changed: bool
    status: int
    receipt: Json


def retry_storm(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """Whoever comes first with an id wins, be it with the one body or the other; all at the same time."""
    with trial(setting) as one, Kept(one.gridgov, "web", "relay", broken=broken):
        flowing(one.gridgov)
        answers = _storm(one, setting.seed)
        status = one.gridgov.settled()
        records = read_topics(one.gridgov.kafka, "r-")
    won, wrong = _winners(answers)
    for problem in wrong[:5]:
        print(f"    {problem}", flush=True)
    unlike = [record.report_id for record in records if not _is_as_promised(record, won)]
    refused = sum(answer.status >= 500 for answer in answers)
    figures = (
        f"{len(answers)} posts, {refused} of them 5xx; {status['accepted']} rows, {len(records)} records,"
        f" {len(wrong)} wrong answers, {len(unlike)} records unlike their receipt"
    )
    clean = not (refused or wrong or unlike or status["mismatch"])
    return Seen(clean and status["accepted"] == len(records) == len(won) == IDS, figures)


def _body(number: int, *, changed: bool) -> Json:
    return report(f"{number}", description="改过的" if changed else "原来的")


def _storm(one: Trial, seed: int) -> list[Answer]:
    barrier = threading.Barrier(THREADS)
    book = (one.ledger.path.parent / "storm.ndjson").open("ab", buffering=0)

    def client(name: int) -> list[Answer]:
        dice = Random(f"{seed} {name}")
        chosen = [(dice.randrange(IDS), dice.random() < 0.5) for _ in range(POSTS)]
        with urllib3.PoolManager(maxsize=1, retries=False, timeout=urllib3.Timeout(60)) as http:
            barrier.wait(60)
            return [post(http, number, changed) for number, changed in chosen]

    def post(http: urllib3.PoolManager, number: int, changed: bool) -> Answer:
        body = orjson.dumps(_body(number, changed=changed))
        head = {"Content-Type": "application/json"}
        got = http.request("POST", f"{one.gridgov.url}/v1/reports", body=body, headers=head)
        answer = Answer(f"r-{number}", changed, got.status, orjson.loads(got.data) if got.status == 202 else {})
        book.write(orjson.dumps(answer) + b"\n")
        return answer

    with book, ThreadPoolExecutor(THREADS) as pool:
        return [answer for answers in pool.map(client, range(THREADS)) for answer in answers]


def _winners(answers: list[Answer]) -> tuple[dict[str, Answer], list[str]]:
    """The first 202 by id, and every answer that does not agree with it."""
    wrong, won = [], {}
    for answer in answers:
        if answer.status == 202 and not answer.receipt["duplicate"]:
            if answer.report_id in won:
                wrong.append(f"{answer.report_id}: accepted as new twice")
            won[answer.report_id] = answer
    for answer in answers:
        first = won.get(answer.report_id)
        status = 202 if first and first.changed == answer.changed else 409
        if first is None or answer.status != status:
            wrong.append(f"{answer.report_id}: {answer.status}, {status} was due")
        elif status == 202 and _promise(answer.receipt) != _promise(first.receipt):
            wrong.append(f"{answer.report_id}: another receipt than the first")
    return won, wrong


def _promise(receipt: Json) -> Json:
    return {name: receipt[name] for name in ("report_id", "case_id", "topic", "received_at")}


def _is_as_promised(record: Record, won: Mapping[str, Answer]) -> bool:
    answer = won.get(record.report_id)
    if answer is None:
        return False
    number = int(record.report_id.removeprefix("r-"))
    told = {"topic": record.topic, "received_at": record.value["received_at"]}
    same_body = record.value["description"] == _body(number, changed=answer.changed)["description"]
    return same_body and told.items() <= answer.receipt.items()


def two_services(setting: Setting, **more: dict[str, Any]) -> Seen:
    """A second service, with a data directory of its own, is started on the address of one that serves."""
    with on_lasting_broker(setting, **sabotage(**more)) as (one, _):
        run = one.gridgov
        flowing_from_start(run)
        second = Gridgov(setting.directory / "second", run.kafka, run.env)
        second.port = run.port
        try:
            second.start("web")
            second.start("relay")
            pause(3)
            with one.clients(threads=8) as clients:
                until(lambda: clients.answered >= 400, "posts flow", seconds=60)
            wrong = repeated(one)
            found = one.judged(breaks=1)
        finally:
            second.stop()
    refused = "Address already in use" in second.log
    return told(
        wrong, found.met and refused, f"refused {refused}; {len(wrong)} wrong answers to repeats; {found.figures}"
    )


ROWS += [
    Row(
        "a second service on the same port",
        "it does not start; repeats get their receipt, 0 lost",
        two_services,
        partial(two_services, shares={}),
        "both listen, and answer in turns",
        in_short=True,
    ),
    Row(
        "crash loop",
        "0 lost, in order, copies ≤ a window a break, ledger exact",
        crash_loop,
        partial(crash_loop, broken={"web": "flush"}),
        "answers before the flush",
        in_short=True,
    ),
    Row(
        "relay kills with messages in flight",
        "copies, and a consumer with watermarks keeps exactly the set",
        relay_kills,
        partial(relay_kills, watermark=False),
        "a consumer without watermarks",
    ),
    Row(
        "leader killed, killed, stopped",
        "202 all along, the other leads, copies ≤ a window a break",
        two_relays,
        two_leaders,
        "two relays without the leader's lock",
        in_short=True,
    ),
    Row(
        "retry storm",
        "100 rows; same: first receipt; changed: 409; 0 5xx",
        retry_storm,
        partial(retry_storm, broken={"web": "dedupe"}),
        "the journal does not recognise a repeat",
    ),
]
