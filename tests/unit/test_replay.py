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
from click.testing import CliRunner

from service.cli.main import main
from service.cli.replay import LONGEST_PAUSE, REQUEST_BYTES, Outcome, ReplayError, numbered_lines, read_key, send
from service.intake.body import BATCH_BYTES
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


@pytest.mark.parametrize("status", [401, 403, 415, 500])
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


@pytest.mark.parametrize("code", ["bad_host", "bad_length"])
def test_a_request_that_no_line_has_spoilt_is_not_cut(server: Server, code: str) -> None:
    server.script = [lambda request: request.answer(400, {"code": code, "title": "bad"})]

    with pytest.raises(ReplayError, match=f"400 {code}: bad"):
        post(server)

    assert len(server.requests) == 1


def choking_on(*guilty: bytes, status: int = 400, body: object = None) -> Answer:
    """Refuses whole requests that have such a line in them."""
    told = {"code": "malformed_json", "title": "no"} if body is None else body
    return lambda request: request.answer(status, told) if {*guilty} & {*request.lines} else accepted(request)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, None, "malformed_json"),
        (413, {"code": "body_too_large", "title": "no"}, "body_too_large"),
        (413, b"<html>too large</html>", ""),
    ],
)
def test_whose_fault_it_is_that_a_whole_request_is_refused_is_found(
    server: Server, status: int, body: object, code: str
) -> None:
    server.script = [choking_on(b"r-4", b"r-9", status=status, body=body)] * 100

    outcome = post(server, 20, batch=8)

    assert [(line, status, code) for line, status, code, _ in outcome.refused] == [(4, status, code), (9, status, code)]
    assert (outcome.accepted, outcome.duplicates, outcome.total) == (18, 0, 20)
    taken = [line for request in server.requests for line in request.lines if not {b"r-4", b"r-9"} & {*request.lines}]
    assert taken == [b"r-%d" % number for number in range(1, 21) if number not in (4, 9)]  # still in order
    assert len(server.requests) < 20


def test_what_may_pass_later_is_no_fault_of_a_line(server: Server) -> None:
    server.script = [
        lambda request: request.answer(400, {"code": "truncated_body", "title": "cut", "retryable": True})
    ] * 9

    with pytest.raises(ReplayError, match="truncated_body"):
        post(server)


def test_a_request_stays_below_what_is_taken(server: Server) -> None:
    lines = [(number, b"%07d" % number * 3000) for number in range(1, 101)]  # 2.1 MB

    outcome = send(lines, server.url, key=None, batch=100, tries=0, progress=lambda _: None)

    assert outcome.accepted == 100
    assert [line for request in server.requests for line in request.lines] == [line for _, line in lines]
    assert max(len(b"\n".join(request.lines)) for request in server.requests) <= REQUEST_BYTES < 2**20
    assert len(server.requests) == 3


def test_a_line_that_no_request_can_hold_is_refused_alone(server: Server) -> None:
    long = [(2, b"x" * BATCH_BYTES), (4, b"y" * (BATCH_BYTES + 1))]
    lines = sorted([(1, b"a"), *long, (3, b"b"), (5, b"c")])

    outcome = send(lines, server.url, key=None, batch=100, tries=0, progress=lambda _: None)

    assert [refused[:3] for refused in outcome.refused] == [(4, 413, "body_too_large")]
    assert outcome.accepted == 4
    assert [[line[:1] for line in request.lines] for request in server.requests] == [[b"a"], [b"x"], [b"b"], [b"c"]]


def test_lines_keep_their_numbers_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "reports.ndjson"
    file.write_bytes(b'\n{"a": 1}\r\n   \n{"b": "\xe4\xba\x95"}\n\n{"c": 3}')

    assert numbered_lines(file) == [(2, b'{"a": 1}'), (4, b'{"b": "\xe4\xba\x95"}'), (6, b'{"c": 3}')]


def test_the_mark_that_some_editors_write_first_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "reports.ndjson"
    for written in (b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n\n"):
        file.write_bytes(written)
        assert numbered_lines(file) == []
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"b": 2}\r\n')
    assert numbered_lines(file) == [(1, b'{"a": 1}'), (2, b'{"b": 2}')]


def test_of_an_endless_line_only_the_beginning_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "reports.ndjson"
    file.write_bytes(
        b"a\n" + b"x" * 5 * BATCH_BYTES + b"\r\n" + b" " * 3 * BATCH_BYTES + b"y\nb" + b"\n" + b"z" * BATCH_BYTES
    )

    (_, first), (second, long), (third, blank), (fourth, after), (fifth, longest) = numbered_lines(file)

    assert (first, after, second, third, fourth, fifth) == (b"a", b"b", 2, 3, 4, 5)
    assert BATCH_BYTES < len(long) == len(blank) < BATCH_BYTES + 10
    assert longest == b"z" * BATCH_BYTES


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_told_as_such(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "reports.ndjson"
    file.write_bytes("\ufeff{}\n".encode(encoding))

    with pytest.raises(ReplayError, match="save it as UTF-8"):
        numbered_lines(file)


@pytest.mark.parametrize(
    "written", [b"gg_12345678_secret", b"gg_12345678_secret\r\n", b"\xef\xbb\xbfgg_12345678_secret\n"]
)
def test_a_key_file_may_be_written_by_any_editor(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "key").write_bytes(written)

    assert read_key(tmp_path / "key") == "gg_12345678_secret"


@pytest.mark.parametrize(
    "written", [b"", b"\n", "密钥".encode(), b"two words", b"two\nlines", b"\xff\xfeg\0", b"g\x7f"]
)
def test_a_file_without_a_key_is_told_as_such(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "key").write_bytes(written)

    with pytest.raises(ReplayError, match="holds no API key"):
        read_key(tmp_path / "key")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    for read in (numbered_lines, read_key):
        for name, why in ((".", "Is a directory"), ("nothing", "No such file")):
            with pytest.raises(ReplayError, match=why):
                read(tmp_path / name)


def test_the_command_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "reports.ndjson").write_bytes(b"{}\n")
    (tmp_path / "key").write_bytes("密钥".encode())

    ended = CliRunner().invoke(main, ["replay", str(tmp_path / "reports.ndjson"), "--key-file", str(tmp_path / "key")])

    assert (ended.exit_code, type(ended.exception)) == (1, SystemExit)
    assert "holds no API key" in ended.output
