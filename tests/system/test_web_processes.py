"""Two web processes on one journal behind one port: whoever uses the service cannot tell them from one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.gridgov import NO_KAFKA, Gridgov, report, until

REPORTS = 60
ACCEPTED = 'gridgov_reports_total{kind="repair",major="02",result="accepted",stage="reported"}'
REPEATED = ACCEPTED.replace("accepted", "duplicate")
POSTED = 'gridgov_http_requests_total{method="POST",route="/v1/reports",status="202"}'
Connections = dict[int, HTTPConnection]  # by the process at their other end


@pytest.fixture
def gridgov(tmp_path: Path) -> Iterator[Gridgov]:
    made = Gridgov(tmp_path / "data", NO_KAFKA, {"GRIDGOV_WEB_PROCESSES": "2"})
    try:
        made.start("run")
        yield made.ready()
    finally:
        made.stop()


def workers(gridgov: Gridgov) -> list[int]:
    """The processes that answer."""
    web = gridgov.child("web")
    return [int(pid) for task in Path(f"/proc/{web}/task").glob("*/children") for pid in task.read_text().split()]


@contextmanager
def connected(gridgov: Gridgov) -> Iterator[Connections]:
    """A connection to each of the two; the kernel chooses whose a new one is."""
    found: Connections = {}
    with ExitStack() as made:

        def both() -> bool:
            one = made.enter_context(closing(HTTPConnection("127.0.0.1", gridgov.port, timeout=20)))
            ask(one, "GET", "/livez")
            found.setdefault(answering(gridgov, one), one)
            return len(found) == 2

        until(both, "both web processes have a connection", every=0)
        yield found


def answering(gridgov: Gridgov, connection: HTTPConnection) -> int:
    """The process at the other end of a connection, as the kernel's table tells."""
    ends = f":{gridgov.port:04X}", f":{connection.sock.getsockname()[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [inode] = [row[9] for row in rows if (row[1][-5:], row[2][-5:]) == ends]
    [pid] = [pid for pid in workers(gridgov) if f"socket:[{inode}]" in files(pid)]
    return pid


def files(pid: int) -> set[str]:
    """What a process has open, but for what it closes meanwhile."""
    found = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(one.readlink()))
    return found


def ask(connection: HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    sent = None if body is None else orjson.dumps(body)
    connection.request(method, path, sent, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    return answer.status, orjson.loads(content) if answer.headers["Content-Type"] == "application/json" else content


@pytest.fixture
def both(gridgov: Gridgov) -> Iterator[Connections]:
    with connected(gridgov) as made:
        yield made


def posted_to(connection: HTTPConnection) -> list[dict[str, Any]]:
    """The receipts of all reports, posted one after the other."""
    answers = [ask(connection, "POST", "/v1/reports", report(number)) for number in range(REPORTS)]
    assert {status for status, _ in answers} == {202}
    return [receipt for _, receipt in answers]


def test_one_receipt_for_what_is_posted_to_both_and_exact_sums(gridgov: Gridgov, both: Connections) -> None:
    with ThreadPoolExecutor(2) as pool:  # at the same time, each report to each
        receipts = list(zip(*pool.map(posted_to, both.values()), strict=True))

    for pair in receipts:
        assert sorted(one["duplicate"] for one in pair) == [False, True]
        assert len({one["received_at"] for one in pair}) == 1
    assert (gridgov.status()["accepted"], gridgov.status()["pending"]) == (REPORTS, REPORTS)

    told = gridgov.metrics()
    assert (told[ACCEPTED], told[REPEATED], told[POSTED]) == (REPORTS, REPORTS, 2 * REPORTS)
    assert told["gridgov_journal_pending_messages"] == REPORTS
    for connection in both.values():  # at the API's port each of them tells the same
        status, text = ask(connection, "GET", "/metrics")
        assert (status, f"{ACCEPTED} {REPORTS}.0".encode() in text) == (200, True)


def test_nothing_is_lost_or_left_when_one_is_killed(gridgov: Gridgov, both: Connections) -> None:
    [killed, other] = both
    firsts = posted_to(both[killed])
    sockets = own_sockets(killed) | own_sockets(other)
    assert len(sockets) == 2

    os.kill(killed, signal.SIGKILL)
    until(lambda: not {killed, other} & set(workers_or_none(gridgov)), "the other ends, too")
    until(lambda: len(workers_or_none(gridgov)) == 2, "two others have come")
    gridgov.ready()

    assert gridgov.metrics()[ACCEPTED] == 0  # of both anew, as after any restart
    with connected(gridgov) as anew:
        for connection in anew.values():
            assert posted_to(connection) == [one | {"duplicate": True} for one in firsts]
    assert gridgov.metrics()[REPEATED] == 2 * REPORTS
    assert not sockets & set(Path("/proc/net/unix").read_text().split())
    assert not list(gridgov.data_dir.rglob("*.sock"))


def workers_or_none(gridgov: Gridgov) -> list[int]:
    try:
        return workers(gridgov)
    except (AssertionError, FileNotFoundError):  # between the old and the new
        return []


def own_sockets(pid: int) -> set[str]:
    """The names under which a process can be asked by its like."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if "@gridgov-web-" in line]
    return {row[-1] for row in rows if f"socket:[{row[6]}]" in files(pid)}
