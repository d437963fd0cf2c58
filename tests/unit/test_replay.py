"""The careful client, against a server on loopback that has bad days."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from service.cli.replay import LONGEST_PAUSE, Outcome, ReplayError, numbered_lines, send
from tests.broker import free_port

Answer = Callable[["Request"], None]


@dataclass(frozen=True)
class Seen:
    """What came."""

    path: str
    headers: Message
    lines: list[bytes]


class Request(BaseHTTPRequestHandler):
    """One request to the scripted server."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.lines = self.rfile.read(int(self.headers["Content-Length"])).split(b"\n")
        self.server.requests.append(Seen(self.path, self.headers, self.lines))
        (self.server.script.pop(0) if self.server.script else accepted)(self)

    def answer(self, status: int, body: object, **headers: str) -> None:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


class Server(ThreadingHTTPServer):
    """Answers the requests by its script, then accepts whatever comes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.script: list[Answer] = []
        self.requests: list[Seen] = []
        self.seen: set[bytes] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def results(request: Request) -> list[dict[str, object]]:
    found = []
    for index, line in enumerate(request.lines):
        duplicate = line in request.server.seen
        request.server.seen.add(line)
        found.append({"index": index, "report_id": line.decode(), "status": 202, "duplicate": duplicate, "errors": []})
    return found


def accepted(request: Request) -> None:
    rows = results(request)
    duplicates = sum(bool(row["duplicate"]) for row in rows)
    body = {"accepted": len(rows) - duplicates, "duplicates": duplicates, "failed": 0, "results": rows}
    request.answer(202, body)


def refusing(index: int, **row: object) -> Answer:
    def answer(request: Request) -> None:
        rows = results(request)
        rows[index] |= {"status": 422, "code": "invalid_report", **row}
        body = {"accepted": len(rows) - 1, "duplicates": 0, "failed": 1, "results": rows}
        request.answer(207, body)

    return answer


def busy(status: int, **headers: str) -> Answer:
    problem = {"code": "journal_full", "title": "full"}
    return lambda request: request.answer(status, problem, **headers)


def dropped(request: Request) -> None:
    """The server dies after it took the reports and before it answered."""
    results(request)
    request.close_connection = True


def cut_short(request: Request) -> None:
    """The answer breaks off."""
    results(request)
    request.send_response(202)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"accepted"')
    request.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        made.daemon_threads = True
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client meant to wait; nobody does."""
    told: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=told.append, time=time.time))
    return told


def post(server: Server, count: int = 5, *, batch: int = 2, tries: int = 10, key: str | None = None) -> Outcome:
    lines = [(number, b"r-%d" % number) for number in range(1, count + 1)]
    return send(lines, server.url, key=key, batch=batch, tries=tries, progress=lambda _: None)


def test_the_lines_go_out_in_order_and_in_batches(server: Server) -> None:
    outcome = post(server)

    assert [request.lines for request in server.requests] == [[b"r-1", b"r-2"], [b"r-3", b"r-4"], [b"r-5"]]
    assert (outcome.accepted, outcome.duplicates, outcome.refused, outcome.total) == (5, 0, [], 5)
    assert {request.path for request in server.requests} == {"/v1/reports/batch"}
    assert {request.headers["Content-Type"] for request in server.requests} == {"application/x-ndjson"}


@pytest.mark.parametrize("key", [None, "gg_12345678_secret"])
def test_the_key_goes_along_if_there_is_one(server: Server, key: str | None) -> None:
    post(server, 1, key=key)

    assert server.requests[0].headers["Authorization"] == (key and f"Bearer {key}")


def test_progress_is_told_line_by_line(server: Server) -> None:
    told: list[int] = []

    send([(1, b"a"), (2, b"b"), (3, b"c")], server.url, key=None, batch=2, tries=0, progress=told.append)

    assert told == [2, 1]


def test_a_server_that_asks_for_patience_gets_it(server: Server, slept: list[float]) -> None:
    server.script = [busy(503, Retry_After="7"), busy(429, Retry_After="3")]

    outcome = post(server)

    assert (outcome.accepted, outcome.duplicates) == (5, 0)
    assert slept == [7, 3]
    assert server.requests[0].lines == server.requests[1].lines == server.requests[2].lines


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_tried_again_ever_more_slowly(server: Server, slept: list[float], status: int) -> None:
    server.script = [busy(status)] * 8

    outcome = post(server, 2)

    assert outcome.accepted == 2
    assert len(server.requests) == 9
    assert slept == sorted(slept)
    assert max(slept) <= LONGEST_PAUSE


@pytest.mark.parametrize("accident", [dropped, cut_short])
def test_no_answer_is_asked_for_again_and_counts_as_a_duplicate(server: Server, accident: Answer) -> None:
    server.script = [accident, accepted, accident]

    outcome = post(server)

    assert (outcome.accepted, outcome.duplicates, outcome.total) == (1, 4, 5)
    assert server.seen == {b"r-1", b"r-2", b"r-3", b"r-4", b"r-5"}


def test_refused_reports_are_told_by_their_line_and_sink_nobody(server: Server) -> None:
    errors = [{"pointer": "/kind", "message": "unknown"}, {"pointer": "", "message": "odd"}]
    server.script = [accepted, refusing(1, errors=errors)]

    outcome = post(server)

    assert outcome.refused == [(4, 422, "invalid_report", "/kind unknown; / odd")]
    assert (outcome.accepted, outcome.total) == (4, 5)


def test_it_gives_up_after_the_tries_it_was_given(server: Server) -> None:
    server.script = [accepted, *[busy(503, Retry_After="1")] * 10]

    with pytest.raises(ReplayError, match=r"503 journal_full"):
        post(server, tries=3)

    assert len(server.requests) == 1 + 4
    assert server.seen == {b"r-1", b"r-2"}


def test_it_gives_up_on_a_server_that_only_drops(server: Server) -> None:
    server.script = [dropped] * 10

    with pytest.raises(ReplayError):
        post(server, tries=2)

    assert len(server.requests) == 3


def test_nobody_listening_is_told() -> None:
    with pytest.raises(ReplayError, match=r"127\.0\.0\.1"):
        send([(1, b"a")], f"http://127.0.0.1:{free_port()}", key=None, batch=1, tries=1, progress=lambda _: None)


@pytest.mark.parametrize("status", [400, 401, 403, 413, 415, 500])
def test_a_refusal_of_the_whole_request_is_not_repeated(server: Server, status: int) -> None:
    server.script = [busy(status)]

    with pytest.raises(ReplayError, match=f"{status} journal_full: full"):
        post(server)

    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[]", b'"ok"', b"null", b"{}"])
@pytest.mark.parametrize("status", [200, 202, 404])
def test_a_server_that_is_no_gridgov_is_told_as_such(server: Server, status: int, body: bytes) -> None:
    server.script = [lambda request: request.answer(status, body)]

    with pytest.raises(ReplayError, match=str(status)):
        post(server)


def test_lines_keep_their_numbers_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "reports.ndjson"
    file.write_bytes(b'\n{"a": 1}\r\n   \n{"b": "\xe4\xba\x95"}\n\n{"c": 3}')

    assert numbered_lines(file) == [(2, b'{"a": 1}'), (4, b'{"b": "\xe4\xba\x95"}'), (6, b'{"c": 3}')]
