"""Requests that two layers may read differently, each with another hidden in it; what nginx and gridgov answer."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import orjson

from tests.front import Front
from tests.gridgov import Gridgov, report
from tests.system.refusals import ask

PATIENCE = 20.0  # seconds for an answer that must come
SILENCE = 0.7  # after the last of those: then no more come
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Case(NamedTuple):
    """`lines` of a head, a body; `behind` and `direct`: the statuses that come back through nginx and without it."""

    lines: bytes
    body: Callable[[bytes], bytes]  # of the hidden request
    behind: tuple[int, ...]
    direct: tuple[int, ...]
    first: bytes = b"POST /v1/reports HTTP/1.1"


def inside(hidden: bytes) -> bytes:
    return b"0\r\n\r\n" + hidden


def whole(hidden: bytes) -> bytes:
    return hidden


def chunk(hidden: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)


def with_size(size: bytes) -> Callable[[bytes], bytes]:
    return lambda hidden: size + b"\r\n{}\r\n0\r\n\r\n" + hidden


CL, TE = b"Content-Length: ", b"Transfer-Encoding: "
BAD = (400,)
CASES = {
    "CL.TE": Case(CL + b"%d\r\n" + TE + b"chunked\r\n", inside, BAD, BAD),
    "TE.CL": Case(TE + b"chunked\r\n" + CL + b"4\r\n", chunk, BAD, BAD),
    "TE twice, the second unknown": Case(TE + b"chunked\r\n" + TE + b"x\r\n", inside, BAD, BAD),
    "TE twice": Case(TE + b"chunked\r\n" + TE + b"chunked\r\n", inside, BAD, BAD),
    "TE twice in a GET": Case(
        TE + b"chunked\r\n" + TE + b"chunked\r\n", inside, BAD, (200,), b"GET /v1/catalogue HTTP/1.1"
    ),
    "TE identity and CL": Case(TE + b"identity\r\n" + CL + b"4\r\n", chunk, (501,), BAD),
    "TE in a list": Case(TE + b"identity, chunked\r\n" + CL + b"4\r\n", chunk, (501,), BAD),
    "TE behind a tab": Case(b"Transfer-Encoding:\tchunked\r\n" + CL + b"4\r\n", chunk, (501,), BAD),
    "TE with a vertical tab": Case(TE + b"\x0bchunked\r\n" + CL + b"4\r\n", chunk, (501,), BAD),
    "TE with white space before the colon": Case(b"Transfer-Encoding : chunked\r\n" + CL + b"4\r\n", chunk, BAD, BAD),
    "TE with an underscore": Case(b"Transfer_Encoding: chunked\r\n" + CL + b"%d\r\n", inside, BAD, BAD),
    "TE in quotes": Case(TE + b'"chunked"\r\n' + CL + b"4\r\n", chunk, (501,), BAD),
    "TE in HTTP/1.0": Case(TE + b"chunked\r\n" + CL + b"4\r\n", chunk, BAD, BAD, b"POST /v1/reports HTTP/1.0"),
    "TE folded": Case(b"Transfer-Encoding:\r\n chunked\r\n" + CL + b"4\r\n", chunk, BAD, BAD),
    "a folded header": Case(b"X-A: b\r\n c: d\r\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "CL folded": Case(b"Content-Length:\r\n 4\r\n", whole, BAD, BAD),
    "CL twice, differing": Case(CL + b"4\r\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "CL twice, the same": Case(CL + b"%d\r\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "CL in a list": Case(CL + b"4, 4\r\n", whole, BAD, BAD),
    "CL with a sign": Case(CL + b"+4\r\n", whole, BAD, BAD),
    "CL negative": Case(CL + b"-1\r\n", whole, BAD, BAD),
    "CL in hexadecimal": Case(CL + b"0x4\r\n", whole, BAD, BAD),
    "CL beyond 64 bits": Case(CL + b"18446744073709551620\r\n", whole, BAD, BAD),
    "CL with white space before the colon": Case(b"Content-Length : 4\r\n", whole, BAD, BAD),
    "a header without a colon": Case(CL + b"%d\r\nX\r\n", whole, BAD, BAD),
    "a line feed alone ends a header": Case(b"X-A: b\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "a carriage return alone in a value": Case(b"X-A: b\rContent-Length: 4\r\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "a carriage return alone before TE": Case(b"X-A: b\r" + TE + b"chunked\r\n" + CL + b"%d\r\n", inside, BAD, BAD),
    "NUL in a value": Case(b"X-A: b\0c\r\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "NUL in a name": Case(b"X\0A: b\r\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "a chunk size with a sign": Case(TE + b"chunked\r\n", with_size(b"+2"), BAD, BAD),
    "a chunk size in hexadecimal": Case(TE + b"chunked\r\n", with_size(b"0x2"), BAD, BAD),
    "a chunk size beyond 64 bits": Case(TE + b"chunked\r\n", with_size(b"10000000000000002"), BAD, BAD),
    "a chunk extension with a line feed": Case(TE + b"chunked\r\n", with_size(b"2;a\nb"), BAD, BAD),
    "a chunk longer than it says": Case(TE + b"chunked\r\n", with_size(b"1"), BAD, BAD),
    "a GET with a body": Case(CL + b"%d\r\n", whole, (200,), (200,), b"GET /v1/catalogue HTTP/1.1"),
    "two hosts": Case(b"Host: other\r\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "a whole URL of another host": Case(CL + b"%d\r\n", whole, BAD, BAD, b"POST http://other/v1/reports HTTP/1.1"),
    "HTTP/0.9": Case(CL + b"%d\r\n", whole, (), BAD, b"POST /v1/reports"),
    "HTTP/2.0 in HTTP/1's clothes": Case(CL + b"%d\r\n", whole, (505,), BAD, b"POST /v1/reports HTTP/2.0"),
    "Upgrade to h2c": Case(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
        + CL
        + b"%d\r\n",
        whole,
        BAD,
        BAD,
    ),
    "a space before the first header": Case(b" X-A: b\r\n" + CL + b"%d\r\n", whole, BAD, BAD),
    "a tab in the request line": Case(CL + b"%d\r\n", whole, BAD, BAD, b"POST\t/v1/reports\tHTTP/1.1"),
}

HONEST = Case(CL + b"0\r\n", whole, (400, 202), (400, 202))  # two requests, and nothing hidden


def spelt(case: Case, key: str, name: str) -> bytes:
    """The request; the report `name` is posted by the one hidden in it."""
    let_in = b"Host: localhost\r\nAuthorization: Bearer " + key.encode() + b"\r\nContent-Type: application/json\r\n"
    told = orjson.dumps(report(name))
    post = b"POST /v1/reports HTTP/1.1\r\n" + let_in
    body = case.body(post + b"Content-Length: %d\r\n\r\n" % len(told) + told)
    return case.first + b"\r\n" + let_in + case.lines.replace(b"%d", b"%d" % len(body)) + b"\r\n" + body


def statuses(connection: socket.socket, request: bytes, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The status of each answer to these bytes, until the connection ends or, after as many as are wanted, says nothing
    more; closes it."""
    found = b""
    with connection:
        try:
            connection.sendall(request)
            while piece := _heard(connection, PATIENCE if len(STATUS.findall(found)) < len(wanted) else SILENCE):
                found += piece
        except OSError:  # silence, or the connection was cut
            pass
    assert b"<html" not in found
    return tuple(int(one) for one in STATUS.findall(found))


def _heard(connection: socket.socket, seconds: float) -> bytes:
    connection.settimeout(seconds)
    return connection.recv(65536)


class Tried(NamedTuple):
    """What came back through nginx and without it; whether a hidden report has come."""

    behind: tuple[int, ...]
    direct: tuple[int, ...]
    heard: bool


def heard(own: Gridgov, key: str, name: str) -> bool:
    """Whether the report that was hidden has come."""
    answer = ask(own, "GET", f"/v1/reports/r-{name}", headers={"Authorization": f"Bearer {key}"})
    assert answer.status in (200, 404)
    return answer.status == 200


def all_tried(cases: Mapping[str, Case], own: Gridgov, key: str, before: Front) -> dict[str, Tried]:
    """Each case both ways, several at a time."""

    def tried(numbered: tuple[int, Case]) -> Tried:
        number, case = numbered
        behind = statuses(before.connect(), spelt(case, key, f"behind-{number}"), case.behind)
        straight = socket.create_connection(("127.0.0.1", own.port))
        direct = statuses(straight, spelt(case, key, f"direct-{number}"), case.direct)
        return Tried(behind, direct, heard(own, key, f"behind-{number}") or heard(own, key, f"direct-{number}"))

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(cases, pool.map(tried, enumerate(cases.values())), strict=True))
