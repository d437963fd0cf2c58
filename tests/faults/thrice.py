"""A row about one report that is posted to several gridgovs at the same moment."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import orjson
import psycopg
import urllib3

from service.journal.postgresql.server import Server
from service.storage.postgresql import TABLES
from tests.faults.probes import on_lasting_broker, told
from tests.faults.replicas import REPLICAS
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Kept
from tests.faults.watched import server, well
from tests.gridgov import Gridgov, report, until
from tests.system.checker import Json, read_topics


def thrice(setting: Setting, *, looks: bool = True) -> Seen:
    """Each report is posted to three web processes at the same moment."""
    rounds = 1000 if looks else 100
    with server() as served, on_lasting_broker(setting, GRIDGOV_JOURNAL=served.url) as (one, kafka), ExitStack() as on:
        Server(served.url, TABLES).connect().close()
        if not looks:
            forgetful(served.url)
        first = one.gridgov
        others = [Gridgov(first.data_dir.parent / f"replica-{n}", first.kafka, first.env) for n in range(1, REPLICAS)]
        on.enter_context(Kept(first, "web", "relay"))
        for other in others:
            on.enter_context(Kept(other, "web"))
        gridgovs = [first, *others]
        for gridgov in gridgovs:
            until(partial(well, gridgov), "all is well", seconds=90)
        began = time.monotonic()
        answers = at_once(gridgovs, one.prefix, rounds)
        seconds = time.monotonic() - began
        accepted = first.settled()["accepted"]
        records = read_topics(kafka.bootstrap, one.prefix)
        with psycopg.connect(served.url) as connection:
            [(rows,)] = connection.execute("SELECT count(*) FROM gridgov.receipts").fetchall()
    wrong = [f"{name}: {told_}" for name, told_ in answers.items() if not one_first_receipt(told_)]
    firsts = sum(not receipt["duplicate"] for told_ in answers.values() for _, receipt in told_ if receipt)
    figures = (
        f"{len(answers)} reports, each to {REPLICAS} at once, in {seconds:.0f} s: {rows} rows, {firsts} first"
        f" receipts, {len(wrong)} wrong answers, {len(records)} records"
    )
    once = sorted(record.report_id for record in records) == sorted(answers)
    return told(wrong, once and rows == rounds and accepted == firsts == rounds, figures)


def at_once(gridgovs: list[Gridgov], prefix: str, rounds: int) -> dict[str, list[tuple[int, Json]]]:
    """By report_id what each of them answered."""
    start = threading.Barrier(len(gridgovs))

    def client(gridgov: Gridgov) -> list[tuple[int, Json]]:
        with urllib3.PoolManager(maxsize=1, retries=False, timeout=urllib3.Timeout(30)) as http:
            try:
                return [post(http, gridgov.url, number) for number in range(rounds)]
            except Exception as error:
                start.abort()  # nobody waits for this one
                last = "\n".join(gridgov.log.splitlines()[-5:])
                raise AssertionError(f"{gridgov.url}: {error!r}; its log ends:\n{last}") from error

    def post(http: urllib3.PoolManager, url: str, number: int) -> tuple[int, Json]:
        body = orjson.dumps(report("", report_id=f"{prefix}-{number}", case_id=f"{prefix}-case-{number}"))
        start.wait(60)
        got = http.request("POST", f"{url}/v1/reports", body=body, headers={"Content-Type": "application/json"})
        return got.status, orjson.loads(got.data) if got.status == 202 else {}

    with ThreadPoolExecutor(len(gridgovs)) as pool:
        told_ = [pool.submit(client, gridgov) for gridgov in gridgovs]
    errors = [str(error) for one in told_ if (error := one.exception())]
    assert not errors, "\n".join(errors)
    answers = [one.result() for one in told_]
    return {f"{prefix}-{number}": list(told_) for number, told_ in enumerate(zip(*answers, strict=True))}


def one_first_receipt(answers: list[tuple[int, Json]]) -> bool:
    """Whether one was told that his is new, and the others the same receipt as a repeat's."""
    if any(status != 202 for status, _ in answers):
        return False
    same = {tuple(receipt[name] for name in ("report_id", "case_id", "topic", "received_at")) for _, receipt in answers}
    return len(same) == 1 and sorted(receipt["duplicate"] for _, receipt in answers) == [False, True, True]


def forgetful(url: str) -> None:
    """Take from a journal there what knows a report that it has already."""
    known = "NOT EXISTS (SELECT 1 FROM receipts r WHERE r.sender=g.sender AND r.report_id=g.report_id)"
    with psycopg.connect(url, autocommit=True) as connection:
        [(text,)] = connection.execute("SELECT pg_get_functiondef('gridgov.accept'::regproc)").fetchall()
        assert known in text
        connection.execute(text.replace(known, "true"))
        connection.execute("DROP INDEX gridgov.receipts_by_id")


ROWS += [
    Row(
        "one report posted to three replicas at once",
        "1,000 times: one row, one first receipt, one record",
        thrice,
        partial(thrice, looks=False),
        "the journal does not recognise a repeat",
        needs=("postgresql",),
        in_short=True,
    ),
]
