"""How long a body is, when it is whole, and that nobody stops intake by sending slowly: on raw sockets."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import orjson
import pytest

from tests.gridgov import NO_KAFKA, Gridgov, alone, report
from tests.system.refusals import Refusal, ask, ask_raw, read_answer, refusal, refused

GOOD = orjson.dumps(report("body"))
NOWHERE = "/v1/reports/r-body"  # where its receipt would be
REPORT_BYTES, BATCH_BYTES = 256 * 1024, 2 * 1024 * 1024
BATCH = "/v1/reports/batch"
HOST = b"Host: localhost\r\n"
JSON, NDJSON = (b"Content-Type: application/%s\r\n" % kind for kind in (b"json", b"x-ndjson"))
CHUNKED = b"Transfer-Encoding: chunked\r\n"
POST = b"POST /v1/reports HTTP/1.1\r\n" + JSON
POST_BATCH = b"POST /v1/reports/batch HTTP/1.1\r\n"
PIECE = b"1\r\n{\r\n"  # a chunk, or a few bytes
THREADS, SLOW = 16, 32  # of the server; senders at the same time
PATIENCE = 10.0  # of a sender of good reports, in seconds


def posted_raw(gridgov: Gridgov, request: bytes, *, end: bool = False) -> Refusal:
    return refused(lambda wish: ask_raw(gridgov, request, headers=wish, end=end))


def chunks(body: bytes, size: int = 2**20) -> bytes:
    """The body in chunks of a size, and their end."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def unread(gridgov: Gridgov, request: bytes, *, end: bool = False) -> Refusal:
    """What a request is refused with; no report of it is kept. `end`: it breaks off there."""
    answer = posted_raw(gridgov, request, end=end)
    assert gridgov.get(NOWHERE)[0] == 404
    return answer


# ---- announced ----


def test_a_body_that_ends_too_early(web: Gridgov) -> None:
    """A whole report, but not the whole body."""
    announced = b"Content-Length: %d\r\n\r\n" % (len(GOOD) + 1)
    assert unread(web, POST + announced + GOOD, end=True) == (400, "truncated_body", [])


def test_a_batch_that_ends_too_early(web: Gridgov) -> None:
    request = POST_BATCH + NDJSON + b"Content-Length: 9999\r\n\r\n" + GOOD + b"\n"
    assert unread(web, request, end=True) == (400, "truncated_body", [])


@pytest.mark.parametrize("length", [b"-1", b"+5", b"5, 6", b"0x5", b"five"])
def test_a_length_that_is_no_number(web: Gridgov, length: bytes) -> None:
    assert ask_raw(web, POST + b"Content-Length: " + length + b"\r\n\r\n" + GOOD, end=True).status == 400
    assert web.get(NOWHERE)[0] == 404


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"\r\n", id="no length at all"),
        pytest.param(b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks(GOOD), id="another coding"),
        pytest.param(CHUNKED * 2 + b"\r\n" + chunks(GOOD), id="chunked twice"),
        pytest.param(b"Transfer_Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD, id="underscore"),
    ],
)
def test_a_length_that_is_not_clear(web: Gridgov, rest: bytes) -> None:
    assert unread(web, POST + rest) == (400, "bad_length", [])


def test_nothing_is_smuggled_behind_a_request_with_two_lengths(web: Gridgov) -> None:
    hidden = POST + HOST + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD
    for first in (b"0\r\n\r\n", chunks(GOOD.replace(b"r-body", b"r-first"))):
        twice = POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + first + hidden
        answer = ask_raw(web, twice)
        assert (answer.status, answer.headers["Connection"]) == (202 if GOOD[-9:] in first else 400, "close")
        assert web.get(NOWHERE)[0] == 404


@pytest.mark.parametrize(("path", "limit"), [("/v1/reports", REPORT_BYTES), (BATCH, BATCH_BYTES)])
def test_the_largest_body_and_one_byte_more(web: Gridgov, path: str, limit: int) -> None:
    one = orjson.dumps(report(f"large-{limit}"))
    whole = (one if path == "/v1/reports" else b"[" + one + b"]").ljust(limit)
    assert refusal(web, whole + b" ", path=path) == (413, "body_too_large", [])
    assert str(limit) in ask(web, "POST", path, whole + b" ").json["title"]
    assert web.post(whole, path)[0] == 202


def test_a_body_too_large_is_refused_before_it_is_sent(web: Gridgov) -> None:
    assert posted_raw(web, POST + b"Content-Length: 99999999999\r\n\r\n") == (413, "body_too_large", [])


def test_who_sends_all_before_reading_gets_the_413_too(web: Gridgov) -> None:
    """Most HTTP clients do; cut off while sending, they see a broken connection and try for ever."""
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=10)) as connection:
        connection.request("POST", BATCH, bytes(4 * BATCH_BYTES), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 413


# ---- in chunks ----


@pytest.mark.parametrize("size", [1, 7, 2**20])
def test_a_report_in_chunks(web: Gridgov, size: int) -> None:
    body = GOOD.replace(b"r-body", b"r-chunks-%d" % size)
    assert ask_raw(web, POST + CHUNKED + b"\r\n" + chunks(body, size)).status == 202
    assert web.get(f"/v1/reports/r-chunks-{size}")[0] == 200


def test_a_batch_in_chunks(web: Gridgov) -> None:
    body = orjson.dumps([report(f"batch-{number}") for number in range(1000)])
    answer = ask_raw(web, POST_BATCH + JSON + CHUNKED + b"\r\n" + chunks(body, 4096))
    assert (answer.status, answer.json["accepted"]) == (202, 1000)


def test_lines_must_be_announced(web: Gridgov) -> None:
    """Cut off at the end of a line they would look complete."""
    assert unread(web, POST_BATCH + NDJSON + CHUNKED + b"\r\n" + chunks(GOOD + b"\n")) == (400, "bad_length", [])


@pytest.mark.parametrize(("path", "whole"), [("/v1/reports", GOOD), (BATCH, b"[%s, %s]" % (GOOD, GOOD))])
def test_no_part_of_a_body_is_taken_for_a_whole_one(web: Gridgov, path: str, whole: bytes) -> None:
    """Broken off after any byte, with or without the end of its chunk, in the middle of a character, of an item."""
    head = b"POST %s HTTP/1.1\r\n" % path.encode() + JSON + HOST + CHUNKED + b"\r\n"
    for kept in range(len(whole)):
        with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as connection:
            announced = len(whole) if kept % 2 else kept
            connection.sendall(head + (b"%x\r\n" % announced + whole[:kept] if announced else b""))
            connection.shutdown(socket.SHUT_WR)
            answer = read_answer(connection)
        assert (answer.status, answer.json["code"], answer.json["retryable"]) == (400, "truncated_body", True), kept
    assert web.get(NOWHERE)[0] == 404


@pytest.mark.parametrize("whole", [b"true", b"1234", b'"text"', b"null"])
def test_what_does_not_close_itself_is_never_taken(web: Gridgov, whole: bytes) -> None:
    for kept in range(1, len(whole) + 1):
        request = b"%s\r\n%x\r\n%s" % (POST + CHUNKED, len(whole), whole[:kept])
        assert ask_raw(web, request, end=True).status == 400
        assert ask_raw(web, request.replace(b"/reports", b"/reports/batch"), end=True).status == 400


@pytest.mark.parametrize("noise", [b"ZZ\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"5;\n" * 9])
def test_chunks_that_are_none(web: Gridgov, noise: bytes) -> None:
    status, code, _ = unread(web, POST + CHUNKED + b"\r\n" + noise + GOOD, end=True)
    assert (status, code) == (400, "truncated_body")


def test_a_malformed_body_in_chunks_is_not_called_truncated(web: Gridgov) -> None:
    assert unread(web, POST + CHUNKED + b"\r\n" + chunks(GOOD + b"}")) == (400, "malformed_json", [])


@pytest.mark.parametrize(("path", "limit"), [("/v1/reports", REPORT_BYTES), (BATCH, BATCH_BYTES)])
def test_the_limit_counts_what_comes_in_chunks(web: Gridgov, path: str, limit: int) -> None:
    head = b"POST %s HTTP/1.1\r\n" % path.encode() + JSON + CHUNKED + b"\r\n"
    one = orjson.dumps(report(f"chunked-{limit}"))
    whole = (one if path == "/v1/reports" else b"[" + one + b"]").ljust(limit)
    assert ask_raw(web, head + chunks(whole + b" ", 10_000)).status == 413
    assert ask_raw(web, head + chunks(whole, 10_000)).status == 202


def test_a_body_without_end_is_ended(web: Gridgov) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as connection:
        connection.sendall(POST + HOST + CHUNKED + b"\r\n")
        with pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
            connection.sendall((b"10000\r\n" + bytes(0x10000) + b"\r\n") * 1000)


# ---- slowly ----


@contextmanager
def slow(gridgov: Gridgov, head: bytes, *, count: int) -> Iterator[None]:
    """Connections whose body never comes to its end: half of them stand still, half send a byte now and then."""
    ended = threading.Event()
    with ExitStack() as stack:
        senders = [stack.enter_context(socket.create_connection(("127.0.0.1", gridgov.port))) for _ in range(count)]
        for sender in senders:
            sender.sendall(head + HOST + b"\r\n" + PIECE)

        def drip() -> None:
            while not ended.wait(0.2):
                for sender in senders[::2]:
                    try:
                        sender.send(PIECE)
                    except OSError:  # cut off, as it should be
                        continue

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            yield
        finally:
            ended.set()
            dripping.join()


STRANGER = b"X-Forwarded-For: 203.0.113.7\r\n"  # nobody is let in from there without a key
UNWANTED = {
    "no key": POST + STRANGER + b"Content-Length: 1000\r\n",
    "no key, in chunks": POST + STRANGER + CHUNKED,
    "no such path": POST.replace(b"/v1/", b"/v2/") + b"Content-Length: 1000\r\n",
    "wrong type": POST.replace(b"/json", b"/xml") + b"Content-Length: 1000\r\n",
    "too large": POST + b"Content-Length: 8000000\r\n",
    "lines in chunks": POST_BATCH + NDJSON + CHUNKED,
}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A web process with few threads."""
    env = {"GRIDGOV_THREADS": str(THREADS)}
    with alone(Gridgov(tmp_path_factory.mktemp("narrow") / "var", kafka=NO_KAFKA, env=env)) as started:
        yield started


@pytest.mark.parametrize("head", UNWANTED.values(), ids=UNWANTED)
@pytest.mark.parametrize("count", [SLOW, 8 * SLOW])
def test_slow_senders_of_refused_bodies_do_not_stop_intake(narrow: Gridgov, head: bytes, count: int) -> None:
    with slow(narrow, head, count=count):
        for number in range(10):
            assert posted(narrow, f"slow-{number}") == 202


def test_slow_senders_of_reports_hold_a_thread_each_and_there_are_many(web: Gridgov) -> None:
    with slow(web, POST + b"Content-Length: 1000\r\n", count=SLOW), slow(web, POST + CHUNKED, count=SLOW):
        for number in range(10):
            assert posted(web, f"slower-{number}") == 202


def posted(gridgov: Gridgov, number: str) -> int:
    """Post a report as somebody would who has only so much patience."""
    with closing(http.client.HTTPConnection("127.0.0.1", gridgov.port, timeout=PATIENCE)) as connection:
        connection.request("POST", "/v1/reports", orjson.dumps(report(number)), {"Content-Type": "application/json"})
        return connection.getresponse().status


# ---- for whom ----


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b""],
        [b"a", b"b"],
        [b"a", b"a"],
        [b"a b"],
        [b"a,b"],
        [b"http://a/"],
        [b"me@a"],
        [b"\xe5\xb2\x97"],
        [b"a:80x"],
    ],
)
def test_a_request_says_once_whom_it_is_for(web: Gridgov, hosts: list[bytes]) -> None:
    for path in (b"/v1/catalogue", b"/livez", b"/nothing"):
        head = b"GET " + path + b" HTTP/1.1\r\n" + b"".join(b"Host: " + host + b"\r\n" for host in hosts)
        with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as connection:
            connection.sendall(head + b"\r\n")
            assert read_answer(connection).status == 400


@pytest.mark.parametrize("host", [b"a", b"a.example.cn:8080", b"127.0.0.1", b"[::1]:8080", b"a_b"])
def test_any_name_will_do(web: Gridgov, host: bytes) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert read_answer(connection).status == 200


def test_the_first_http_has_no_host(web: Gridgov) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert read_answer(connection).status == 200


def test_no_report_is_taken_from_who_says_two_hosts(web: Gridgov) -> None:
    request = POST + b"Host: other\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD
    assert posted_raw(web, request) == (400, "bad_host", [])
    assert web.get(NOWHERE)[0] == 404
